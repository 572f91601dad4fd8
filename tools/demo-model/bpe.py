"""A byte-level BPE tokenizer: `tokenizer.ggml.model` gpt2 with `pre` qwen2.

Merges join the bytes of a word first and a leading space last. A word is therefore split
into the same tokens at every position, which makes copying easier to learn.
"""

import collections
import copy
import json
import math

import regex

SPLIT = regex.compile(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
SPECIAL = [IM_START, IM_END, END_OF_TEXT]
EXTRA_CHARACTERS = "“”‘’«»–—…€£°éèêëáàâäãåæíìîïóòôöõøœúùûüñçßÉÖÜÄ"
SUFFIXES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]


def byte_characters():
    """Returns the printable character by which GPT-2 represents each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {byte: chr(byte) for byte in kept}
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + len(table) - len(kept))
    return table


BYTE_TO_CHARACTER = byte_characters()
CHARACTER_TO_BYTE = {character: byte for byte, character in BYTE_TO_CHARACTER.items()}
BLANK = BYTE_TO_CHARACTER[32]


def spelled(text):
    return "".join(BYTE_TO_CHARACTER[byte] for byte in text.encode("utf-8"))


def chain(text):
    """Returns the merges that build a short text from left to right."""
    pieces = spelled(text)
    return [(pieces[:index], pieces[index]) for index in range(1, len(pieces))]


def join(pieces, pair):
    out, index = [], 0
    while index < len(pieces):
        if index + 1 < len(pieces) and (pieces[index], pieces[index + 1]) == pair:
            out.append(pieces[index] + pieces[index + 1])
            index += 2
        else:
            out.append(pieces[index])
            index += 1
    return out


def learn_merges(counts, merge_count):
    """Learns merges by byte-pair encoding, from words with their counts."""
    cut = {word: list(spelled(word)) for word in counts}
    merges = []
    while len(merges) < merge_count:
        pairs = collections.Counter()
        for word, pieces in cut.items():
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += counts[word]
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        for word, pieces in cut.items():
            if len(pieces) > 1:
                cut[word] = join(pieces, best)
    return merges


def train(counts, merge_count):
    """Returns all merges of the tokenizer, in order."""
    merges = []
    for text in [*EXTRA_CHARACTERS, *SUFFIXES, "\n\n"]:
        merges += chain(text)
    merges += learn_merges(counts, merge_count)
    merges = list(dict.fromkeys(merges))
    starts = [chr(byte) for byte in range(33, 127) if not chr(byte).isdigit()]
    starts += [left + right for left, right in merges]
    newline = BYTE_TO_CHARACTER[10]
    merges += [(BLANK, start) for start in starts if newline not in start]
    return list(dict.fromkeys(merges))


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(merge) for merge in merges]
        self.ranks = {merge: rank for rank, merge in enumerate(self.merges)}
        joined = [left + right for left, right in self.merges]
        self.tokens = list(dict.fromkeys([*BYTE_TO_CHARACTER.values(), *joined, *SPECIAL]))
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self.cache = {}

    @classmethod
    def load(cls, path):
        return cls(json.loads(path.read_text(encoding="utf-8")))

    def save(self, path):
        path.write_text(json.dumps(self.merges), encoding="utf-8")

    def word_ids(self, word, ranks):
        pieces = list(spelled(word))
        while len(pieces) > 1:
            best = min(zip(pieces, pieces[1:]), key=lambda pair: ranks.get(pair, math.inf))
            if best not in ranks:
                break
            pieces = join(pieces, best)
        return [self.ids[piece] for piece in pieces]

    def variant(self, rng, share):
        """Returns this tokenizer without a random share of the merges inside words."""
        other = copy.copy(self)
        other.cache = {}
        other.ranks = {
            pair: rank
            for pair, rank in self.ranks.items()
            if not ("".join(pair).isascii() and "".join(pair).isalpha()) or rng.random() >= share
        }
        return other

    def encode(self, text):
        out = []
        for word in SPLIT.findall(text):
            ids = self.cache.get(word)
            if ids is None:
                ids = self.word_ids(word, self.ranks)
                if len(self.cache) < 200_000:
                    self.cache[word] = ids
            out += ids
        return out

    def decode(self, ids):
        text = "".join(self.tokens[index] for index in ids)
        return bytes(CHARACTER_TO_BYTE[character] for character in text).decode("utf-8", "replace")
