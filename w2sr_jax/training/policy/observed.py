"""What is observed of the rollouts of a draw: rewards, lengths, and what betrays a policy that games its reward."""

from collections.abc import Mapping, Sequence

import numpy as np

from w2sr_jax.answers.quality import loops
from w2sr_jax.core.records import Rollout
from w2sr_jax.training.policy.draws import Draws
from w2sr_jax.training.policy.rewards import bare


def of(draws: Draws, rollouts: Sequence[Rollout]) -> Mapping[str, float]:
    """Means over all rollouts of a draw, also those that nothing is learned from: `reward`, `correct`, `length` in tokens,
    `truncated`, `looping` (`answers.quality.loops`), `bare` (an answer without reasoning); `no_variance` is the share of problems
    whose answers all have one reward. With several rewards, each by its name."""
    groups = draws.groups(rollouts)
    names = list(rollouts[0].rewards)
    values = {
        "reward": [rollout.reward or 0.0 for rollout in rollouts],
        "correct": [rollout.verdict == "correct" for rollout in rollouts],
        "length": [rollout.tokens for rollout in rollouts],
        "truncated": [rollout.finish == "length" for rollout in rollouts],
        "looping": [loops(rollout.text) for rollout in rollouts],
        "bare": [bare(rollout.text) for rollout in rollouts],
        "no_variance": [not draws.varied(group) for group in groups],
        **({f"reward {name}": [rollout.rewards[name] for rollout in rollouts] for name in names} if len(names) > 1 else {}),
    }
    return {name: float(np.mean(np.asarray(each, np.float64))) for name, each in values.items()}
