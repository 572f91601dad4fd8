"""Loads the word lists in words/ and derives their inflected forms."""

from pathlib import Path

FOLDER = Path(__file__).parent / "words"
VOWELS = "aeiou"


def read_list(name):
    return FOLDER.joinpath(name + ".txt").read_text(encoding="utf-8").split()


def ends_in_short_syllable(word):
    return (
        3 <= len(word) <= 4
        and word[-1] not in VOWELS + "wxy"
        and word[-2] in VOWELS
        and word[-3] not in VOWELS
    )


def add_s(word):
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + "s"


def add_ed(word):
    if word.endswith("e"):
        return word + "d"
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ied"
    if ends_in_short_syllable(word):
        return word + word[-1] + "ed"
    return word + "ed"


def add_ing(word):
    if word.endswith("ie"):
        return word[:-2] + "ying"
    if word.endswith("e") and not word.endswith(("ee", "oe", "ye")):
        return word[:-1] + "ing"
    if ends_in_short_syllable(word):
        return word + word[-1] + "ing"
    return word + "ing"


def add_ly(word):
    if word.endswith("le"):
        return word[:-1] + "y"
    if word.endswith("y") and len(word) > 3:
        return word[:-1] + "ily"
    if word.endswith("ic"):
        return word + "ally"
    return word + "ly"


def unique(words):
    return list(dict.fromkeys(words))


NOUNS = unique(read_list("nouns"))
PLURALS = [add_s(word) for word in NOUNS]
VERBS = unique(read_list("verbs"))
PAST_VERBS = [add_ed(word) for word in VERBS]
VERB_FORMS = unique(
    VERBS
    + [add_s(word) for word in VERBS]
    + PAST_VERBS
    + [add_ing(word) for word in VERBS]
    + read_list("irregular_verbs")
)
ADJECTIVES = unique(read_list("adjectives"))
ADVERBS = unique(read_list("adverbs") + [add_ly(word) for word in ADJECTIVES])
FUNCTION_WORDS = unique(read_list("function_words"))
NUMBER_WORDS = unique(read_list("number_words"))
NAMES = unique(read_list("names"))
PLACES = unique(read_list("places"))
COMMON = unique(
    NOUNS + PLURALS + VERB_FORMS + ADJECTIVES + ADVERBS + FUNCTION_WORDS + NUMBER_WORDS
)
