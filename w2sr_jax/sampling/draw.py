"""One token per row from its logits, by an inverse CDF with one uniform number, without sorting the vocabulary; and the
log-probability that a token had to be drawn.

The settings apply in transformers' order: repetition penalty, temperature, top-k, top-p over what top-k kept, min-p. Equal
logits are ranked by id, so that top-k keeps exactly k tokens and top-p the fewest that hold its share. A top-p that the 32
greatest logits hold is taken from them, any other is found by bisection. A row's token does not depend on the other rows.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.topk import TopK
from w2sr_jax.sampling.search import cut, edge_of, first_greatest, inverse_cdf, locate, mass_of, peak_of, top
from w2sr_jax.sampling.settings import Decoding

FEW = 32
"""Top-p without top-k is first sought among this many greatest logits."""
GROUP = 8
"""Rows that are searched together where that was not enough; an eighth of them where there are many."""

T = TypeVar("T")


def draw(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None
) -> Int[Array, " B"]:
    """Token ids; `uniform` in [0, 1) decides. `seen` marks the tokens of prompt and completion so far and must be given where
    `decoding.repetition_penalty` is not 1. Logits are float32; -inf marks a token that is never drawn. A row with nan, +inf or
    nothing but -inf is no distribution: its token is some id of the vocabulary, and its `logprob` is not finite."""
    return _draw(logits, uniform, decoding, seen)[0]


def _draw(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """Token ids, and the sum of exp(scaled logit - the greatest one) over the tokens that might have been drawn."""
    tokens, mass = _drawn(logits, uniform, decoding, seen)
    return jnp.minimum(tokens, logits.shape[-1] - 1), mass


def _drawn(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    scaled, uniform = _scaled(jnp.asarray(logits), decoding, seen), jnp.asarray(uniform)
    peak = peak_of(scaled)
    if decoding.temperature == 0:
        return first_greatest(scaled, peak), jnp.ones_like(uniform)
    size = logits.shape[-1]
    if 0 < decoding.top_k < size:
        weights, ids = _ranked(scaled, peak, decoding.top_k)
        return _among(weights, ids, weights.sum(axis=-1), uniform, decoding)
    if decoding.top_p == 1:
        return inverse_cdf(jnp.exp(scaled - peak), None, uniform, decoding.min_p)
    weights, ids = _ranked(scaled, peak, min(FEW, size))
    total = mass_of(scaled, peak)
    missing = weights.sum(axis=-1) < decoding.top_p * total
    return _search(scaled - peak, total, uniform, decoding, _among(weights, ids, total, uniform, decoding), missing)


def draw_with_logprob(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """`draw`, and the token's `logprob`. What both need of the vocabulary (its maximum, and where the temperature is 1 its mass)
    is written alike, so that the compiler computes it once."""
    token = draw(logits, uniform, decoding, seen)
    return token, logprob(logits, token)


def draw_with_logprobs(
    logits: Float[Array, "B V"], uniform: Float[Array, " B"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """`draw`, the token's `logprob`, and its `sampled_logprob`, for which the draw has all but a logarithm."""
    token, mass = _draw(logits, uniform, decoding, seen)
    scaled = _scaled(jnp.asarray(logits), decoding, seen)
    chosen = jnp.take_along_axis(scaled, token[:, None], axis=1) - peak_of(scaled)
    sampled = jnp.zeros_like(mass) if decoding.temperature == 0 else chosen[:, 0] - jnp.log(mass)
    return token, logprob(logits, token), sampled


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
        other = draw(jnp.where(_below(limit, logits), logits, -jnp.inf), again, decoding, seen)
        return jnp.where(beyond, other, token), jnp.where(beyond, logprob(logits, other), own)

    return jax.lax.cond(beyond.any(), anew, lambda: (token, own))


def logprob(logits: Float[Array, "B V"], token: Int[Array, " B"]) -> Float[Array, " B"]:
    """A token's log-probability under the model itself: no penalty, no temperature, no truncation. It is finite where the row's
    logits are a distribution that can give the token, and only there."""
    peak = jax.lax.stop_gradient(peak_of(logits))
    chosen = jnp.take_along_axis(logits, token[:, None], axis=1) - peak
    return chosen[:, 0] - jnp.log(mass_of(logits, peak))


def support(
    logits: Float[Array, "B V"], decoding: Decoding, seen: Bool[Array, "B V"] | None = None, limit: int | None = None
) -> Bool[Array, "B V"]:
    """Which tokens `draw` may give, or with a `limit` `draw_within`: those that temperature (at 0 the greatest alone), top-k,
    top-p and min-p leave. Where rounding decides what belongs to top-p, it may decide otherwise in another program. No gradient
    passes."""
    logits = jax.lax.stop_gradient(jnp.asarray(logits))
    whole = _support(logits, decoding, seen)
    if limit is None:
        return whole
    within = _below(limit, logits)
    again = (whole & ~within).any(axis=-1, keepdims=True)
    return jax.lax.cond(
        again.any(),
        lambda: (whole & within) | (again & _support(jnp.where(within, logits, -jnp.inf), decoding, seen)),
        lambda: whole & within,
    )


