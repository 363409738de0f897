"""A vocabulary read in blocks of 128 tokens, without a sort: its greatest logits, its mass, the edge of top-p, the inverse of a
CDF.

The k greatest logits lie in the k blocks with the greatest maxima, so that top-k ranks those alone (where k blocks are less than
a third of the vocabulary). Nothing of a row depends on the other rows. Weights are exp(logit - greatest logit).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BLOCK = 128
SMALL = 512
"""Up to this size a vocabulary is searched in one level; above it, its blocks, then the chosen block."""


def top(logits: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The `count` greatest logits, greatest first and equal ones by id, and their ids."""
    if 3 * count * BLOCK > logits.shape[-1]:  # ranking the blocks would cost more than it saves
        values, ids = jax.lax.top_k(logits, count)
        return values, ids
    blocks = in_blocks(logits, -jnp.inf)
    _, best = jax.lax.top_k(blocks.max(axis=-1), count)
    best = jnp.sort(best, axis=-1)  # so that the order of the candidates is that of their ids
    candidates = jnp.take_along_axis(blocks, best[:, :, None], axis=1).reshape(logits.shape[0], -1)
    values, ranks = jax.lax.top_k(candidates, count)
    return values, jnp.take_along_axis(best, ranks // BLOCK, axis=1) * BLOCK + ranks % BLOCK


def first(condition: Bool[Array, "B V"]) -> Int[Array, " B"]:
    """Index of the first true entry, the last index where there is none. (A minimum vectorizes on CPU, argmax does not.)"""
    last = condition.shape[-1] - 1
    return jnp.where(condition, jnp.arange(last + 1, dtype=jnp.int32), last).min(axis=-1)


def in_blocks(values: Float[Array, "B V"], fill: float) -> Float[Array, "B N block"]:
    missing = -values.shape[-1] % BLOCK
    padded = jnp.pad(values, ((0, 0), (0, missing)), constant_values=fill) if missing else values
    return padded.reshape(values.shape[0], -1, BLOCK)


def peak_of(logits: Float[Array, "B V"]) -> Float[Array, "B 1"]:
    """The greatest logit, by way of the blocks' (a maximum over a short row is faster on CPU, and `top` needs them too)."""
    if logits.shape[-1] <= SMALL:
        return logits.max(axis=-1, keepdims=True)
    return in_blocks(logits, -jnp.inf).max(axis=-1).max(axis=-1, keepdims=True)


def mass_of(logits: Float[Array, "B V"], peak: Float[Array, "B 1"]) -> Float[Array, " B"]:
    """The sum of exp(logits - peak)."""
    weights = jnp.exp(logits - peak)
    return weights.sum(axis=-1) if logits.shape[-1] <= SMALL else in_blocks(weights, 0.0).sum(axis=-1).sum(axis=-1)


def first_greatest(logits: Float[Array, "B V"], peak: Float[Array, "B 1"]) -> Int[Array, " B"]:
    """The first index with the greatest logit."""
    if logits.shape[-1] <= SMALL:
        return first(logits == peak)
    blocks = in_blocks(logits, -jnp.inf)
    block = first(blocks.max(axis=-1) == peak)
    return block * BLOCK + first(nth_block(blocks, block) == peak)


def nth_block(blocks: Float[Array, "B N block"], block: Int[Array, " B"]) -> Float[Array, "B block"]:
    return jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]


def edge_of(weights: Float[Array, "B V"], target: Float[Array, "B 1"]) -> tuple[Float[Array, "B 1"], Int[Array, "B 1"]]:
    """The least weight (in [0, 1]) among the fewest greatest that add up to `target`, and how many of that weight are needed.

    Found by bisection over float32 bit patterns, which order like the numbers: exact, and no sort.
    """

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        level = jax.lax.bitcast_convert_type(middle, jnp.float32)
        enough = jnp.where(weights >= level, weights, 0.0).sum(axis=-1, keepdims=True) >= target
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low = jnp.zeros((weights.shape[0], 1), jnp.int32)
    least, _ = jax.lax.fori_loop(0, 30, halve, (low, jnp.full_like(low, 0x3F800001)))
    level = jax.lax.bitcast_convert_type(least, jnp.float32)
    missing = target - jnp.where(weights > level, weights, 0.0).sum(axis=-1, keepdims=True)
    ties = jnp.ceil(missing / jnp.maximum(level, jnp.finfo(jnp.float32).tiny))
    return level, jnp.clip(ties, 1, weights.shape[-1]).astype(jnp.int32)


def inverse_cdf(
    weights: Float[Array, "B V"],
    edge: tuple[Float[Array, "B 1"], Int[Array, "B 1"]] | None,
    uniform: Float[Array, " B"],
    min_p: float,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """Index i with probability proportional to weights[i], never one of weight 0, in the order of the ids, and the sum of the
    weights that took part. `edge` leaves out what is below its level, and of that level all but the first so many; `min_p` leaves
    out what is below it."""
    if min_p:
        weights = jnp.where(weights >= min_p, weights, 0.0)
    if weights.shape[-1] <= SMALL:
        if edge is not None:
            weights = cut(weights, *edge)
        total = weights.sum(axis=-1)
        return locate(weights, uniform * total)[0], total
    blocks = in_blocks(weights, 0.0)
    if edge is None:
        mass = blocks.sum(axis=-1)
        total = mass.sum(axis=-1)
        block, rest = locate(mass, uniform * total)
        inside = nth_block(blocks, block)
    else:
        level, ties = edge
        equal = (blocks == level[:, :, None]).sum(axis=-1, dtype=jnp.int32)
        left = jnp.clip(ties - (jnp.cumsum(equal, axis=-1) - equal), 0, equal)
        above = jnp.where(blocks > level[:, :, None], blocks, 0.0).sum(axis=-1)
        mass = above + left.astype(jnp.float32) * jnp.where(level >= min_p, level, 0.0)
        total = mass.sum(axis=-1)
        block, rest = locate(mass, uniform * total)
        inside = cut(nth_block(blocks, block), level, jnp.take_along_axis(left, block[:, None], axis=1))
    return block * BLOCK + locate(inside, rest)[0], total


def cut(weights: Float[Array, "B V"], level: Float[Array, "B 1"], ties: Int[Array, "B 1"]) -> Float[Array, "B V"]:
    """Weights with all below `level`, and all but the first `ties` at it, set to 0."""
    equal = weights == level
    return jnp.where((weights > level) | (equal & (jnp.cumsum(equal, axis=-1, dtype=jnp.int32) <= ties)), weights, 0.0)


def locate(weights: Float[Array, "B V"], point: Float[Array, " B"]) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The interval of positive length that holds `point` (the last one if it lies beyond), and the distance from its start."""
    ends = jnp.cumsum(weights, axis=-1)
    positive = weights > 0
    indices = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    last = jnp.where(positive, indices, 0).max(axis=-1)
    index = jnp.minimum(first(positive & (ends > point[:, None])), last)
    chosen = indices[None] == index[:, None]
    start = jnp.where(chosen, ends - weights, 0.0).sum(axis=-1)
    return index, jnp.maximum(point - start, 0.0)
