"""Models and documents of the benchmarks on an accelerator: free of jax and torch.

0.5b and 1.5b are the shapes of Qwen2.5; tiny is for trying things out on a CPU.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import standalone

standalone.importable()

from w2sr_jax.models.config import ModelConfig  # noqa: E402


@dataclass(frozen=True)
class Size:
    """A model and how much of it is measured."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp: int
    length: int
    """Tokens of a packed row."""
    rows: int
    """Rows of a training step."""
    steps: int
    """Training steps of a round."""
    slots: int
    """Rows decoded together."""
    prompt: int
    """Tokens of a prompt."""
    new: int
    """Tokens decoded after it."""


SIZES = {
    "tiny": Size(512, 64, 2, 4, 128, length=64, rows=2, steps=2, slots=4, prompt=16, new=8),
    "0.5b": Size(151_936, 896, 24, 14, 4864, length=4096, rows=4, steps=8, slots=256, prompt=512, new=1024),
    "1.5b": Size(151_936, 1536, 28, 12, 8960, length=4096, rows=2, steps=8, slots=256, prompt=512, new=1024),
}


def config(shape: str, parameters: Any = "float32", **more: Any) -> ModelConfig:
    """The model, computing in bfloat16; `parameters` is the type in which they are kept."""
    s = SIZES[shape]
    return ModelConfig(
        vocab_size=s.vocabulary,
        width=s.width,
        layers=s.layers,
        heads=s.heads,
        kv_heads=2,
        mlp=s.mlp,
        rope_theta=1_000_000.0,
        qkv_bias=True,
        tied_embeddings=True,
        dtype="bfloat16",
        param_dtype=parameters,
        **more,
    )


def hf_config(shape: str) -> Any:
    """The same model as a transformers `Qwen2Config`, with torch's scaled_dot_product_attention."""
    from transformers import Qwen2Config

    c, s = config(shape), SIZES[shape]
    sizes: dict[str, Any] = {
        "vocab_size": c.vocab_size,
        "hidden_size": c.width,
        "intermediate_size": c.mlp_size,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
        "rms_norm_eps": c.norm_eps,
        "tie_word_embeddings": True,
        "max_position_embeddings": max(s.length, s.prompt + s.new),
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "sdpa",
    }
    return Qwen2Config(**sizes)


def lengths(length: int, seed: int = 0) -> list[int]:
    """Tokens of the documents that fill a row to its end: log-normal, with a deviation of 0.7 and a median of 600 in a row of
    4,096, in proportion in others; the last one is cut."""
    rng = np.random.default_rng(seed)
    found: list[int] = []
    while sum(found) < length:
        found.append(max(2, round(float(np.exp(rng.normal(np.log(600 / 4096 * length), 0.7))))))
    found[-1] -= sum(found) - length
    return found


def segments(rows: int, length: int, seed: int = 0) -> np.ndarray:
    """Which document each position of the rows holds, from 1: int32 [rows, length]."""
    each = (lengths(length, seed * 1000 + row) for row in range(rows))
    return np.stack([np.repeat(np.arange(1, len(sizes) + 1), sizes) for sizes in each]).astype(np.int32)


def positions(segments: np.ndarray) -> np.ndarray:
    """Place of each position in its document, from 0."""
    length = segments.shape[1]
    starts = np.where(np.diff(segments, axis=1, prepend=0) > 0, np.arange(length), 0)
    return (np.arange(length) - np.maximum.accumulate(starts, axis=1)).astype(np.int32)


def training_flops(model: ModelConfig, segments: np.ndarray) -> float:
    """FLOPs of a step on packed rows: three times the forward pass over each document alone."""
    return 3 * sum(
        size * model.flops_per_token((size + 1) / 2) for row in segments for size in np.bincount(row)[1:].tolist() if size
    )


def decoding_bytes(model: ModelConfig, slots: int, prompt: int, new: int) -> float:
    """The fewest bytes that `new` steps of decoding read: all weights, and the keys and values that are live, once a step."""
    weights = 2 * model.parameters()
    token = 2 * 2 * model.layers * model.kv_heads * model.head_size
    return sum(weights + slots * token * (prompt + done + 1) for done in range(new))
