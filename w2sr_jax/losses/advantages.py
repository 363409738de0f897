"""From the rewards of a step's rollouts to their advantages: how much better each is than the others of its problem. No jax.

Any function from rewards [P, K] (P problems, K rollouts each) to advantages of the same shape will do; these are the usual ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float

    Advantages = Callable[[Float[np.ndarray, "P K"]], Any]
    """From the rewards of P problems with K rollouts each to advantages of the same shape."""
else:
    Advantages = Any  # lets the command line offer the fields of whichever kind an experiment holds


class Advantage(Extendable):
    """Base of the kinds of advantages here. Subclass it as a frozen dataclass, or use a plain function."""

    reads_rewards = True
    """Whether rewards have any influence; False for a control."""

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        raise NotImplementedError


@dataclass(frozen=True)
class Centered(Advantage):
    """A = r - mean of the problem's rollouts (Dr.GRPO, Liu et al. 2025, arXiv 2503.20783)."""

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        return np.where(has_variance(rewards)[:, None], rewards - rewards.mean(axis=1, keepdims=True), 0.0)


@dataclass(frozen=True)
class Standardized(Advantage):
    """A = (r - mean) / (std + epsilon) within a problem (GRPO, Shao et al. 2024, arXiv 2402.03300).

    The standard deviation divides by K - 1, as that of PyTorch and TRL; TRL's epsilon is 1e-4. A single rollout has the advantage
    0.
    """

    epsilon: float = 1e-6
    """Added to the standard deviation. Above 0."""

    def __post_init__(self) -> None:
        if not self.epsilon > 0.0:
            raise UserError(f"Standardized.epsilon is {self.epsilon}; it must be above 0")

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        centered = Centered()(rewards)
        return centered if rewards.shape[1] < 2 else centered / (rewards.std(axis=1, keepdims=True, ddof=1) + self.epsilon)


@dataclass(frozen=True)
class LeaveOneOut(Advantage):
    """A = r - mean of the problem's other rollouts, which leaves the gradient without bias (RLOO, Ahmadian et al. 2024, arXiv
    2402.14740). It is K / (K - 1) times `Centered`; a single rollout has its reward as its advantage."""

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        count = rewards.shape[1]
        return rewards * 1.0 if count < 2 else Centered()(rewards) * (count / (count - 1))


@dataclass(frozen=True)
class RightOnly(Advantage):
    """A = 1 where the reward is at least `threshold`, else 0: imitation of the student's own right texts (rejection sampling;
    RAFT, Dong et al. 2023, arXiv 2304.06767)."""

    threshold: float = 0.5
    """Least reward of what is imitated."""

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        return (rewards >= self.threshold).astype(np.float64)


@dataclass(frozen=True)
class Fixed(Advantage):
    """The same advantage for all rollouts, whatever their rewards: the control of what a step does without any teacher or reward.
    A negative one moves the student away from all that it writes."""

    reads_rewards = False

    value: float = -1.0
    """The advantage of every rollout."""

    def __call__(self, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
        return np.full(rewards.shape, self.value, np.float64)


def advantages(rule: Advantages, rewards: Float[np.ndarray, "P K"]) -> Float[np.ndarray, "P K"]:
    """What `rule` makes of rewards, float64. `UserError` where that is not one finite number for each rollout."""
    rewards = np.asarray(rewards, np.float64)
    made = np.asarray(rule(rewards.copy()))
    name = sentences.value(rule, 80)
    if made.shape != rewards.shape:
        raise UserError(
            f"the advantages {name} return shape {list(made.shape)} for rewards of shape {list(rewards.shape)}; they must return "
            "one number for each rollout"
        )
    if made.dtype.kind not in "fiu" or not np.isfinite(made).all():
        raise UserError(f"the advantages {name} return {_other(made)}; they must return finite numbers")
    return made.astype(np.float64)


def has_variance(rewards: Float[np.ndarray, "P K"]) -> Any:
    """Bool [P]: whether the rollouts of a problem differ in reward; where they do not, comparing them teaches nothing."""
    return rewards.max(axis=1) != rewards.min(axis=1)


def _other(made: np.ndarray) -> str:
    if made.dtype.kind not in "fiu":
        return f"values of type {made.dtype}"
    return sentences.value(float(made[~np.isfinite(made)][0]), 20)
