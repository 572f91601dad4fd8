"""Creates fixed-size batches of token ids from generated tasks."""

import multiprocessing
import random
from dataclasses import dataclass

import numpy as np

import chat
import texts


@dataclass(frozen=True)
class Shape:
    rows: int
    length: int
    answers: int
    most_sentences: int


def example(tokenizer, rng, shape):
    """Returns the token ids of one task and the index at which its answer starts.

    Some tasks are tokenized with fewer merges, so that rare tokens are trained as well.
    """
    if rng.random() < 0.3:
        tokenizer = tokenizer.variant(rng, rng.choice([0.03, 0.1, 0.3]))
    while True:
        most = rng.choice([2, shape.most_sentences, shape.most_sentences])
        task = texts.task(rng, most)
        prompt = chat.prompt_ids(tokenizer, task.prompt, task.system)
        answer = chat.answer_ids(tokenizer, task.answer)
        if len(prompt) + len(answer) <= shape.length + 1:
            return prompt + answer, len(prompt)


def batch(tokenizer, seed, shape):
    """Returns one batch. Each row contains several tasks.

    `segments` numbers the tasks, so that attention is limited to one task. `places` are
    the flat positions whose next token belongs to an answer, `targets` are these tokens,
    and `weights` is 0 for padding.
    """
    rng = random.Random(seed)
    tokens = np.zeros((shape.rows, shape.length), np.int32)
    segments = np.zeros((shape.rows, shape.length), np.int32)
    places = np.zeros(shape.answers, np.int32)
    targets = np.zeros(shape.answers, np.int32)
    weights = np.zeros(shape.answers, np.float32)
    filled = [0] * shape.rows
    answers = misses = number = 0
    while misses < 4:
        ids, start = example(tokenizer, rng, shape)
        size, wanted = len(ids) - 1, len(ids) - start
        row = next((r for r in range(shape.rows) if filled[r] + size <= shape.length), None)
        if row is None or answers + wanted > shape.answers:
            misses += 1
            continue
        number += 1
        left = filled[row]
        tokens[row, left:left + size] = ids[:-1]
        segments[row, left:left + size] = number
        first = row * shape.length + left + start - 1
        places[answers:answers + wanted] = np.arange(first, first + wanted)
        targets[answers:answers + wanted] = ids[start:]
        weights[answers:answers + wanted] = 1
        answers += wanted
        filled[row] += size
    return tokens, segments, places, targets, weights


def produce(queue, tokenizer, seed, shapes):
    for step, shape in enumerate(shapes):
        queue.put(batch(tokenizer, f"{seed}-{step}", shape))


def stream(tokenizer, seed, shapes):
    """Yields batches, which a second process creates in advance."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue(maxsize=6)
    process = context.Process(target=produce, args=(queue, tokenizer, seed, shapes), daemon=True)
    process.start()
    for _ in shapes:
        yield queue.get()
    process.join()
