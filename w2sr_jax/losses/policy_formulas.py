"""The arithmetic of the policy losses in `policy`. Useful in losses of your own. All return float32 [T]."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from w2sr_jax.losses.formulas import target_logprob
from w2sr_jax.losses.inputs import Rollout, Tokens

FARTHEST = 20.0
"""Largest logarithm of a ratio that is told apart: e^20 squared is still a float32, and no gradient comes from beyond it."""


def bounded_exp(log_ratio: Float[Array, "*N"]) -> Float[Array, "*N"]:
    """e^x, without the infinities that make a gradient nan."""
    return jnp.exp(jnp.clip(log_ratio, -FARTHEST, FARTHEST))


def clipped(log_ratio: Float[Array, "*N"], advantage: Float[Array, "*N"], clip: tuple[float, float] | None) -> Float[Array, "*N"]:
    """-min(ρ A, clip(ρ, 1 - lo, 1 + hi) A); without a clip -ρ A."""
    ratio = bounded_exp(log_ratio)
    if clip is None:
        return -ratio * advantage
    return -jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip[0], 1.0 + clip[1]) * advantage)


def is_clipped(
    log_ratio: Float[Array, "*N"], advantage: Float[Array, "*N"], clip: tuple[float, float] | None
) -> Float[Array, "*N"]:
    """1 where `clipped` has no gradient, since the ratio has left its interval in the direction of the advantage; else 0."""
    if clip is None:
        return jnp.zeros_like(log_ratio)
    ratio = bounded_exp(log_ratio)
    low, high = (ratio < 1.0 - clip[0]) & (advantage < 0.0), (ratio > 1.0 + clip[1]) & (advantage > 0.0)
    return (low | high).astype(jnp.float32)


def reinforce(rollout: Rollout, cap: float | None) -> Float[Array, " T"]:
    """-A log p; with a cap times min(ρ, cap), held constant."""
    weight = 1.0 if cap is None else jnp.minimum(jax.lax.stop_gradient(bounded_exp(rollout.log_ratio)), cap)
    return -weight * rollout.advantage * rollout.logprob


def k3(tokens: Tokens, model: str) -> Float[Array, " T"]:
    """e^d - d - 1 with d = log π_model - log π at the target; 0 where the model's distribution is not known."""
    there = target_logprob(tokens._replace(logits=tokens.logprobs_of(model)))
    difference = jnp.clip(there - target_logprob(tokens), -FARTHEST, FARTHEST)
    return jnp.where(tokens.available(model), jnp.expm1(difference) - difference, 0.0)
