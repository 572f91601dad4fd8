"""Summarizes texts that are longer than the context of the model, one part per run."""

import math
import re

from lmstrix_pack import InvalidParam, Pack, PackError, Param, Resolved

# Tokens per byte of text: English needs about 0.25, many other languages need more. The model's own
# value, `tokens-per-byte`, changes with each run, and parts of different runs must fit together.
TOKENS_PER_BYTE = 0.4
# The share of the context for the answer, at most or if the limit of the answer is not known.
ANSWER_SHARE = 0.25
# Tokens for the instruction and the chat template.
OTHER_TOKENS = 48
# A part with less text is not worth a summary.
MIN_PART_BYTES = 80
# Where a text may be cut, best first: paragraphs, lines, sentences, words.
BORDERS = [r"\n\s*\n", r"\n", r"(?<=[.!?…])\s+|(?<=[。！？])", r"\s+"]

pack = Pack("Summaries of texts that are longer than the context")


@pack.prompt(
    "summarize",
    "Summarizes one part of a text",
    params=[
        Param("text", "the text to summarize"),
        Param("part", "the number of the part", default="1"),
    ],
)
def summarize(request):
    max_bytes = part_bytes(request.model)
    parts = split(request.params["text"], max_bytes)
    number = part_number(request.params["part"], len(parts))
    text = parts[number - 1]
    if len(parts) == 1:
        return f"Summarize this text in a few sentences.\n\n{text}"
    place = f"part {number} of {len(parts)}"
    warning = (
        f"the text is split into {len(parts)} parts to fit the context, and this is {place}; "
        f"run the others with `-p part=N`, N from 1 to {len(parts)}"
    )
    return Resolved(
        [f"Summarize this text in a few sentences. It is {place} of a longer text.\n\n{text}"],
        post=[("headline", {"part": str(number), "parts": str(len(parts))})],
        warnings=[warning],
    )


def part_bytes(model):
    """Returns how much text fits into the context, or infinity if the context is not known."""
    if model is None or model.context_length is None:
        return math.inf
    context = model.context_length
    answer = context * ANSWER_SHARE
    if "max-tokens" in model.extra:
        answer = min(float(model.extra["max-tokens"]), context / 2)
    tokens = context - answer - OTHER_TOKENS
    max_bytes = int(tokens / TOKENS_PER_BYTE)
    if max_bytes < MIN_PART_BYTES:
        raise PackError("context-too-small", f"no text fits into a context of {context} tokens")
    return max_bytes


def part_number(value, count):
    """Returns the number of a part from the text of the parameter."""
    number = int(value) if re.fullmatch("[0-9]{1,9}", value) else 0
    if not 1 <= number <= count:
        wanted = f"between 1 and {count}" if count > 1 else "1, as the text has one part"
        raise InvalidParam("part", f"must be {wanted}, not `{value}`")
    return number


def split(text, max_bytes):
    """Splits a text into parts of at most `max_bytes` bytes, at the best borders."""
    if len(text.encode()) <= max_bytes:
        return [text]
    parts = []
    rest = text.strip()
    while len(rest) > max_bytes or len(rest.encode()) > max_bytes:
        # A cut character at the end is ignored.
        window = rest[:max_bytes].encode()[:max_bytes].decode(errors="ignore")
        end = last_border(window)
        parts.append(rest[:end].rstrip())
        rest = rest[end:].lstrip()
    return [*parts, rest]


def last_border(window):
    """Returns the end of the last best border in the second half of a text, or its end."""
    for border in BORDERS:
        ends = [found.end() for found in re.finditer(border, window)]
        if ends and ends[-1] >= len(window) / 2:
            return ends[-1]
    return len(window)


@pack.processor(
    "headline",
    "Puts the line `Part N of M` before the answer",
    options=[
        Param("part", "the number of the part", default="1"),
        Param("parts", "the number of parts", default="1"),
    ],
)
class Headline:
    def __init__(self, context):
        self.headline = f"Part {context.options['part']} of {context.options['parts']}\n\n"

    def push(self, chunk):
        # An empty chunk, and so an empty answer, gets no headline.
        if not chunk:
            return ""
        text, self.headline = self.headline + chunk, ""
        return text
