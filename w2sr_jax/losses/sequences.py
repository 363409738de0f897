"""Losses on whole sequences: what they are given, how it is made of tokens, and GSPO. Importing this module does not import jax.

A sequence is one trace or rollout; several are packed into a row, as its segments 1, 2, …; a pair is two neighbours of a row, the
right one before the wrong one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from w2sr_jax.core.extendable import Extendable
from w2sr_jax.losses.advantages import Advantages, Standardized
from w2sr_jax.losses.policy import Denominator, check_advantages, check_clip

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


class Sequences(NamedTuple):
    """All that a loss on sequences may look at: R rows of S sequences, float32. Only `logprob` has a gradient.

    Where a row has fewer sequences, all is 0 of those that it lacks.
    """

    logprob: Float[Array, "R S"]
    """Sum over a sequence's supervised tokens of the student's log-probabilities. Of rollouts: of the distribution that the
    settings of sampling make of the student's."""
    tokens: Float[Array, "R S"]
    """Number of its supervised tokens."""
    reference: Float[Array, "R S"]
    """The same sum as `logprob` under the frozen student of the beginning; 0 where the loss does not use it."""
    advantage: Float[Array, "R S"]
    """Of a rollout; 0 where there are none."""
    sampled: Float[Array, "R S"]
    """Of a rollout the sum of the log-probabilities that its tokens were drawn with; 0 where there are none."""
    available: Bool[Array, "R S"]
    """Which sequences there are."""

    @property
    def mean_logprob(self) -> Float[Array, "R S"]:
        """`logprob` for each token, which does not grow with the length."""
        return self.logprob / self.lengths

    @property
    def lengths(self) -> Float[Array, "R S"]:
        """`tokens`, and 1 where there are none: to divide by."""
        import jax.numpy as jnp

        return jnp.maximum(self.tokens, 1.0)


class SequenceLoss(Protocol):
    """From sequences to losses, float32: one for each sequence, [R, S], or with `pairs` one for each pair, [R, S / 2]. Those of
    sequences that are not available count nothing, whatever they are."""

    @property
    def uses_reference(self) -> bool:
        """Whether it looks at `Sequences.reference`."""

    @property
    def pairs(self) -> bool:
        """Whether its losses are of pairs."""

    def __call__(self, sequences: Sequences) -> Any: ...


def of_tokens(
    logprob: Float[Array, "R L"],
    supervised: Bool[Array, "R L"],
    segments: Int[Array, "R L"],
    count: int,
    reference: Float[Array, "R S"] | None = None,
    advantage: Float[Array, "R S"] | None = None,
    sampled: Float[Array, "R L"] | None = None,
) -> Sequences:
    """The sequences of packed rows, `count` of each; differentiable in `logprob`. `segments` are 1 to `count`, as in a batch;
    what is not supervised has no part in the sums, whatever it is."""
    import jax
    import jax.numpy as jnp

    def summed(values: Any) -> Any:
        return sums(jnp.where(supervised, values, 0.0), segments, count)

    tokens = summed(jnp.ones(supervised.shape, jnp.float32))
    nothing = jnp.zeros(tokens.shape, jnp.float32)
    fixed = [
        nothing if reference is None else reference,
        nothing if advantage is None else advantage,
        nothing if sampled is None else summed(sampled),
    ]
    reference, advantage, sampled = (jax.lax.stop_gradient(value) for value in fixed)
    return Sequences(summed(logprob), tokens, reference, advantage, sampled, tokens > 0.0)


def sums(values: Float[Array, "R L"], segments: Int[Array, "R L"], count: int) -> Float[Array, "R S"]:
    """Sums over the positions of each row's segments 1 to `count`."""
    import jax.numpy as jnp

    own = segments[:, :, None] == jnp.arange(1, count + 1)
    return jnp.sum(jnp.where(own, values[:, :, None], 0.0), axis=1)


def available(loss: SequenceLoss, sequences: Sequences) -> Bool[Array, "R S"]:
    """Which of the losses that `loss` gives are of sequences, or pairs, that there are."""
    return sequences.available[:, 0::2] & sequences.available[:, 1::2] if loss.pairs else sequences.available


@dataclass(frozen=True)
class Gspo(Extendable):
    """-min(s A, clip(s, 1 - lo, 1 + hi) A) for each rollout, where s is the ratio of the whole rollout's probability now to that
    with which it was drawn, to the power of 1 over its length (GSPO, Zheng et al. 2025, arXiv 2507.18071).

    All tokens of a rollout are clipped together. Its loss is the mean over the rollouts of a step.
    """

    advantages: Advantages = Standardized()
    """How rewards become advantages."""
    clip: tuple[float, float] | None = (3e-4, 4e-4)
    """How far below and above 1 the ratio may move before its gradient ends; None: any distance. It is far less than for tokens,
    since the ratio is a mean over the rollout."""

    needs_rollouts: ClassVar[bool] = True
    uses_reference: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    denominator: ClassVar[Denominator] = "sequence"

    def __post_init__(self) -> None:
        check_advantages("Gspo", self.advantages)
        check_clip("Gspo", self.clip)

    def __call__(self, sequences: Sequences) -> Float[Array, "R S"]:
        from w2sr_jax.losses import policy_formulas

        log_ratio = (sequences.logprob - sequences.sampled) / sequences.lengths
        return policy_formulas.clipped(log_ratio, sequences.advantage, self.clip)
