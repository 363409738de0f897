"""The models and documents that every variant of a benchmark gets: free of jax and torch, so that none pays for the other.

All are Qwen2 decoders (biases on queries, keys and values; tied embeddings), S and M with two key/value heads; the student has
the size of the first one of configs/quickstart.py. Documents have the lengths of real reasoning traces: log-normal with a median
of 134 tokens and a deviation of 0.45, as fitted to 18,220 questions with their traces on GSM8K (words, digits and marks counted;
the middle half lies between 99 and 182), those above a row left out.
"""

from dataclasses import dataclass

import numpy as np

from w2sr_jax.models.config import ModelConfig

ROW = 512
"""Tokens of a packed row."""


def _qwen2(vocabulary: int, width: int, layers: int, heads: int, kv_heads: int = 2, head_dim: int = 64) -> ModelConfig:
    return ModelConfig(
        vocab_size=vocabulary,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rope_theta=1_000_000.0,
        qkv_bias=True,
        tied_embeddings=True,
    )


SHAPES = {
    "S": _qwen2(4096, 256, 6, 4),
    "M": _qwen2(32_000, 512, 8, 8),
    "tiny": _qwen2(512, 64, 2, 2),
    "student": _qwen2(107, 96, 3, 3, 3, 32),
}


@dataclass(frozen=True)
class Documents:
    """Token ids of each document; id 0 is left to padding."""

    tokens: tuple[np.ndarray, ...]

    @property
    def total(self) -> int:
        return sum(map(len, self.tokens))


def lengths(count: int, most: int = ROW, seed: int = 0) -> np.ndarray:
    """Tokens of `count` documents, from 16 to `most`."""
    drawn = np.exp(np.random.default_rng(seed).normal(4.9, 0.45, 4 * count + 64))
    drawn = drawn[(drawn >= 16) & (drawn <= most)]
    return drawn[:count].astype(np.int64)


def documents(count: int, vocabulary: int, most: int = ROW, seed: int = 0) -> Documents:
    """Documents of random ids whose frequencies fall as in text (Zipf)."""
    rng = np.random.default_rng(seed + 1)
    return Documents(
        tuple((1 + (rng.zipf(1.2, length) - 1) % (vocabulary - 1)).astype(np.int64) for length in lengths(count, most, seed))
    )


def row_flops(shape: str, segments: np.ndarray) -> float:
    """FLOPs of training on packed rows: three times the forward pass over each document alone (`ModelConfig.flops_per_token`),
    so that neither padding nor other documents count."""
    config = SHAPES[shape]
    total = 0.0
    for row in segments:
        for size in np.bincount(row)[1:]:
            total += size * config.flops_per_token((size + 1) / 2)
    return 3 * total
