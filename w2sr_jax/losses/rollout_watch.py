"""What is watched in a training on rollouts. Importing this module does not import jax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from w2sr_jax.losses.inputs import INITIAL, Tokens

if TYPE_CHECKING:
    from jaxtyping import Array, Float

FAR = 0.1
"""Ratios that are farther from 1 are counted. There are none on one device in float32 while the student is the one that drew."""


@dataclass(frozen=True)
class RolloutWatch:
    """The diagnostics of a policy step (a `losses.sums.Watch`), each the mean over its tokens where divided by their number.

    `entropy`: of the student's distribution, nats. `ratio`: ρ; `ratio_far`: 1 where it is farther than 10 % from 1; `clipped`: 1
    where the clip has ended the gradient. `kl`, with `initial`: an estimate of KL(student || initial student). As a peak
    `ratio_deviation`: the largest |ρ - 1|, trainer against sampler.
    """

    clip: tuple[float, float] | None = None
    """That of the loss."""
    initial: bool = False
    """Whether to look at the initial student too, which costs its forward pass where no loss looks at it."""

    @property
    def models(self) -> tuple[str, ...]:
        return (INITIAL,) if self.initial else ()

    @property
    def sums(self) -> tuple[str, ...]:
        return ("entropy", "ratio", "ratio_far", "clipped", *(("kl",) if self.initial else ()))

    @property
    def peaks(self) -> tuple[str, ...]:
        return ("ratio_deviation",)

    def __call__(self, tokens: Tokens) -> Mapping[str, Float[Array, " T"] | Any]:
        import jax.numpy as jnp

        from w2sr_jax.losses import formulas, policy_formulas

        rollout = tokens.drawn()
        ratio = policy_formulas.bounded_exp(rollout.log_ratio)
        deviation = jnp.abs(ratio - 1.0)
        values = {
            "entropy": formulas.entropy(tokens),
            "ratio": ratio,
            "ratio_far": deviation > FAR,
            "clipped": policy_formulas.is_clipped(rollout.log_ratio, rollout.advantage, self.clip),
            "ratio_deviation": deviation,
        }
        return {**values, "kl": policy_formulas.k3(tokens, INITIAL)} if self.initial else values
