"""The arithmetic of the losses in `shift`. Useful in losses of your own."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from w2sr_jax.losses.formulas import target_logit
from w2sr_jax.losses.inputs import Tokens

FLOOR = -100.0
"""The smallest log-probability that is told apart in a ratio: two models that both rule a token out do not disagree about it."""

Ratio = Callable[[Float[Array, "T V"], Float[Array, "T V"]], Float[Array, "T V"]]
"""From the log-probabilities of two models to how much more probable the first finds each token."""


def log_ratio(positive: Float[Array, "T V"], negative: Float[Array, "T V"]) -> Float[Array, "T V"]:
    """log π₊ - log π₋."""
    return jnp.maximum(positive, FLOOR) - jnp.maximum(negative, FLOOR)


def power_ratio(positive: Float[Array, "T V"], negative: Float[Array, "T V"], alpha: float) -> Float[Array, "T V"]:
    """(π₊^α - π₋^α) / α."""
    return (jnp.expm1(alpha * positive) - jnp.expm1(alpha * negative)) / alpha


def tilted(
    anchor: Float[Array, "T V"], shift: Float[Array, "T V"], strength: float, shuffle: bool = False
) -> Float[Array, "T V"]:
    """log π* = log π_anchor + λ shift - log Z. With `shuffle` each token has another's shift, always the same other's."""
    if shuffle:
        # RandomState's numbers are the same in every version of NumPy.
        shift = shift[:, np.random.RandomState(0).permutation(shift.shape[-1])]
    return jax.nn.log_softmax(anchor + strength * shift, axis=-1)


def divergence(
    target: Float[Array, "T V"], logits: Float[Array, "T V"], direction: Literal["reverse", "forward"], top: int
) -> Float[Array, " T"]:
    """KL(π ‖ π*), or forward KL(π* ‖ π), from the target's log-probabilities and the student's logits; with `top` above 0 both of
    them renormalised over the target's `top` most probable tokens."""
    if top:
        best, ids = jax.lax.top_k(target, min(top, target.shape[-1]))
        target, logits = jax.nn.log_softmax(best, axis=-1), jnp.take_along_axis(logits, ids, axis=-1)
    student = jax.nn.log_softmax(logits, axis=-1)
    p, q = (student, target) if direction == "reverse" else (target, student)
    possible = p > -jnp.inf
    difference = jnp.where(possible, p, 0.0) - jnp.where(possible, q, 0.0)
    return jnp.sum(jnp.exp(p) * jnp.where(possible, difference, 0.0), axis=-1)


def at_target(tokens: Tokens, values: Float[Array, "T V"]) -> Float[Array, " T"]:
    """Each token's own entry."""
    return target_logit(tokens._replace(logits=values))


def all_available(tokens: Tokens, models: Sequence[str]) -> Bool[Array, " T"]:
    """Where the distributions of all the models are known."""
    known = jnp.ones(tokens.target.shape, bool)
    for model in models:
        known &= tokens.available(model)
    return known
