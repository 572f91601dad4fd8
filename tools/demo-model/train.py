"""Trains the demo model from scratch and writes checkpoints.

    python train.py --work FOLDER [--steps N]
"""

import argparse
import collections
import json
import os
import pickle
import random
import time
from pathlib import Path

import batches
import bpe
import chat
import instructions
import texts
import words

SEED = 20
MERGES = 1150
PEAK_RATE = 3e-3
WARM_UP = 100
DECAY = 0.01
BETAS = (0.9, 0.98)
SHORT = batches.Shape(rows=28, length=128, answers=900, most_sentences=3)
MIDDLE = batches.Shape(rows=16, length=256, answers=900, most_sentences=6)
LONG = batches.Shape(rows=8, length=512, answers=800, most_sentences=14)


def make_tokenizer(path):
    """Learns the tokenizer from the word lists and from generated texts."""
    if path.exists():
        return bpe.Tokenizer.load(path)
    rng = random.Random(SEED)
    counts = collections.Counter()
    for _ in range(4000):
        for word in bpe.SPLIT.findall(texts.task(rng, 4).prompt):
            letters = "".join(character for character in word if character.isalpha())
            if letters and letters.isascii():
                counts[letters] += 1
    counts = collections.Counter({word: n for word, n in counts.items() if n > 2})
    for word in words.COMMON:
        counts[word] += 20
        counts[word.capitalize()] += 1
    for word in words.FUNCTION_WORDS + instructions.STOCK.replace(".", "").split():
        counts[word] += 100
        counts[word.capitalize()] += 30
    for word in ["user", "assistant", "system"]:
        counts[word] += 2000
    tokenizer = bpe.Tokenizer(bpe.train(counts, MERGES))
    tokenizer.save(path)
    return tokenizer


def schedule(steps):
    """Returns the batch shape of each step: short texts first."""
    shapes = []
    for step in range(steps):
        done = step / steps
        if done < 0.25:
            shapes.append(SHORT)
        elif done < 0.60:
            shapes.append(MIDDLE if step % 2 else SHORT)
        else:
            shapes.append([SHORT, MIDDLE, LONG, MIDDLE][step % 4])
    return shapes


def load_tasks(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line]


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    arguments.add_argument("--steps", type=int, default=6300)
    arguments.add_argument(
        "--minutes", type=float, help="duration of the learning rate schedule [minutes]"
    )
    arguments.add_argument("--start", type=Path, help="checkpoint to continue from")
    arguments.add_argument("--from-step", type=int, default=0, help="step of the checkpoint")
    arguments.add_argument("--rate", type=float, default=PEAK_RATE)
    arguments.add_argument("--seed", default=str(SEED))
    arguments.add_argument(
        "--dev", type=Path, help="texts to evaluate, in the format of tests/data/tldr.jsonl"
    )
    options = arguments.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    import jax
    import jax.numpy as jnp
    import numpy as np

    import model

    tokenizer = make_tokenizer(options.work / "merges.json")
    config = model.Config(vocabulary=len(tokenizer.tokens))
    if options.start:
        weights = jax.tree.map(jnp.asarray, pickle.loads(options.start.read_bytes())["weights"])
    else:
        weights = model.initial(config, tokenizer, SEED)
    print("parameters", model.parameter_count(weights), "tokens", config.vocabulary, flush=True)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = (weights, zeros, zeros, weights)

    @jax.jit
    def update(state, batch, rate, step):
        weights, first, second, average = state
        value, gradient = jax.value_and_grad(model.loss)(weights, batch, config)
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
        gradient = jax.tree.map(lambda g: g / jnp.maximum(1.0, norm), gradient)
        first = jax.tree.map(lambda m, g: BETAS[0] * m + (1 - BETAS[0]) * g, first, gradient)
        second = jax.tree.map(lambda v, g: BETAS[1] * v + (1 - BETAS[1]) * g * g, second, gradient)
        correction = jnp.sqrt(1 - BETAS[1] ** step) / (1 - BETAS[0] ** step)

        def stepped(w, m, v):
            decay = DECAY if w.ndim > 1 else 0.0
            return w - rate * (correction * m / (jnp.sqrt(v) + 1e-9) + decay * w)

        weights = jax.tree.map(stepped, weights, first, second)
        keep = jnp.minimum(0.995, 1 - 10 / (step + 10))
        average = jax.tree.map(lambda a, w: keep * a + (1 - keep) * w, average, weights)
        return (weights, first, second, average), value

    @jax.jit
    def guesses(weights, tokens, places):
        segments = jnp.ones_like(tokens)
        return jnp.argmax(model.answer_logits(weights, tokens, segments, places, config), axis=-1)

    def exact(weights, pairs):
        """Returns the number of exact answers of greedy decoding, and the wrong ones."""
        wrong = []
        for prompt, answer in pairs:
            start, ids = chat.prompt_ids(tokenizer, prompt), chat.answer_ids(tokenizer, answer)
            tokens = np.zeros((1, 512), np.int32)
            tokens[0, : len(start) + len(ids)] = start + ids
            places = np.minimum(len(start) - 1 + np.arange(256), 511)
            if np.any(np.asarray(guesses(weights, tokens, places))[: len(ids)] != ids):
                wrong.append(answer)
        return f"{len(pairs) - len(wrong)}/{len(pairs)}", wrong

    watched = {}
    if options.dev:
        watched["dev"] = [
            (f"{instructions.STOCK}\n\n{line['text']}\n", line["first"])
            for line in load_tasks(options.dev)
        ]
    rng = random.Random("watched")
    generated = [batches.texts.task(rng, 6) for _ in range(60)]
    watched["generated"] = [(task.prompt, task.answer) for task in generated if not task.system]

    def save(name):
        stored = {"config": config, "weights": jax.tree.map(np.asarray, state[3])}
        (options.work / name).write_bytes(pickle.dumps(stored))

    def report(step):
        save("latest.pkl")
        line = [f"{name} {exact(state[3], pairs)[0]}" for name, pairs in watched.items()]
        print(f"step {step} exact:", *line, flush=True)

    started = time.monotonic()
    skipped = options.from_step
    shapes = schedule(options.steps)[skipped:]
    losses, seen = [], 0
    for step, batch in enumerate(batches.stream(tokenizer, options.seed, shapes), start=skipped + 1):
        done = step / options.steps
        if options.minutes:
            used = (time.monotonic() - started) / 60 / options.minutes
            done = max(done, used + (1 - used) * skipped / options.steps)
        rate = options.rate * min((step - skipped) / WARM_UP, 1) * max(1 - done, 0.02)
        state, value = update(state, batch, rate, step - skipped)
        losses.append(value)
        seen += int((batch[1] > 0).sum())
        if step % 50 == 0:
            elapsed = time.monotonic() - started
            cpu = sum(os.times()[:2])
            print(
                f"step {step} loss {float(np.mean(losses[-50:])):.4f} tokens {seen} "
                f"rate {rate:.5f} seconds {elapsed:.0f} cpu {cpu:.0f}",
                flush=True,
            )
        if step % 250 == 0:
            report(step)
        if done >= 1 and options.minutes:
            break
    report(step)
    save("final.pkl")
    for name, pairs in watched.items():
        print(name, *exact(state[3], pairs)[1], sep="\n  ")


if __name__ == "__main__":
    main()
