"""Generates sentences of random words.

The sentences have no meaning. A model that is trained on them can be right only by
copying, not by memorizing.
"""

import random

import words

ONSETS = (
    "b c d f g h j k l m n p qu r s t v w x y z bl br ch cl cr dr fl fr gl gr kn ph pl pr "
    "sc sch sh sk sl sm sn sp st str sw th tr tw wh wr"
).split()
NUCLEI = "a e i o u a e i o u ai au ea ee ei eu ia ie io oa oo ou ow ue y".split()
ACCENTED_NUCLEI = "á à â ä ã å æ é è ê ë í ì î ï ó ò ô ö õ ø œ ú ù û ü ý ā ē ī ō ū ą ę ı".split()
CODAS = (
    "b ck ct d ft g k l ld lk ll lt m mp n nd ng nk nt p r rd rk rm rn rt s sh ss st t tch th x z"
).split()
ACCENTED_CODAS = "ñ ç ß ł š ž č ř ś ć ń ş ğ ň ð þ".split()
OTHER_SCRIPTS = (
    "αβγδεζηθικλμνξοπρστυφχψω",
    "абвгдежзийклмнопрстуфхцчшщыьэюя",
    "日本語中文字山川人大小上下水火木金土学生",
    "אבגדהוזחטיכלמנסעפצקרשת",
    "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
)
EMOJI = "😀 🎉 🚀 ❤ ✓ ★ → ☕ 🐶 👍".split()
CONTRACTIONS = (
    "don't can't won't isn't wasn't aren't couldn't didn't doesn't I'm I've I'll I'd it's he's "
    "she's that's there's we're we've we'll you're you've they're they've let's what's who's"
).split()
TITLES = "Mr. Mrs. Ms. Dr. Prof. St. Mr. Mrs. Dr. Capt. Sen. Gen. Sgt. Rev. Lt. Mt.".split()
ABBREVIATIONS = "e.g. i.e. etc. vs. approx. ca. cf. incl. U.S. U.K. a.m. p.m. Inc. Ltd. Co. Jr.".split()
FINAL_ABBREVIATIONS = "a.m. p.m. etc. U.S. U.K. Inc. Ltd. Jr.".split()
NUMBERED = "No. Fig. p. vol. ch. Vol. no. approx. ca.".split()
UNITS = "km kg cm mm ml m g km/h mph percent million billion euros dollars degrees hours years days".split()
SPEECH_VERBS = (
    "said asked replied shouted cried whispered answered added explained says writes reads told "
    "claimed wrote thought called warned laughed began insisted wondered joked sighed noted"
).split()
DETERMINERS = "the the the the the the a a a an this that my your his her its our their some every no".split()
MODALS = "will would can could may might must should shall did does has had is was were to".split()
MONTHS = "Jan. Feb. Mar. Apr. Aug. Sept. Oct. Nov. Dec.".split()
PREPOSITIONS = "of of in in to to for on with at by from about into over after before under near".split()


def capitalized(word):
    return word[:1].upper() + word[1:]


