"""Attention among packed tokens, block by block, in plain JAX: no array of all scores exists, forward or backward, and keys that
no query of a block can see cost nothing.

The keys that a block of queries sees lie in one stretch that ends with the block itself. It is rounded up to one of a few widths,
each compiled once, and the widest that the block needs is chosen as it runs. The softmax over a stretch is computed at once; the
backward pass computes it again from the logarithm of its denominator, as FlashAttention does (Dao et al. 2022, arXiv:2205.14135).

Index names: B rows, L tokens, H query heads, K key/value heads, G = H / K, C head size, Q tokens of a block, W keys of a stretch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

HIDDEN = -1e30
"""The score of a key that is not seen."""


class _Static(NamedTuple):
    scale: float
    cap: float | None
    block: int
    group: int


class _Masking(NamedTuple):
    """What decides which tokens a token sees; `first` is, for each block of queries, the earliest token that one of them sees."""

    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    first: Int[Array, "B n"]
    reach: Int[Array, ""]


def blocked_attention(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    segments: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    reach: Int[Array, ""] | None,
    scale: float,
    cap: float | None,
    block: int = 64,
    group: int | None = None,
) -> Float[Array, "B L H C"]:
    """As `attention.packed`. `group` rows are computed together, with stretches as long as the one of them that needs the
    longest; None: all rows. On a CPU one row at a time is faster."""
    rows, length = segments.shape
    group = rows if group is None else group
    block = min(block, -(-length // 8) * 8)
    padding = -length % block
    if padding:
        query, key, value = (jnp.pad(x, [(0, 0), (0, padding), (0, 0), (0, 0)]) for x in (query, key, value))
        segments = jnp.pad(segments, [(0, 0), (0, padding)], constant_values=jnp.iinfo(segments.dtype).min)
        positions = jnp.pad(positions, [(0, 0), (0, padding)], mode="edge")
    limit = jnp.asarray(jnp.iinfo(jnp.int32).max if reach is None else reach, jnp.int32)
    static = _Static(scale, cap, block, group if rows % group == 0 else 1)
    return _attention(static, query, key, value, _masking(static, segments, positions, limit))[:, :length]


def _masking(static: _Static, segments: Int[Array, "B L"], positions: Int[Array, "B L"], reach: Int[Array, ""]) -> _Masking:
    total, start = segments.shape[1], jnp.int32(0)

    def first(number: Array) -> Int[Array, " B"]:
        seen = _seen(static, segments, positions, reach, number, start, total)
        return jnp.min(jnp.where(seen, jnp.arange(total), total), axis=(1, 2, 3, 4))

    return _Masking(segments, positions, jax.lax.map(first, jnp.arange(total // static.block, dtype=jnp.int32)).T, reach)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    static: _Static,
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    masking: _Masking,
) -> Float[Array, "B L H C"]:
    return _forward(static, query, key, value, masking)[0]


def _forward(static: _Static, query: Array, key: Array, value: Array, masking: _Masking) -> tuple[Array, Any]:
    # The masks are the same in every layer: without this, JAX takes them out of the loop over layers, for all blocks and widths.
    query, masking = jax.lax.optimization_barrier((query, masking))
    kv, total = key.shape[2], key.shape[1]
    blocks, rows = (
        _blocks(static, query, kv),
        _rows(static, (key.swapaxes(1, 2), value.swapaxes(1, 2), masking.segments, masking.positions)),
    )
    starts = _starts(static, masking.first)

    def row(_: None, inputs: Any) -> tuple[None, Any]:
        queries, (keys, values, segments, positions), first = inputs

        def one(_: None, each: Any) -> tuple[None, Any]:
            number, part, start = each

            def stretch(width: int) -> tuple[Array, Array]:
                at = _at(static, number, width)
                there, held = _cut(keys, at, width), _cut(values, at, width)
                seen = _seen(static, segments, positions, masking.reach, number, at, width)
                scores = jnp.where(seen, _capped(_scores(part, there), static.cap), HIDDEN)
                most = jnp.max(scores, axis=-1, keepdims=True)
                weights = jnp.exp(scores - most)
                share = jnp.sum(weights, axis=-1, keepdims=True)
                mixed = jnp.einsum("rkgqw,rkwc->rkgqc", weights.astype(held.dtype), held, preferred_element_type=jnp.float32)
                return (mixed / share).astype(part.dtype), (most + jnp.log(share))[..., 0]

            return None, _choose(static, stretch, number, start, total)

        _, outputs = jax.lax.scan(one, None, (jnp.arange(first.shape[0], dtype=jnp.int32), queries, first))
        return None, outputs

    _, (mixed, normal) = jax.lax.scan(row, None, (blocks, rows, starts))
    out = checkpoint_name(_unblocked(mixed, query.shape), "attention")
    normal = checkpoint_name(normal, "attention")
    return out, (query, key, value, masking, out, normal)


def _backward(static: _Static, saved: Any, slope: Array) -> tuple[Array, Array, Array, None]:
    query, key, value, masking, out, normal = saved
    kv, total = key.shape[2], key.shape[1]
    blocks, slopes = _blocks(static, query, kv), _blocks(static, slope, kv, scale=1.0)
    products = jnp.sum(slope.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    products = _blocks(static, products, kv, scale=1.0)[..., 0]
    rows = _rows(static, (key.swapaxes(1, 2), value.swapaxes(1, 2), masking.segments, masking.positions))
    starts = _starts(static, masking.first)

    def row(_: None, inputs: Any) -> tuple[None, Any]:
        parts, (keys, values, segments, positions), first = inputs
        zero = jnp.zeros(keys.shape, jnp.float32)

        def one(sums: tuple[Array, Array], each: Any) -> tuple[tuple[Array, Array], Array]:
            number, (part, slope, product, normal), start = each

            def stretch(width: int) -> tuple[Array, Array, Array]:
                at = _at(static, number, width)
                there, held = _cut(keys, at, width), _cut(values, at, width)
                seen = _seen(static, segments, positions, masking.reach, number, at, width)
                scores = _capped(_scores(part, there), static.cap)
                weights = jnp.exp(jnp.where(seen, scores, HIDDEN) - normal[..., None])
                to_weights = jnp.einsum("rkgqc,rkwc->rkgqw", slope, held, preferred_element_type=jnp.float32)
                to_scores = weights * (to_weights - product[..., None])
                if static.cap is not None:
                    to_scores = to_scores * (1.0 - (scores / static.cap) ** 2)
                to_scores, weights = to_scores.astype(part.dtype), weights.astype(part.dtype)
                to_value = jnp.einsum("rkgqw,rkgqc->rkwc", weights, slope, preferred_element_type=jnp.float32)
                to_key = jnp.einsum("rkgqw,rkgqc->rkwc", to_scores, part, preferred_element_type=jnp.float32)
                to_query = jnp.einsum("rkgqw,rkwc->rkgqc", to_scores, there, preferred_element_type=jnp.float32)
                added = tuple(_add(sum_, new, at) for sum_, new in zip(sums, (to_key, to_value), strict=True))
                return *added, (to_query * static.scale).astype(part.dtype)  # type: ignore[return-value]

            to_key, to_value, to_query = _choose(static, stretch, number, start, total)
            return (to_key, to_value), to_query

        (to_key, to_value), to_query = jax.lax.scan(
            one, (zero, zero), (jnp.arange(first.shape[0], dtype=jnp.int32), parts, first)
        )
        return None, (to_query, to_key.astype(keys.dtype), to_value.astype(values.dtype))

    _, (to_query, to_key, to_value) = jax.lax.scan(row, None, ((blocks, slopes, products, normal), rows, starts))
    to_key, to_value = (x.reshape(-1, *x.shape[2:]).swapaxes(1, 2) for x in (to_key, to_value))
    return _unblocked(to_query, query.shape), to_key, to_value, None


_attention.defvjp(_forward, _backward)


def _choose(static: _Static, stretch: Callable[[int], Any], number: Int[Array, ""], start: Int[Array, ""], total: int) -> Any:
    """`stretch` of the smallest width that reaches from `start` to the end of block `number`."""
    widths = _widths(static.block, total)
    if len(widths) == 1:
        return stretch(widths[0])
    needed = (number + 1) * static.block - start
    return jax.lax.switch(jnp.sum(needed > jnp.asarray(widths)), [partial(stretch, width) for width in widths])


def _widths(block: int, total: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, … blocks, and all."""
    counts = [1]
    while counts[-1] * block < total:
        last = counts[-1]
        counts.append(last + 1 if last < 3 else (last * 4 // 3 if last % 3 == 0 else last * 3 // 2))
    return [*(count * block for count in counts if count * block < total), total]


def _starts(static: _Static, first: Int[Array, "B n"]) -> Int[Array, "N n"]:
    """For each group of rows and each block, the first token that one of its queries sees."""
    return first.reshape(-1, static.group, first.shape[1]).min(1)


def _blocks(static: _Static, x: Float[Array, "B L H C"], kv: int, scale: float | None = None) -> Float[Array, "N n R K G Q C"]:
    """Queries by groups of rows and blocks, those of one key head together, scaled."""
    rows, length, heads, size = x.shape
    if scale is None:
        x = x * jnp.asarray(static.scale, x.dtype)
    cut = x.reshape(rows // static.group, static.group, length // static.block, static.block, kv, heads // kv, size)
    return cut.transpose(0, 2, 1, 4, 5, 3, 6)


def _unblocked(x: Float[Array, "N n R K G Q C"], shape: tuple[int, ...]) -> Float[Array, "B L H C"]:
    """The inverse of `_blocks`."""
    return x.transpose(0, 2, 1, 5, 3, 4, 6).reshape(shape)


def _rows(static: _Static, tree: Any) -> Any:
    """[B, …] by groups of rows, [N, R, …]."""
    return jax.tree.map(lambda x: x.reshape(x.shape[0] // static.group, static.group, *x.shape[1:]), tree)


def _at(static: _Static, number: Int[Array, ""], width: int) -> Int[Array, ""]:
    return jnp.maximum((number + 1) * static.block - width, 0)


def _cut(x: Array, at: Int[Array, ""], width: int, axis: int = 2) -> Array:
    return jax.lax.dynamic_slice_in_dim(x, at, width, axis)


def _add(x: Float[Array, "R K L C"], new: Float[Array, "R K W C"], at: Int[Array, ""]) -> Float[Array, "R K L C"]:
    return jax.lax.dynamic_update_slice_in_dim(x, _cut(x, at, new.shape[2]) + new, at, 2)


def _scores(query: Float[Array, "R K G Q C"], key: Float[Array, "R K W C"]) -> Float[Array, "R K G Q W"]:
    return jnp.einsum("rkgqc,rkwc->rkgqw", query, key, preferred_element_type=jnp.float32)


def _capped(scores: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    return scores if cap is None else cap * jnp.tanh(scores / cap)


def _seen(
    static: _Static,
    segments: Int[Array, "R L"],
    positions: Int[Array, "R L"],
    reach: Int[Array, ""],
    number: Int[Array, ""],
    at: Int[Array, ""],
    width: int,
) -> Bool[Array, "R 1 1 Q W"]:
    """True where a block's queries see the stretch's keys; the same for each of the query heads that share a key head."""
    own = number * static.block
    index = (own + jnp.arange(static.block, dtype=jnp.int32))[:, None] >= (at + jnp.arange(width, dtype=jnp.int32))[None]
    here, there = (_cut(x, own, static.block, 1)[:, :, None] for x in (segments, positions))
    visible = (
        index[None] & (here == _cut(segments, at, width, 1)[:, None]) & (there - _cut(positions, at, width, 1)[:, None] < reach)
    )
    return visible[:, None, None]
