"""One token per row from its logits: temperature, top-k, top-p, and an inverse CDF with one uniform number."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.sampling.settings import Decoding

BLOCK = 256
"""Above twice this size a vocabulary is searched in two levels: its blocks, then the chosen block."""


def draw(logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding) -> Int[Array, " B"]:
    """Token ids; `uniform` in [0, 1) decides. Equal logits are ranked by id, so top-k keeps exactly k tokens."""
    if decoding.temperature == 0:
        return first(logits == logits.max(axis=-1, keepdims=True))
    scaled = logits * (1.0 / decoding.temperature)
    weights = jnp.exp(scaled - scaled.max(axis=-1, keepdims=True))
    if 0 < decoding.top_k < logits.shape[-1]:
        weights = keep_top(weights, jnp.ones_like(weights), jnp.float32(decoding.top_k))
    if decoding.top_p < 1:
        weights = keep_top(weights, weights, decoding.top_p * weights.sum(axis=-1, keepdims=True))
    return inverse_cdf(weights, uniform)


def first(condition: Bool[Array, "B V"]) -> Int[Array, " B"]:
    """Index of the first true entry, the last index where there is none. (A minimum vectorizes on CPU, argmax does not.)"""
    last = condition.shape[-1] - 1
    return jnp.where(condition, jnp.arange(last + 1, dtype=jnp.int32), last).min(axis=-1)


def keep_top(weights: Float[Array, "B V"], amounts: Float[Array, "B V"], target: Float[Array, "#B 1"]) -> Float[Array, "B V"]:
    """`weights` (in [0, 1]) with all but the greatest set to 0: the fewest whose amounts add up to `target`.

    `amounts` is a function of the weight (1 counts, the weight itself sums). The smallest weight kept is found by bisection over
    float32 bit patterns, which order like the numbers: exact, and no sort of the vocabulary.
    """

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = low + (high - low) // 2
        enough = jnp.where(bits >= middle, amounts, 0.0).sum(axis=-1, keepdims=True) >= target
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    bits = jax.lax.bitcast_convert_type(weights.astype(jnp.float32), jnp.int32)
    low = jnp.zeros((weights.shape[0], 1), jnp.int32)
    least, _ = jax.lax.fori_loop(0, 30, halve, (low, jnp.full_like(low, 0x3F800001)))
    above, level = bits > least, bits == least
    missing = target - jnp.where(above, amounts, 0.0).sum(axis=-1, keepdims=True)
    amount = jnp.where(level, amounts, 0.0).max(axis=-1, keepdims=True)
    ties = jnp.ceil(missing / jnp.maximum(amount, jnp.finfo(jnp.float32).tiny))
    rank = jnp.cumsum(level, axis=-1)
    return jnp.where(above | (level & (rank <= jnp.maximum(ties, 1))), weights, 0.0)


def inverse_cdf(weights: Float[Array, "B V"], uniform: Float[Array, " B"]) -> Int[Array, " B"]:
    """Index i with probability weights[i] / sum, never one of weight 0."""
    size = weights.shape[-1]
    if size <= 2 * BLOCK:
        total = weights.sum(axis=-1)
        return _locate(weights, uniform * total)[0]
    padded = jnp.pad(weights, ((0, 0), (0, -size % BLOCK)))
    blocks = padded.reshape(weights.shape[0], -1, BLOCK)
    mass = blocks.sum(axis=-1)
    block, rest = _locate(mass, uniform * mass.sum(axis=-1))
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    return block * BLOCK + _locate(inside, rest)[0]


def _locate(weights: Float[Array, "B V"], point: Float[Array, " B"]) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The interval of positive length that holds `point` (the last one if it lies beyond), and the distance from its start."""
    ends = jnp.cumsum(weights, axis=-1)
    positive = weights > 0
    indices = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    last = jnp.where(positive, indices, 0).max(axis=-1)
    index = jnp.minimum(first(positive & (ends > point[:, None])), last)
    chosen = indices == index[:, None]
    start = jnp.where(chosen, ends - weights, 0.0).sum(axis=-1)
    return index, jnp.maximum(point - start, 0.0)
