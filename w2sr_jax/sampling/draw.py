"""One token per row from its logits, by an inverse CDF with one uniform number, without sorting the vocabulary.

The settings apply in transformers' order: repetition penalty, temperature, top-k, top-p over what top-k kept, min-p. Equal logits
are ranked by id, so that top-k keeps exactly k tokens and top-p the fewest that hold its share.

A vocabulary is read in blocks of 128 tokens. Its k greatest logits lie in the k blocks with the greatest maxima, so that top-k
ranks those alone (where k blocks are less than a third of the vocabulary). A top-p that the 32 greatest logits hold is taken from
them, any other is found by bisection. Which token a row gets does not depend on the other rows.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.topk import TopK
from w2sr_jax.sampling.settings import Decoding

BLOCK = 128
SMALL = 512
"""Up to this size a vocabulary is searched in one level; above it, its blocks, then the chosen block."""
FEW = 32
"""Top-p without top-k is first sought among this many greatest logits."""
GROUP = 8
"""Rows that are searched together where that was not enough; an eighth of them where there are many."""


def draw(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None
) -> Int[Array, " B"]:
    """Token ids; `uniform` in [0, 1) decides. `seen` marks the tokens of prompt and completion so far and must be given where
    `decoding.repetition_penalty` is not 1. Logits are float32; -inf marks a token that is never drawn. A row with nan, +inf or
    nothing but -inf is no distribution: its token is some id of the vocabulary, and its `logprob` is not finite."""
    return jnp.minimum(_draw(logits, uniform, decoding, seen), logits.shape[-1] - 1)


def _draw(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None
) -> Int[Array, " B"]:
    scaled, uniform = _scaled(jnp.asarray(logits), decoding, seen), jnp.asarray(uniform)
    peak = _peak(scaled)
    if decoding.temperature == 0:
        return _greatest(scaled, peak)
    size = logits.shape[-1]
    if 0 < decoding.top_k < size:
        weights, ids = _ranked(scaled, peak, decoding.top_k)
        return _among(weights, ids, weights.sum(axis=-1), uniform, decoding)
    if decoding.top_p == 1:
        return _inverse_cdf(jnp.exp(scaled - peak), None, uniform, decoding.min_p)
    weights, ids = _ranked(scaled, peak, min(FEW, size))
    total = _mass(scaled, peak)
    tokens = _among(weights, ids, total, uniform, decoding)
    missing = weights.sum(axis=-1) < decoding.top_p * total
    return _search(scaled - peak, total, uniform, decoding, tokens, missing)


def draw_with_logprob(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """`draw`, and the token's `logprob`. What both need of the vocabulary (its maximum, and where the temperature is 1 its mass)
    is written alike, so that the compiler computes it once."""
    token = draw(logits, uniform, decoding, seen)
    return token, logprob(logits, token)


def draw_within(
    logits: Float[Array, "B V"],
    uniform: Float[Array, " B"],
    again: Float[Array, " B"],
    limit: int,
    decoding: Decoding,
    seen: Bool[Array, "B V"] | None = None,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """`draw_with_logprob` of ids below `limit`. Where another id was drawn, `again` decides anew among those alone, so that each
    keeps its probability relative to the others, and a model that draws no other id draws the same as without a limit."""
    token, own = draw_with_logprob(logits, uniform, decoding, seen)
    beyond = token >= limit

    def anew() -> tuple[Int[Array, " B"], Float[Array, " B"]]:
        within = (jnp.arange(logits.shape[-1]) < limit)[None]
        other = draw(jnp.where(within, logits, -jnp.inf), again, decoding, seen)
        return jnp.where(beyond, other, token), jnp.where(beyond, logprob(logits, other), own)

    return jax.lax.cond(beyond.any(), anew, lambda: (token, own))


def logprob(logits: Float[Array, "B V"], token: Int[Array, " B"]) -> Float[Array, " B"]:
    """A token's log-probability under the model itself: no penalty, no temperature, no truncation. It is finite where the row's
    logits are a distribution that can give the token, and only there."""
    peak = _peak(logits)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=1) - peak
    return chosen[:, 0] - jnp.log(_mass(logits, peak))


def most_probable(logits: Float[Array, "B V"], count: int, limit: int | None = None) -> TopK:
    """The `count` most probable tokens, of those with ids below `limit`, and the mass of all other tokens, under the model itself
    as in `logprob`."""
    peak = _peak(logits)
    total = peak[:, 0] + jnp.log(_mass(logits, peak))
    within = logits if limit is None else jnp.where(jnp.arange(logits.shape[-1]) < limit, logits, -jnp.inf)
    values, ids = top(within, count)
    others = logits.at[jnp.arange(logits.shape[0])[:, None], ids].set(-jnp.inf)
    return TopK(ids, values - total[:, None], jax.nn.logsumexp(others, axis=-1) - total)


def top(logits: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    """The `count` greatest logits, greatest first and equal ones by id, and their ids."""
    if 3 * count * BLOCK > logits.shape[-1]:  # ranking the blocks would cost more than it saves
        values, ids = jax.lax.top_k(logits, count)
        return values, ids
    blocks = _blocks(logits, -jnp.inf)
    _, best = jax.lax.top_k(blocks.max(axis=-1), count)
    best = jnp.sort(best, axis=-1)  # so that the order of the candidates is that of their ids
    candidates = jnp.take_along_axis(blocks, best[:, :, None], axis=1).reshape(logits.shape[0], -1)
    values, ranks = jax.lax.top_k(candidates, count)
    return values, jnp.take_along_axis(best, ranks // BLOCK, axis=1) * BLOCK + ranks % BLOCK


def first(condition: Bool[Array, "B V"]) -> Int[Array, " B"]:
    """Index of the first true entry, the last index where there is none. (A minimum vectorizes on CPU, argmax does not.)"""
    last = condition.shape[-1] - 1
    return jnp.where(condition, jnp.arange(last + 1, dtype=jnp.int32), last).min(axis=-1)


def _scaled(logits: Float[Array, "B V"], decoding: Decoding, seen: Bool[Array, "B V"] | None) -> Float[Array, "B V"]:
    """Logits after repetition penalty and temperature."""
    if decoding.repetition_penalty != 1:
        if seen is None:
            raise ValueError("a repetition penalty needs `seen`")
        penalty = decoding.repetition_penalty
        logits = jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
    return logits if decoding.temperature in (0, 1) else logits * (1.0 / decoding.temperature)


def _blocks(values: Float[Array, "B V"], fill: float) -> Float[Array, "B N block"]:
    missing = -values.shape[-1] % BLOCK
    padded = jnp.pad(values, ((0, 0), (0, missing)), constant_values=fill) if missing else values
    return padded.reshape(values.shape[0], -1, BLOCK)


def _peak(logits: Float[Array, "B V"]) -> Float[Array, "B 1"]:
    """The greatest logit, by way of the blocks' (a maximum over a short row is faster on CPU, and `top` needs them too)."""
    if logits.shape[-1] <= SMALL:
        return logits.max(axis=-1, keepdims=True)
    return _blocks(logits, -jnp.inf).max(axis=-1).max(axis=-1, keepdims=True)


