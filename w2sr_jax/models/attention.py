"""Attention among the tokens of packed rows.

Index names: B rows, L tokens, H query heads, K key/value heads, G = H / K, C head size.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.models.config import AttentionKind


class Seen(NamedTuple):
    """Who sees whom: a token sees itself and the earlier tokens of its row with its segment id, and where there is a `reach` only
    those whose position is less than this before its own."""

    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    reach: Int[Array, ""] | None


def packed(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    seen: Seen,
    scale: float,
    cap: float | None = None,
    how: AttentionKind = "auto",
) -> Float[Array, "B L H C"]:
    """Softmax attention with float32 scores; query heads i·G … i·G + G − 1 share key head i."""
    del how
    return attend(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask(seen)[:, None, None], scale, cap)


def mask(seen: Seen) -> Bool[Array, "B L L"]:
    """Where a token (second axis) sees another one (third axis)."""
    length = seen.segments.shape[1]
    found = jnp.tril(jnp.ones((length, length), bool)) & (seen.segments[:, :, None] == seen.segments[:, None, :])
    if seen.reach is None:
        return found
    return found & (seen.positions[:, :, None] - seen.positions[:, None, :] < seen.reach)


def attend(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B K S C"],
    value: Float[Array, "B K S C"],
    mask: Bool[Array, "B 1 1 L S"],
    scale: float,
    cap: float | None = None,
) -> Float[Array, "B L H C"]:
    """Softmax attention of L tokens to S, with float32 scores."""
    rows, length, heads, size = query.shape
    kv = key.shape[1]
    grouped = query.reshape(rows, length, kv, heads // kv, size).transpose(0, 2, 3, 1, 4) * scale
    scores = capped(jnp.einsum("bkglc,bksc->bkgls", grouped, key, preferred_element_type=jnp.float32), cap)
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgls,bksc->bkglc", weights, value)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, size)


def capped(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """cap · tanh(x / cap), smoothly within ±cap; None: x itself."""
    return x if cap is None else cap * jnp.tanh(x / cap)
