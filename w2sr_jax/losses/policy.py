"""Policy losses: token losses on texts that the student wrote itself, with advantages that come from their rewards.

They are losses like all others, so `DrGrpo() + 0.01 * K3()` is one. Two more things belong to them: how rewards become
advantages, and what the sum over tokens is divided by. Importing this module does not import jax.

ρ is the probability of a token now over that with which it was drawn, both under the distribution that was sampled (temperature
and truncation included), A its rollout's advantage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.core.code.unloaded import unloaded
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.advantages import Advantages, Centered, LeaveOneOut, Standardized
from w2sr_jax.losses.inputs import Tokens, attribute
from w2sr_jax.losses.token import Divergence, Loss, OnCorrect, OnIncorrect, OnSpans, Sum, Weighted

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int

Denominator = Literal["sequence", "token", "constant"] | int
"""What the sum over the tokens of a step is divided by (`token_weights`)."""


def token_weights(
    denominator: Denominator, lengths: Int[np.ndarray, " N"], counted: Bool[np.ndarray, " N"], most: int
) -> Float[np.ndarray, " N"]:
    """The weight of each token of each of a step's N rollouts, so that Σ weight · loss over all tokens is the declared mean.

    `lengths` are numbers of tokens that are learned from; a rollout that is not `counted`, as one that was cut off or whose group
    has equal rewards, has the weight 0. `most` is the number of tokens that a rollout may have.

    - `"sequence"`: the mean over each rollout's tokens, then over all N rollouts (GRPO).
    - `"token"`: the mean over the tokens of the counted rollouts (DAPO).
    - `"constant"`: the sum over tokens, divided by N · `most` (Dr.GRPO); a whole number d stands for N · d.

    Rollouts that are not counted are still among the N, as in TRL, where masking a rollout leaves the others' weights as they
    are; of the denominator "token" they have no part, there as here.
    """
    lengths, counted = np.asarray(lengths), np.asarray(counted, bool)
    if denominator == "sequence":
        weights = 1.0 / (len(lengths) * np.maximum(lengths, 1))
    elif denominator == "token":
        weights = np.full(len(lengths), 1.0 / max(int(lengths[counted].sum()), 1))
    else:
        each = most if denominator == "constant" else denominator
        weights = np.full(len(lengths), 1.0 / (max(len(lengths), 1) * each))
    return np.where(counted, weights, 0.0)


@dataclass(frozen=True)
class PolicyLoss(Loss):
    """Base of the losses on rollouts that are driven by advantages. One of your own is a subclass, or a function with the
    attributes `needs_rollouts`, `advantages` and `denominator`; it reads `tokens.drawn()`."""

    advantages: Advantages = Centered()
    """How rewards become advantages: one of `losses.advantages`, or a function from rewards [P, K] to as many numbers."""
    denominator: Denominator = "constant"
    """What the sum over tokens is divided by: "sequence", "token", "constant", or a number of tokens per rollout."""

    needs_rollouts = True

    def __post_init__(self) -> None:
        check_advantages(type(self).__name__, self.advantages)
        check_denominator(type(self).__name__, self.denominator)


@dataclass(frozen=True)
class Reinforce(PolicyLoss):
    """-A log p (Williams 1992), with the mean reward of a problem's other rollouts as the baseline.

    With a cap for importance weights it is -min(ρ, cap) A log p, the weight held constant, which corrects for rollouts that an
    earlier student drew and bounds the variance that this costs (truncated importance sampling, Ionides 2008).
    """

    advantages: Advantages = LeaveOneOut()
    """How rewards become advantages."""
    importance: float | None = None
    """Largest importance weight, above 0; None: no weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.importance is not None and not self.importance > 0.0:
            raise UserError(f"Reinforce.importance is {self.importance}; it must be above 0, or None")

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import policy_formulas

        return policy_formulas.reinforce(tokens.drawn(), self.importance)


