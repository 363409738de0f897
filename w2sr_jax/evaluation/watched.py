"""What is watched while a student learns from its own answers, or from pairs: the names that trainings log it by."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

WATCHED = (
    "reward",
    "correct",
    "length",
    "entropy",
    "kl",
    "clipped",
    "ratio_deviation",
    "ratio_far",
    "truncated",
    "looping",
    "bare",
    "no_variance",
    "margin",
    "pair_accuracy",
)
"""Metrics of a step (`losses.rollout_watch`, `training.policy.observed`, `training.sequence_step`)."""
LARGEST = ("ratio_deviation", "ratio_far")
"""Those of which the largest value of a training is told: how far trainer and sampler ever disagreed."""


def thinned(points: Sequence[T], most: int) -> list[T]:
    """At most so many of the points (2 or more) at equal distances, and the last one, by which a curve is read."""
    return [*points[: -1 : -(-len(points) // (most - 1))], points[-1]] if len(points) > most else list(points)