class SentenceMaker:
    """Generates random sentences for one text. Some words recur within the text."""

    def __init__(self, rng):
        self.rng = rng
        self.accent_rate = rng.choice([0.0, 0.0, 0.0, 0.0, 0.0, 0.03, 0.1, 0.4])
        self.made_up_rate = rng.choice([0.0, 0.05, 0.1, 0.2, 0.4])
        self.function_rate = rng.choice([0.1, 0.3, 0.4, 0.55])
        self.decoration_rate = rng.choice([0.2, 0.6, 1.0, 1.0, 2.0])
        self.odd_rate = rng.choice([0.0, 0.0, 0.0, 0.01, 0.05])
        self.topic = [self.fresh_word() for _ in range(rng.randint(2, 9))]
        self.topic_rate = rng.choice([0.0, 0.1, 0.2, 0.2, 0.4, 0.7])

    # Words

    def made_up(self):
        rng = self.rng
        parts = []
        for _ in range(rng.choice([1, 1, 2, 2, 2, 3, 3, 4])):
            accent = rng.random() < self.accent_rate
            parts.append(rng.choice(ONSETS) if rng.random() < 0.85 else "")
            parts.append(rng.choice(ACCENTED_NUCLEI if accent else NUCLEI))
            if rng.random() < 0.4:
                odd = accent and rng.random() < 0.5
                parts.append(rng.choice(ACCENTED_CODAS if odd else CODAS))
        return "".join(parts)

    def round_number(self):
        """Returns a number with repeated digits."""
        rng = self.rng
        head = str(rng.choice([rng.randint(1, 9), rng.randint(1, 99), rng.randint(1, 999)]))
        tail = rng.choice([",000", ",000", ",000", ",000,000", ",500", "0", "00", "000", ".00", ".5"])
        if rng.random() < 0.25:
            digits = rng.sample("0123456789", 2)
            tail = rng.choice(["", ",", "."]) + "".join(rng.choice(digits) for _ in range(3))
        return head + tail

    def number(self):
        rng = self.rng
        if rng.random() < 0.25:
            return rng.choice(["", "", "", "$", "$", "€"]) + self.round_number()
        kind = rng.randrange(17)
        small = str(rng.randint(1, 99))
        if kind < 4:
            return small
        if kind == 4:
            return str(rng.randint(100, 999))
        if kind == 5:
            return str(rng.randint(1000, 2100))
        if kind == 6:
            return f"{rng.randint(1, 99)}.{rng.randint(0, 99)}"
        if kind == 7:
            return f"{rng.randint(1, 999)},{rng.randint(0, 999):03d}"
        if kind == 8:
            return f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}"
        if kind == 9:
            amount = rng.choice([small, f"{rng.randint(1, 99)}.{rng.randint(0, 99)}",
                                 f"{rng.randint(1, 999)},{rng.randint(0, 999):03d}"])
            return rng.choice("$$$€£") + amount + rng.choice(["", "", " million", " billion"])
        if kind == 10:
            return small + rng.choice(["%", "%", "th", "st", "nd", "rd", "°C", "kg", "km", "s", "-"]).rstrip("-")
        if kind == 11:
            return f"{rng.choice([small, f'{rng.randint(0, 9)}.{rng.randint(0, 9)}'])} {rng.choice(UNITS)}"
        if kind == 12:
            return f"{rng.randint(1, 9)}{rng.choice('-–/:')}{rng.randint(1, 9)}"
        if kind == 13:
            return f"{rng.randint(1, 31)} {rng.choice(words.PLACES)}"
        if kind == 14:
            return f"{rng.choice(NUMBERED)} {small}"
        if kind == 15:
            return f"{rng.choice(MONTHS)} {rng.randint(1, 31)}"
        return rng.choice(words.NUMBER_WORDS) + rng.choice(["", f"-{rng.choice(words.NUMBER_WORDS)}"])

    def name(self):
        rng = self.rng
        kind = rng.random()
        last = rng.choice(words.NAMES) if rng.random() < 0.7 else capitalized(self.made_up())
        if kind < 0.25:
            return f"{rng.choice(TITLES)} {last}"
        if kind < 0.35:
            initials = " ".join(rng.choice("ABCDEFGHJKLMNPRSTW") + "." for _ in range(rng.randint(1, 3)))
            if rng.random() < 0.4:
                initials = f"{rng.choice(words.NAMES)} {initials}"
            return f"{initials} {last}"
        if kind < 0.55:
            return f"{rng.choice(words.NAMES)} {last}"
        if kind < 0.75:
            return rng.choice(words.PLACES)
        return last

    def odd_word(self):
        """Returns code, an address, a word in another script, or a word in capitals."""
        rng = self.rng
        first, second = self.made_up(), rng.choice(words.COMMON)
        kind = rng.randrange(12)
        if kind == 0:
            return f"{first}_{second}"
        if kind == 1:
            return f"{first}.{second}"
        if kind == 2:
            return f"{first}/{second}"
        if kind == 3:
            return f"--{second}"
        if kind == 4:
            return f"{second}@{first}.{rng.choice(['com', 'org', 'net', 'de'])}"
        if kind == 5:
            return f"https://{first}.{rng.choice(['com', 'org', 'io'])}/{second}"
        if kind == 6:
            return f"`{first}`"
        if kind == 7:
            return f"{rng.choice(['*', '**', '_'])}{second}*"
        if kind == 8:
            return f"v{rng.randint(0, 9)}.{rng.randint(0, 30)}.{rng.randint(0, 9)}"
        if kind == 9:
            letters = rng.choice(OTHER_SCRIPTS)
            return "".join(rng.choice(letters) for _ in range(rng.randint(1, 7)))
        if kind == 10:
            return rng.choice(EMOJI)
        return second.upper() if rng.random() < 0.5 else first.upper()

    def fresh_word(self):
        rng = self.rng
        draw = rng.random()
        if draw < self.made_up_rate:
            made = self.made_up()
            return capitalized(made) if rng.random() < 0.2 else made
        draw = rng.random()
        if draw < self.odd_rate:
            return self.odd_word()
        if draw < 0.82:
            return rng.choice(words.COMMON)
        if draw < 0.90:
            return self.number()
        if draw < 0.97:
            return self.name()
        if draw < 0.985:
            return rng.choice(CONTRACTIONS)
        return rng.choice(ABBREVIATIONS) + " " + rng.choice(words.COMMON)

    def word(self):
        rng = self.rng
        if rng.random() < self.topic_rate:
            return rng.choice(self.topic)
        if rng.random() < self.function_rate:
            return rng.choice(words.FUNCTION_WORDS)
        return self.fresh_word()

    # Groups of words, as lists

    def noun_group(self):
        rng = self.rng
        draw = rng.random()
        if draw < 0.15:
            return [self.name()]
        if draw < 0.25:
            return [rng.choice(["I", "you", "he", "she", "it", "we", "they"])]
        noun = rng.choice(words.NOUNS if rng.random() < 0.7 else words.PLURALS)
        if rng.random() < self.topic_rate:
            noun = rng.choice(self.topic)
        group = [rng.choice(DETERMINERS)] if rng.random() < 0.75 else [self.number()]
        while rng.random() < 0.3:
            group.append(rng.choice(words.ADJECTIVES))
        return group + [noun]

    def grammar(self, length):
        """Returns random words in the order of an English clause."""
        rng = self.rng
        out = self.noun_group()
        while len(out) < length:
            draw = rng.random()
            if draw < 0.32:
                if rng.random() < 0.3:
                    out.append(rng.choice(MODALS))
                out.append(rng.choice(words.VERB_FORMS))
                out += self.noun_group()
            elif draw < 0.40:
                out[-1] += ","
                for _ in range(rng.randint(1, 3)):
                    out += self.noun_group()
                    out[-1] += ","
                out += [rng.choice(["and", "and", "or"]), *self.noun_group()]
            elif draw < 0.75:
                out.append(rng.choice(PREPOSITIONS))
                out += self.noun_group()
            elif draw < 0.85:
                out.append(rng.choice(words.ADVERBS))
            else:
                out[-1] += ","
                out.append(rng.choice(["and", "but", "who", "which", "because", "so", "while", "if"]))
        return out[:max(length, 1)]

    def salad(self, length):
        return [self.word() for _ in range(length)]

    def repeated(self, length):
        """Returns words from a small pool, so that pairs of words recur."""
        pool = [self.word() for _ in range(self.rng.randint(2, max(2, length // 2 + 1)))]
        return [self.rng.choice(pool) for _ in range(length)]

    def clause(self, length):
        rng = self.rng
        draw = rng.random()
        if draw < 0.5:
            group = self.grammar(length)
        elif draw < 0.92:
            group = self.salad(length)
        else:
            group = self.repeated(length)
        return self.decorated(group)

    def decorated(self, group):
        rng = self.rng
        out = []
        for position, word in enumerate(group):
            last = position == len(group) - 1
            draw = rng.random() / self.decoration_rate
            if draw < 0.01:
                word += "'s"
            elif draw < 0.02:
                word += "-" + rng.choice(words.COMMON)
                if rng.random() < 0.2:
                    word += "-" + rng.choice(words.COMMON)
            elif draw < 0.03:
                word = capitalized(word)
            elif draw < 0.045:
                opening, closing = rng.choice(['""', '""', "''", "“”", "()", "‘’", "«»", "[]"])
                word = opening + word + closing
            elif draw < 0.05 and not last:
                word += rng.choice([" –", " —", " -", "—", " &", " +", " /"])
            elif draw < 0.053 and not last:
                word += rng.choice(["...", "…"])
            if not last and not word.endswith(","):
                draw = rng.random() / self.decoration_rate
                if draw < 0.06:
                    word += ","
                elif draw < 0.067:
                    word += ";"
                elif draw < 0.074:
                    word += ":"
            out.append(word)
        if len(out) > 4 and rng.random() < 0.04 * self.decoration_rate:
            start = rng.randrange(1, len(out) - 2)
            end = rng.randrange(start + 1, len(out))
            opening, closing = rng.choice(['""', '""', "()", "“”"])
            out[start] = opening + out[start]
            out[end] += closing
        return out

    # Sentences

    def end_mark(self):
        draw = self.rng.random()
        if draw < 0.82:
            return "."
        if draw < 0.90:
            return "?"
        if draw < 0.98:
            return "!"
        return self.rng.choice(["...", "!!", "?!", "…"])

    def plain(self, length):
        group = self.clause(length)
        if self.rng.random() < 0.01:
            return capitalized(" ".join(group + [self.rng.choice(FINAL_ABBREVIATIONS)]))
        if self.rng.random() < 0.12:
            group += [self.rng.choice(PREPOSITIONS), self.rng.choice([self.name, self.number])()]
        text = " ".join(group).rstrip(".,;:")
        return capitalized(text) + self.end_mark()

    def speaker(self):
        rng = self.rng
        who = self.name() if rng.random() < 0.5 else " ".join(self.noun_group())
        verb = rng.choice(SPEECH_VERBS) if rng.random() < 0.7 else rng.choice(words.PAST_VERBS)
        who = f"{verb} {who}" if rng.random() < 0.5 else f"{who} {verb}"
        if not who[0].islower() and rng.random() < 0.5:
            who = f"{verb} {who}"
        if rng.random() < 0.3:
            who += " " + " ".join(self.decorated(self.salad(rng.randint(1, 6))))
        return who.rstrip(".,;:")

    def speech(self, length):
        rng = self.rng
        opening, closing = rng.choice(['""', '""', '""', '""', "“”", "''", "‘’"])
        said = capitalized(" ".join(self.clause(length)).rstrip(".,;:").replace('"', ""))
        draw = rng.random()
        if draw < 0.25:
            return opening + said + self.end_mark() + closing
        if draw < 0.75:
            who = self.speaker()
            mark = rng.choice([",", ",", "?", "!"])
            if mark != "," and not who[0].islower():
                mark = ","
            if rng.random() < 0.2:
                more = " ".join(self.clause(rng.randint(2, 8))).rstrip(".,;:").replace('"', "")
                more = more[:1].lower() + more[1:]
                return f"{opening}{said}{mark}{closing} {who}, {opening}{more}{self.end_mark()}{closing}"
            return f"{opening}{said}{mark}{closing} {who}."
        return f"{capitalized(self.speaker())}{rng.choice([',', ':'])} {opening}{said}{self.end_mark()}{closing}"

    def length(self):
        rng = self.rng
        draw = rng.random()
        if draw < 0.10:
            return rng.randint(1, 4)
        if draw < 0.80:
            return rng.randint(4, 14)
        if draw < 0.94:
            return rng.randint(14, 24)
        return rng.randint(24, 40)

    def sentence(self, longest=40):
        length = min(self.length(), longest)
        if self.rng.random() < 0.12:
            return self.speech(max(1, length // 2))
        return self.plain(length)


if __name__ == "__main__":
    for seed in range(20):
        print(SentenceMaker(random.Random(seed)).sentence())