def sampled_logprob(
    logits: Float[Array, "B V"],
    token: Int[Array, " B"],
    decoding: Decoding,
    seen: Bool[Array, "B V"] | None = None,
    limit: int | None = None,
) -> Float[Array, " B"]:
    """A token's log-probability to be drawn from such logits by `draw`, or with a `limit` by `draw_within`: log-softmax after
    repetition penalty and temperature over the tokens of `support`, to which the token is counted in any case. 0 where the
    temperature is 0, float32, natural logarithm. Differentiable in the logits, with a support that stays."""
    logits = jnp.asarray(logits)
    if decoding.temperature == 0:
        return jnp.zeros(logits.shape[0], jnp.float32)
    scaled = _scaled(logits, decoding, seen)
    if not decoding.truncates:
        return logprob(scaled if limit is None else jnp.where(_below(limit, logits), scaled, -jnp.inf), token)
    own = jnp.arange(logits.shape[-1])[None] == token[:, None]
    whole = _support(jax.lax.stop_gradient(logits), decoding, seen)
    alone = logprob(jnp.where(whole | own, scaled, -jnp.inf), token)
    if limit is None:
        return alone
    again = (whole & ~_below(limit, logits)).any(axis=-1)
    return jax.lax.cond(
        again.any(),
        lambda: jnp.where(again, _drawn_anew(logits, scaled, whole, own, token, decoding, seen, limit), alone),
        lambda: alone,
    )


def _drawn_anew(
    logits: Float[Array, "B V"],
    scaled: Float[Array, "B V"],
    whole: Bool[Array, "B V"],
    own: Bool[Array, "B V"],
    token: Int[Array, " B"],
    decoding: Decoding,
    seen: Bool[Array, "B V"] | None,
    limit: int,
) -> Float[Array, " B"]:
    """`sampled_logprob` where ids from `limit` on belong to the support: a token comes at once, or after one of them among those
    that are then left."""
    within = _below(limit, logits)
    left = _support(jnp.where(within, jax.lax.stop_gradient(logits), -jnp.inf), decoding, seen)
    at_once = (own & (whole | ~left)).any(axis=-1)  # what belongs to neither is counted to the first
    later = (own & left).any(axis=-1)
    chosen = jnp.take_along_axis(scaled, token[:, None], axis=1)[:, 0]
    every = _log_sum(scaled, whole | (own & ~left))
    other, rest = _log_sum(scaled, whole & ~within), _log_sum(scaled, left)
    return jnp.logaddexp(jnp.where(at_once, chosen - every, -jnp.inf), jnp.where(later, chosen - rest + other - every, -jnp.inf))


def _log_sum(logits: Float[Array, "B V"], which: Bool[Array, "B V"]) -> Float[Array, " B"]:
    """The logarithm of the sum of exp(logits) of those; a large negative number where there are none."""
    chosen = jnp.where(which, logits, -jnp.inf)
    peak = jnp.maximum(jax.lax.stop_gradient(peak_of(chosen)), jnp.finfo(jnp.float32).min)
    return peak[:, 0] + jnp.log(jnp.maximum(mass_of(chosen, peak), jnp.finfo(jnp.float32).tiny))


def _below(limit: int, logits: Float[Array, "B V"]) -> Bool[Array, "1 V"]:
    return (jnp.arange(logits.shape[-1]) < limit)[None]


def _support(logits: Float[Array, "B V"], decoding: Decoding, seen: Bool[Array, "B V"] | None) -> Bool[Array, "B V"]:
    scaled = _scaled(logits, decoding, seen)
    peak, size = peak_of(scaled), logits.shape[-1]
    if decoding.temperature == 0:
        return jnp.arange(size)[None] == first_greatest(scaled, peak)[:, None]

    def among(weights: Float[Array, "B K"], ids: Int[Array, "B K"], total: Float[Array, " B"]) -> Bool[Array, "B V"]:
        rows = jnp.arange(len(ids))[:, None]
        return jnp.zeros(scaled.shape, bool).at[rows, ids].set(_kept(weights, total, decoding) > 0)

    if 0 < decoding.top_k < size:
        ranked, ids = _ranked(scaled, peak, decoding.top_k)
        return among(ranked, ids, ranked.sum(axis=-1))
    weights = jnp.exp(scaled - peak)
    least = (weights > 0) & (weights >= decoding.min_p)
    if decoding.top_p == 1:
        return least
    ranked, ids = _ranked(scaled, peak, min(FEW, size))
    total = mass_of(scaled, peak)
    missing = ranked.sum(axis=-1) < decoding.top_p * total

    def one(rows: Int[Array, " G"], kept: Bool[Array, "B V"]) -> Bool[Array, "B V"]:
        among_all = cut(weights[rows], *edge_of(weights[rows], decoding.top_p * total[rows, None])) > 0
        return kept.at[rows].set(jnp.where(missing[rows, None], among_all & least[rows], kept[rows]))

    return _in_groups(missing, one, among(ranked, ids, total))


