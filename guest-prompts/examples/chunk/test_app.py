"""Tests that need no component: `python3 -m unittest`."""

import math
import unittest

from app import Headline, part_bytes, split, summarize
from lmstrix_pack import Context, InvalidParam, Model, PackError, Request

TEXT = "First sentence. Second one.\n\nAnother paragraph, which is longer.\nIts last line."


def request(text, part="1", model=None):
    return Request(params={"text": text, "part": part}, model=model)


class Split(unittest.TestCase):
    def test_a_text_that_fits_is_not_changed(self):
        self.assertEqual(split(" a b \n", 6), [" a b \n"])
        self.assertEqual(split("", math.inf), [""])

    def test_paragraphs_are_better_than_lines_and_sentences(self):
        first, second = split(TEXT, 50)
        self.assertEqual(first, "First sentence. Second one.")
        self.assertEqual(second, "Another paragraph, which is longer.\nIts last line.")

    def test_sentences_are_better_than_words(self):
        self.assertEqual(split("One two. Three four five", 12), ["One two.", "Three four", "five"])

    def test_a_long_word_is_cut_between_characters(self):
        self.assertEqual(split("äöüß", 5), ["äö", "üß"])

    def test_no_part_is_too_long_and_no_word_is_lost(self):
        text = "\n\n".join(f"Zeile {n}: größer, 漢字。 {TEXT}" for n in range(50))
        for max_bytes in range(80, 400, 7):
            parts = split(text, max_bytes)
            self.assertLessEqual(max(len(part.encode()) for part in parts), max_bytes)
            self.assertEqual("".join("".join(parts).split()), "".join(text.split()))


class Summarize(unittest.TestCase):
    def test_the_whole_text_without_a_context_length(self):
        self.assertTrue(summarize(request(TEXT * 999)).endswith(TEXT * 999))
        self.assertEqual(part_bytes(Model("m")), math.inf)

    def test_a_part_of_a_long_text(self):
        resolved = summarize(request(TEXT * 9, "2", Model("m", context_length=256)))
        self.assertIn("part 2 of 3", resolved.messages[0])
        self.assertEqual(resolved.post, [("headline", {"part": "2", "parts": "3"})])

    def test_the_facts_of_the_model_determine_the_size(self):
        facts = {"max-tokens": "100"}
        self.assertEqual(part_bytes(Model("m", context_length=1000, extra=facts)), 2130)
        with self.assertRaises(PackError):
            part_bytes(Model("m", context_length=64))

    def test_invalid_parts(self):
        for part in ["0", "-1", "2", "x", "", "1.0", "¹"]:
            with self.assertRaises(InvalidParam):
                summarize(request(TEXT, part))


class TestHeadline(unittest.TestCase):
    def test_the_headline_is_before_the_first_text(self):
        headline = Headline(Context(options={"part": "2", "parts": "5"}))
        chunks = [headline.push(chunk) for chunk in ["", "a", "b"]]
        self.assertEqual(chunks, ["", "Part 2 of 5\n\na", "b"])


if __name__ == "__main__":
    unittest.main()