@dataclass(frozen=True)
class Grpo(PolicyLoss):
    """-min(ρ A, clip(ρ, 1 - lo, 1 + hi) A), with rewards standardized within a problem and the mean over each rollout's tokens
    (Shao et al. 2024, arXiv 2402.03300). Its KL term is a loss of its own: `Grpo() + 0.001 * K3()`."""

    advantages: Advantages = Standardized()
    """How rewards become advantages."""
    denominator: Denominator = "sequence"
    """What the sum over tokens is divided by."""
    clip: tuple[float, float] | None = (0.2, 0.2)
    """How far below and above 1 the ratio may move before its gradient ends; None: any distance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_clip(type(self).__name__, self.clip)

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import policy_formulas

        rollout = tokens.drawn()
        return policy_formulas.clipped(rollout.log_ratio, rollout.advantage, self.clip)


@dataclass(frozen=True)
class DrGrpo(Grpo):
    """GRPO without its two biases: rewards are only centred, and the sum over tokens is divided by a constant, so that neither
    easy problems nor short right and long wrong answers count more (Liu et al. 2025, arXiv 2503.20783)."""

    advantages: Advantages = Centered()
    """How rewards become advantages."""
    denominator: Denominator = "constant"
    """What the sum over tokens is divided by."""


@dataclass(frozen=True)
class Dapo(Grpo):
    """GRPO with more room above than below and the mean over all tokens of the step (Yu et al. 2025, arXiv 2503.14476). Its other
    two parts belong to the rollouts: problems without variance are replaced, and too long answers are punished by a reward."""

    denominator: Denominator = "token"
    """What the sum over tokens is divided by."""
    clip: tuple[float, float] | None = (0.2, 0.28)
    """How far below and above 1 the ratio may move before its gradient ends; None: any distance."""


@dataclass(frozen=True)
class K3(Divergence):
    """e^d - d - 1 with d = log π_model - log π at the drawn token: an estimate of KL(student || model) that is never negative
    (Schulman 2020), and in expectation has the gradient of KL(model || student) in the student.

    The expectation is that of texts that the student draws from its own distribution, at temperature 1 without truncation. Exact
    divergences over the vocabulary are `ReverseKL` and `ForwardKL`.
    """

    needs_rollouts = True

    def __call__(self, tokens: Tokens) -> Float[Array, " T"]:
        from w2sr_jax.losses import policy_formulas

        tokens.drawn()
        return policy_formulas.k3(tokens, self.model)


class Learning(NamedTuple):
    """What a loss on rollouts asks for besides tokens; None where it does not say."""

    advantages: Advantages | None
    denominator: Denominator | None
    clip: tuple[float, float] | None = None
    """Not asked for, but to be watched: where its ratios are clipped."""


def needs_rollouts(loss: Any, unknown: bool = False) -> bool:
    """Whether a loss, or a term of it, looks at texts that the student wrote itself; `unknown` where that is not known, since a
    term is a user's whose code was not executed."""
    return any(unknown if unloaded(part) else bool(attribute(part, "needs_rollouts")) for part in _parts(loss))


def learning(loss: Any) -> Learning:
    """The advantages and the denominator that a loss, or a term of it, asks for, and its clip. `UserError` where two terms
    disagree."""
    return Learning(_agreed(loss, "advantages"), _agreed(loss, "denominator"), _agreed(loss, "clip"))


def check_denominator(name: str, denominator: Denominator) -> None:
    """`UserError` where a denominator of what is called `name` is none."""
    if denominator in ("sequence", "token", "constant"):
        return
    if not isinstance(denominator, int) or isinstance(denominator, bool) or denominator < 1:
        raise UserError(
            f"{name}.denominator is {sentences.value(denominator, 60)}; it must be 'sequence', 'token', 'constant' or a number "
            "of tokens, at least 1"
        )


def check_advantages(name: str, rule: Advantages) -> None:
    """`UserError` where what should make advantages of rewards, of what is called `name`, cannot be called."""
    if isinstance(rule, type) or not callable(rule):
        write = f": write {rule.__name__}()" if isinstance(rule, type) else ""
        raise UserError(
            f"{name}.advantages is {sentences.value(rule, 60)}; it must be a function from rewards to advantages{write}"
        )


def check_clip(name: str, clip: tuple[float, float] | None) -> None:
    """`UserError` where an interval for ratios, of what is called `name`, is none."""
    if clip is not None and not (len(clip) == 2 and 0.0 < clip[0] <= 1.0 and clip[1] > 0.0):
        raise UserError(
            f"{name}.clip is {sentences.value(clip, 60)}; it must be how far below 1 (above 0, at most 1) and "
            "how far above 1 (above 0) the ratio may be, or None"
        )


def _parts(loss: Any) -> Iterator[Any]:
    """The losses that sums, coefficients and selectors hold."""
    if isinstance(loss, Sum):
        for term in loss.terms:
            yield from _parts(term)
    elif isinstance(loss, Weighted | OnCorrect | OnIncorrect | OnSpans):
        yield from _parts(loss.loss)
    else:
        yield loss


def _agreed(loss: Any, name: str) -> Any:
    asked = [value for part in _parts(loss) if (value := attribute(part, name)) is not None]
    for value in asked[1:]:
        if value != asked[0]:
            raise UserError(
                f"terms of one loss ask for the {name} {sentences.value(asked[0], 60)} and {sentences.value(value, 60)}; a step "
                "has one of them: give all terms the same"
            )
    return asked[0] if asked else None