def _mass(logits: Float[Array, "B V"], peak: Float[Array, "B 1"]) -> Float[Array, " B"]:
    """The sum of exp(logits - peak)."""
    weights = jnp.exp(logits - peak)
    return weights.sum(axis=-1) if logits.shape[-1] <= SMALL else _blocks(weights, 0.0).sum(axis=-1).sum(axis=-1)


def _greatest(logits: Float[Array, "B V"], peak: Float[Array, "B 1"]) -> Int[Array, " B"]:
    """The first index with the greatest logit."""
    if logits.shape[-1] <= SMALL:
        return first(logits == peak)
    blocks = _blocks(logits, -jnp.inf)
    block = first(blocks.max(axis=-1) == peak)
    return block * BLOCK + first(_inside(blocks, block) == peak)


def _inside(blocks: Float[Array, "B N block"], block: Int[Array, " B"]) -> Float[Array, "B block"]:
    return jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]


def _ranked(scaled: Float[Array, "B V"], peak: Float[Array, "B 1"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    values, ids = top(scaled, count)
    return jnp.exp(values - peak), ids


def _among(
    weights: Float[Array, "B K"],
    ids: Int[Array, "B K"],
    total: Float[Array, " B"],
    uniform: Float[Array, " B"],
    decoding: Decoding,
) -> Int[Array, " B"]:
    """Top-p of `total`, min-p and the draw among tokens in the order of their weights."""
    if decoding.top_p < 1:
        before = jnp.cumsum(weights, axis=-1) - weights
        weights = jnp.where(before < decoding.top_p * total[:, None], weights, 0.0)
    if decoding.min_p:
        weights = jnp.where(weights >= decoding.min_p, weights, 0.0)
    rank, _ = _locate(weights, uniform * weights.sum(axis=-1))
    return jnp.take_along_axis(ids, rank[:, None], axis=1)[:, 0]


def _search(
    relative: Float[Array, "B V"],
    total: Float[Array, " B"],
    uniform: Float[Array, " B"],
    decoding: Decoding,
    drawn: Int[Array, " B"],
    missing: Bool[Array, " B"],
) -> Int[Array, " B"]:
    """Replaces what was drawn in the rows that are missing, a group of them at a time: the cost is that of the rows that need it,
    and a group stays in a processor's cache. Logits are relative to the greatest."""
    group = min(len(drawn), max(GROUP, len(drawn) // GROUP))
    order = jnp.argsort(~missing)

    def one(number: Array, tokens: Int[Array, " B"]) -> Int[Array, " B"]:
        rows = jax.lax.dynamic_slice_in_dim(order, number * group, group)
        weights = jnp.exp(relative[rows])
        edge = _edge(weights, decoding.top_p * total[rows, None])
        anew = _inverse_cdf(weights, edge, uniform[rows], decoding.min_p)
        return tokens.at[rows].set(jnp.where(missing[rows], anew, tokens[rows]))

    return jax.lax.fori_loop(0, -(-missing.sum() // group), one, drawn)


def _edge(weights: Float[Array, "B V"], target: Float[Array, "B 1"]) -> tuple[Float[Array, "B 1"], Int[Array, "B 1"]]:
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


def _inverse_cdf(
    weights: Float[Array, "B V"],
    edge: tuple[Float[Array, "B 1"], Int[Array, "B 1"]] | None,
    uniform: Float[Array, " B"],
    min_p: float,
) -> Int[Array, " B"]:
    """Index i with probability proportional to weights[i], never one of weight 0, in the order of the ids. `edge` leaves out what
    is below its level, and of that level all but the first so many; `min_p` what is below it."""
    if min_p:
        weights = jnp.where(weights >= min_p, weights, 0.0)
    if weights.shape[-1] <= SMALL:
        if edge is not None:
            weights = _cut(weights, *edge)
        return _locate(weights, uniform * weights.sum(axis=-1))[0]
    blocks = _blocks(weights, 0.0)
    if edge is None:
        mass = blocks.sum(axis=-1)
        block, rest = _locate(mass, uniform * mass.sum(axis=-1))
        inside = _inside(blocks, block)
    else:
        level, ties = edge
        equal = (blocks == level[:, :, None]).sum(axis=-1, dtype=jnp.int32)
        left = jnp.clip(ties - (jnp.cumsum(equal, axis=-1) - equal), 0, equal)
        above = jnp.where(blocks > level[:, :, None], blocks, 0.0).sum(axis=-1)
        mass = above + left.astype(jnp.float32) * jnp.where(level >= min_p, level, 0.0)
        block, rest = _locate(mass, uniform * mass.sum(axis=-1))
        inside = _cut(_inside(blocks, block), level, jnp.take_along_axis(left, block[:, None], axis=1))
    return block * BLOCK + _locate(inside, rest)[0]


def _cut(weights: Float[Array, "B V"], level: Float[Array, "B 1"], ties: Int[Array, "B 1"]) -> Float[Array, "B V"]:
    """Weights with all below `level`, and all but the first `ties` at it, set to 0."""
    equal = weights == level
    return jnp.where((weights > level) | (equal & (jnp.cumsum(equal, axis=-1, dtype=jnp.int32) <= ties)), weights, 0.0)


def _locate(weights: Float[Array, "B V"], point: Float[Array, " B"]) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The interval of positive length that holds `point` (the last one if it lies beyond), and the distance from its start."""
    ends = jnp.cumsum(weights, axis=-1)
    positive = weights > 0
    indices = jnp.arange(weights.shape[-1], dtype=jnp.int32)
    last = jnp.where(positive, indices, 0).max(axis=-1)
    index = jnp.minimum(first(positive & (ends > point[:, None])), last)
    chosen = indices[None] == index[:, None]
    start = jnp.where(chosen, ends - weights, 0.0).sum(axis=-1)
    return index, jnp.maximum(point - start, 0.0)
