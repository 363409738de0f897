"""How a student's answers are drawn, and what becomes of them: settings, and the pure functions that weigh them. No jax."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from w2sr_jax.core.records import Rollout
from w2sr_jax.losses.advantages import Advantages, advantages
from w2sr_jax.losses.policy import Denominator, token_weights
from w2sr_jax.training.policy.rewards import RewardFunction

NO_VARIANCE, SURPLUS, TRUNCATED = "no variance", "surplus", "truncated"
"""Why nothing is learned from a rollout: all answers to its problem have one reward; its draw had enough of others; it did not
end."""


@dataclasses.dataclass(frozen=True)
class Draws:
    """How rollouts are drawn and used. See `experiment.policy.Policy`, whose fields of the same names these are."""

    steps: int
    """Optimizer steps."""
    problems: int
    """Problems that are asked at a time."""
    samples: int
    """Answers to each."""
    length: int
    """Positions of a row."""
    advantages: Advantages
    denominator: Denominator
    rewards: tuple[RewardFunction, ...]
    reuse: int = 1
    redraws: int = 0
    truncated: Literal["mask", "count"] = "mask"
    flat: Literal["drop", "keep"] = "drop"
    """Whether problems whose answers all have one reward are left out, or count, where a loss learns from more than rewards."""
    ahead: bool = False
    patience: int = 10
    parts: int = 1
    """Micro-batches of a step."""
    alone: bool = False
    """One rollout to a row, as losses on whole sequences take them."""

    @property
    def number(self) -> int:
        """How often is drawn."""
        return -(-self.steps // self.reuse)

    @property
    def rollouts(self) -> int:
        """Of a step."""
        return self.problems * self.samples

    def groups(self, rollouts: Sequence[Rollout]) -> list[list[Rollout]]:
        """The answers to each problem, in the order in which they were drawn."""
        return [list(rollouts[start : start + self.samples]) for start in range(0, len(rollouts), self.samples)]

    def varied(self, rollouts: Sequence[Rollout]) -> int:
        """How many problems have answers of different rewards."""
        return sum(_differ(group) for group in self.groups(rollouts))

    def weighed(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """Rewarded rollouts with their advantages, and with the reason for which some are left out. `UserError` where advantages
        of the user's own are no finite numbers."""
        groups = self.groups(rollouts)
        values = np.array([[rollout.reward for rollout in group] for group in groups], np.float64)
        used, weighed = 0, []
        for group, own in zip(groups, advantages(self.advantages, values), strict=True):
            flat = self.flat == "drop" and not _differ(group) and not own.any()
            surplus = not flat and used >= self.problems
            used += not flat and not surplus
            for rollout, advantage in zip(group, own, strict=True):
                cut = self.truncated == "mask" and rollout.finish == "length"
                reason = NO_VARIANCE if flat else SURPLUS if surplus else TRUNCATED if cut else ""
                weighed.append(dataclasses.replace(rollout, advantage=float(advantage), left_out=reason))
        return weighed

    def learned_from(self, rollouts: Sequence[Rollout], most: int) -> tuple[list[Rollout], Float[np.ndarray, " N"]]:
        """The rollouts that a step learns from, and the weight of each one's tokens. Those that are left out count in the
        denominator, as far as a step has so many rollouts. `most` is how many tokens an answer may have."""
        chosen = [rollout for rollout in rollouts if rollout.left_out != SURPLUS]
        chosen = sorted(chosen, key=lambda rollout: rollout.left_out == NO_VARIANCE)[: self.rollouts]
        lengths = np.array([rollout.tokens for rollout in chosen])
        counted = np.array([not rollout.left_out for rollout in chosen])
        weights = token_weights(self.denominator, lengths, counted, most)
        return [rollout for rollout in chosen if not rollout.left_out], weights[counted]


def _differ(group: Sequence[Rollout]) -> bool:
    return len({rollout.reward for rollout in group}) > 1
