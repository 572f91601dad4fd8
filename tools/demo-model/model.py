"""The llama architecture in JAX: RMS norm, rotary embeddings, SwiGLU, tied embeddings."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Config:
    vocabulary: int
    width: int = 128
    layers: int = 4
    heads: int = 4
    feed_forward: int = 256
    rope_base: float = 10000.0
    epsilon: float = 1e-5
    context: int = 1024


def initial(config, tokenizer, seed):
    """Returns random weights.

    The embedding of a token with a leading space starts close to that without the space.
    """
    rng = np.random.default_rng(seed)

    def matrix(rows, columns, scale=1.0):
        return (rng.standard_normal((rows, columns)) * scale / np.sqrt(rows)).astype(np.float32)

    width, inner = config.width, config.feed_forward
    residual = 1 / np.sqrt(2 * config.layers)
    embedding = rng.standard_normal((config.vocabulary, width)) * 0.05
    for token, index in tokenizer.ids.items():
        twin = tokenizer.ids.get(token[1:]) if token.startswith("Ġ") else None
        if twin is not None:
            embedding[index] = 0.7 * embedding[index] + 0.7 * embedding[twin]
    layers = [
        {
            "attn_norm": np.ones(width, np.float32),
            "attn_q": matrix(width, width),
            "attn_k": matrix(width, width),
            "attn_v": matrix(width, width),
            "attn_output": matrix(width, width, residual),
            "ffn_norm": np.ones(width, np.float32),
            "ffn_gate": matrix(width, inner),
            "ffn_up": matrix(width, inner),
            "ffn_down": matrix(inner, width, residual),
        }
        for _ in range(config.layers)
    ]
    weights = {
        "token_embd": embedding.astype(np.float32),
        "output_norm": np.ones(width, np.float32),
        "layers": layers,
    }
    return jax.tree.map(jnp.asarray, weights)


def rms_norm(x, weight, epsilon):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def rotate(x, cosine, sine):
    """Applies rotary embeddings to adjacent pairs, as llama.cpp expects for llama."""
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = jnp.stack([even * cosine - odd * sine, even * sine + odd * cosine], axis=-1)
    return pairs.reshape(x.shape)


def hidden(weights, tokens, segments, config):
    """Returns the normalized last hidden states of a batch."""
    rows, length = tokens.shape
    head_width = config.width // config.heads
    frequencies = config.rope_base ** (-np.arange(0, head_width, 2) / head_width)
    angles = np.arange(length)[:, None, None] * frequencies
    cosine, sine = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
    causal = np.tril(np.ones((length, length), bool))
    allowed = (segments[:, :, None] == segments[:, None, :]) & causal
    bias = jnp.where(allowed, 0.0, -1e9)[:, None]

    def heads(x):
        return x.reshape(rows, length, config.heads, head_width)

    x = weights["token_embd"][tokens]
    for layer in weights["layers"]:
        h = rms_norm(x, layer["attn_norm"], config.epsilon)
        query = rotate(heads(h @ layer["attn_q"]), cosine, sine) / np.sqrt(head_width)
        key = rotate(heads(h @ layer["attn_k"]), cosine, sine)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) + bias
        value = heads(h @ layer["attn_v"])
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), value)
        x = x + mixed.reshape(rows, length, config.width) @ layer["attn_output"]
        h = rms_norm(x, layer["ffn_norm"], config.epsilon)
        x = x + (jax.nn.silu(h @ layer["ffn_gate"]) * (h @ layer["ffn_up"])) @ layer["ffn_down"]
    return rms_norm(x, weights["output_norm"], config.epsilon)


def answer_logits(weights, tokens, segments, places, config):
    states = hidden(weights, tokens, segments, config).reshape(-1, config.width)
    return states[places] @ weights["token_embd"].T


def loss(weights, batch, config):
    tokens, segments, places, targets, mask = batch
    logits = answer_logits(weights, tokens, segments, places, config)
    scores = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=1)[:, 0]
    return -jnp.sum(scores * mask) / jnp.sum(mask)


def parameter_count(weights):
    return sum(array.size for array in jax.tree.leaves(weights))
