"""Generates texts, each with the expected answer: its first sentence."""

import textwrap
from dataclasses import dataclass

import instructions
from sentences import SentenceMaker, capitalized


@dataclass
class Task:
    system: str | None
    prompt: str
    answer: str


def paragraph(rng, most_sentences):
    """Returns the sentences of one paragraph."""
    maker = SentenceMaker(rng)
    count = rng.randint(1, most_sentences)
    if count == 1 and rng.random() < 0.08:
        return [capitalized(" ".join(maker.clause(maker.length())).rstrip(".,;:"))]
    sentences = [maker.sentence() for _ in range(count)]
    for index in range(1, count):
        if rng.random() < 0.08:
            sentences[index] = echo(rng, sentences[0], sentences[index])
    return sentences


def echo(rng, first, other):
    """Inserts consecutive words of the first sentence into another sentence."""
    source, target = first.split(" "), other.split(" ")
    start = rng.choice([0, 0, rng.randrange(len(source))])
    run = [piece.strip('.!?"“”') for piece in source[start:start + rng.randint(1, 6)]]
    place = rng.choice([0, rng.randrange(len(target))])
    return capitalized(" ".join(target[:place] + run + target[place:]))


def joined(rng, sentences):
    draw = rng.random()
    if draw < 0.96:
        return " ".join(sentences)
    return ("  " if draw < 0.98 else "\n").join(sentences)


def wrapped(rng, text):
    """Wraps the lines of some texts. The answer has spaces in place of the line breaks."""
    if rng.random() > 0.2:
        return text
    return textwrap.fill(
        text, rng.randint(25, 90), break_long_words=False, break_on_hyphens=False
    )


def body(rng, most_sentences):
    sentences = paragraph(rng, most_sentences)
    return wrapped(rng, joined(rng, sentences)), " ".join(sentences[0].split())


def task(rng, most_sentences):
    """Returns one prompt with its answer.

    After the stock instruction, the answer is taken from the next paragraph; after any
    other instruction, from the last paragraph.
    """
    text, answer = body(rng, most_sentences)
    system = instructions.system_message(rng) if rng.random() < 0.06 else None
    draw = rng.random()
    if draw < 0.50:
        if rng.random() < 0.08:
            text += "\n\n" + body(rng, most_sentences)[0]
        tail = rng.choice(["", "", "\n", "\n\n"]) + "\n"
        return Task(system, f"{instructions.STOCK}\n\n{text}{tail}", answer)
    tail = rng.choice(["", "", "", "\n", "\n", "\n\n", "\n\n\n"])
    if draw < 0.65:
        lead = instructions.written(rng) + "\n\n"
    elif draw < 0.83:
        lead = instructions.random_words(rng) + "\n\n"
        if rng.random() < 0.12:
            lead += body(rng, 2)[0] + "\n\n"
    elif draw < 0.86:
        lead = instructions.written(rng).rstrip(".:?") + rng.choice([":\n", ": "])
    else:
        lead = ""
    return Task(system, lead + text + tail, answer)
