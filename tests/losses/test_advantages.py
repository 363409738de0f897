"""Advantages against their definitions, one rollout after the other."""

import statistics

import numpy as np
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.advantages import Centered, Fixed, LeaveOneOut, RightOnly, Standardized, advantages, has_variance

REWARDS = np.array([[1.0, 0.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1], [0.5, -1.0, 2.0, 0.25], [1.0, 1.0, 1.0, 0.0]])


def one_by_one(of_group) -> np.ndarray:
    return np.array([[of_group(list(group), at) for at in range(len(group))] for group in REWARDS])


@pytest.mark.parametrize(
    ("rule", "of_group"),
    [
        (Centered(), lambda group, at: group[at] - statistics.fmean(group)),
        (Standardized(0.01), lambda group, at: (group[at] - statistics.fmean(group)) / (statistics.stdev(group) + 0.01)),
        (LeaveOneOut(), lambda group, at: group[at] - statistics.fmean(group[:at] + group[at + 1 :])),
        (RightOnly(), lambda group, at: float(group[at] >= 0.5)),
        (Fixed(-0.3), lambda group, at: -0.3),
    ],
)
def test_advantages_are_those_of_their_definition(rule, of_group) -> None:
    np.testing.assert_allclose(advantages(rule, REWARDS), one_by_one(of_group), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", [Centered(), Standardized(), LeaveOneOut()])
def test_equal_rewards_have_the_advantage_0_exactly(rule) -> None:
    """The mean of equal numbers may differ from them in its last bit, which a small standard deviation makes large."""
    for value in np.random.default_rng(0).normal(size=50):
        for count in (3, 7, 8):
            np.testing.assert_array_equal(advantages(rule, np.full((2, count), value)), 0.0)


def test_a_single_rollout_has_nothing_to_be_compared_with() -> None:
    rewards = np.array([[1.0], [0.25]])
    np.testing.assert_array_equal(advantages(Standardized(), rewards), 0.0)
    np.testing.assert_array_equal(advantages(LeaveOneOut(), rewards), rewards)


def test_which_problems_have_variance() -> None:
    np.testing.assert_array_equal(has_variance(REWARDS), [True, False, True, True])


def test_a_function_of_ones_own_is_checked() -> None:
    np.testing.assert_array_equal(advantages(lambda rewards: 2 * rewards - 1, REWARDS), 2 * REWARDS - 1)
    np.testing.assert_array_equal(advantages(lambda rewards: (rewards > 0.5).astype(int), REWARDS), REWARDS > 0.5)

    def in_place(rewards):
        rewards -= 1
        return rewards

    before = REWARDS.copy()
    advantages(in_place, REWARDS)
    np.testing.assert_array_equal(REWARDS, before)
    for rule, words in (
        (lambda rewards: rewards.mean(axis=1), r"return shape \[4\] for rewards of shape \[4, 4\]"),
        (lambda rewards: rewards * np.nan, "return nan; they must return finite numbers"),
        (lambda rewards: rewards > 0, "return values of type bool"),
        (lambda rewards: None, r"return shape \[\]"),
    ):
        with pytest.raises(UserError, match=words):
            advantages(rule, REWARDS)


def test_a_standard_deviation_needs_something_added() -> None:
    with pytest.raises(UserError, match=r"Standardized\.epsilon is 0\.0"):
        Standardized(0.0)