def most_probable(logits: Float[Array, "B V"], count: int, limit: int | None = None) -> TopK:
    """The `count` most probable tokens, of those with ids below `limit`, and the mass of all other tokens, under the model itself
    as in `logprob`."""
    peak = peak_of(logits)
    total = peak[:, 0] + jnp.log(mass_of(logits, peak))
    within = logits if limit is None else jnp.where(jnp.arange(logits.shape[-1]) < limit, logits, -jnp.inf)
    values, ids = top(within, count)
    others = logits.at[jnp.arange(logits.shape[0])[:, None], ids].set(-jnp.inf)
    return TopK(ids, values - total[:, None], jax.nn.logsumexp(others, axis=-1) - total)


def _scaled(logits: Float[Array, "B V"], decoding: Decoding, seen: Bool[Array, "B V"] | None) -> Float[Array, "B V"]:
    """Logits after repetition penalty and temperature."""
    if decoding.repetition_penalty != 1:
        if seen is None:
            raise ValueError("a repetition penalty needs `seen`")
        penalty = decoding.repetition_penalty
        logits = jnp.where(seen, jnp.where(logits < 0, logits * penalty, logits / penalty), logits)
    return logits if decoding.temperature in (0, 1) else logits * (1.0 / decoding.temperature)


def _ranked(scaled: Float[Array, "B V"], peak: Float[Array, "B 1"], count: int) -> tuple[Float[Array, "B K"], Int[Array, "B K"]]:
    values, ids = top(scaled, count)
    return jnp.exp(values - peak), ids


def _among(
    weights: Float[Array, "B K"],
    ids: Int[Array, "B K"],
    total: Float[Array, " B"],
    uniform: Float[Array, " B"],
    decoding: Decoding,
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """The draw among tokens in the order of their weights, and the sum of the weights that are left."""
    weights = _kept(weights, total, decoding)
    mass = weights.sum(axis=-1)
    rank, _ = locate(weights, uniform * mass)
    return jnp.take_along_axis(ids, rank[:, None], axis=1)[:, 0], mass


def _kept(weights: Float[Array, "B K"], total: Float[Array, " B"], decoding: Decoding) -> Float[Array, "B K"]:
    """Weights in descending order, with those set to 0 that top-p of `total` and min-p leave out."""
    if decoding.top_p < 1:
        before = jnp.cumsum(weights, axis=-1) - weights
        weights = jnp.where(before < decoding.top_p * total[:, None], weights, 0.0)
    return jnp.where(weights >= decoding.min_p, weights, 0.0) if decoding.min_p else weights


def _search(
    relative: Float[Array, "B V"],
    total: Float[Array, " B"],
    uniform: Float[Array, " B"],
    decoding: Decoding,
    drawn: tuple[Int[Array, " B"], Float[Array, " B"]],
    missing: Bool[Array, " B"],
) -> tuple[Int[Array, " B"], Float[Array, " B"]]:
    """Replaces what was drawn in the rows that are missing. Logits are relative to the greatest."""

    def one(rows: Int[Array, " G"], drawn: tuple[Array, Array]) -> tuple[Array, Array]:
        weights = jnp.exp(relative[rows])
        edge = edge_of(weights, decoding.top_p * total[rows, None])
        anew = inverse_cdf(weights, edge, uniform[rows], decoding.min_p)
        return jax.tree.map(lambda old, new: old.at[rows].set(jnp.where(missing[rows], new, old[rows])), drawn, anew)

    return _in_groups(missing, one, drawn)


def _in_groups(missing: Bool[Array, " B"], one: Callable[[Int[Array, " G"], T], T], start: T) -> T:
    """`one(rows, state)` over the rows that are missing (and some others), a group of them at a time: the cost is that of the
    rows that need it, and a group stays in a processor's cache."""
    group = min(len(missing), max(GROUP, len(missing) // GROUP))
    order = jnp.argsort(~missing)

    def step(number: Array, state: T) -> T:
        return one(jax.lax.dynamic_slice_in_dim(order, number * group, group), state)

    return jax.lax.fori_loop(0, -(-missing.sum() // group), step, start)
