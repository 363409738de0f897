"""How much each supervised token counts: by the span it belongs to, the verdict on its trace, and its teacher's confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from w2sr_jax.core.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Array, Float, Int


@dataclass(frozen=True)
class TokenWeights:
    """Factors on the weight of a token; a weight scales the loss and its denominator alike."""

    reasoning: float = 1.0
    """Factor on reasoning tokens."""
    answer: float = 1.0
    """Factor on answer tokens."""
    end: float = 1.0
    """Factor on the end-of-turn token; never 0, or the student does not learn to stop."""
    correct: float = 1.0
    """Factor on tokens of correct traces."""
    incorrect: float = 1.0
    """Factor on tokens of incorrect traces."""
    unknown: float = 1.0
    """Factor on tokens of ungraded traces."""
    confidence_gamma: float = 0.0
    """Exponent of the teacher's probability of the token; 0: the teacher's confidence does not matter."""

    def __post_init__(self) -> None:
        for name in ("reasoning", "answer", "correct", "incorrect", "unknown", "confidence_gamma"):
            if not getattr(self, name) >= 0.0:
                raise UserError(f"TokenWeights.{name} is {getattr(self, name)}; it must be 0 or more")
        if not self.end > 0.0:
            raise UserError(f"TokenWeights.end is {self.end}; it must be above 0, or the student never learns to stop")

    def __call__(
        self,
        span: Int[Array, "*N"],
        verdict: Int[Array, "*N"],
        teacher_logprob: Float[Array, "*N"],
        weight: Float[Array, "*N"],
    ) -> Float[Array, "*N"]:
        """New weights from `weight` (float32, 0 where unsupervised), for all the tokens of an optimizer step at once.

        The confidence factor is normalised over the tokens given, so that it keeps their total weight; a token whose teacher's
        log-probability is unknown (nan) has factor 1.
        """
        import jax.numpy as jnp

        one = jnp.float32
        by_span = jnp.select([span == 1, span == 2, span == 3], [one(self.reasoning), one(self.answer), one(self.end)], one(1.0))
        by_verdict = jnp.select([verdict > 0, verdict < 0], [one(self.correct), one(self.incorrect)], one(self.unknown))
        new = weight * by_span * by_verdict
        if self.confidence_gamma != 0.0:
            stated = ~jnp.isnan(teacher_logprob)
            confidence = jnp.exp(self.confidence_gamma * jnp.where(stated, teacher_logprob, 0.0))
            counted = stated.astype(jnp.float32)
            before, after = jnp.sum(new * counted), jnp.sum(new * counted * confidence)
            new *= jnp.where(stated, confidence * before / jnp.where(after > 0.0, after, 1.0), 1.0)
        return new.astype(jnp.float32)


def trimmed(losses: Float[Array, "*N"], weight: Float[Array, "*N"], fraction: float | Float[Array, ""]) -> Float[Array, "*N"]:
    """`weight`, with 0 for the `fraction` of supervised tokens whose losses are highest.

    Exact where it is given all the tokens of an optimizer step, however they are split for accumulation. Of n supervised tokens
    at most floor(fraction n) are dropped (fewer where losses tie at the threshold). A loss that is not finite is never dropped,
    so that it stays visible.
    """
    import jax.numpy as jnp

    supervised = weight != 0.0
    descending = -jnp.sort(jnp.where(supervised, -losses, jnp.inf), axis=None)
    dropped = jnp.floor(fraction * jnp.sum(supervised).astype(jnp.float32)).astype(jnp.int32)
    threshold = descending[dropped]
    return jnp.where(supervised & (losses > threshold) & jnp.isfinite(losses), 0.0, weight)
