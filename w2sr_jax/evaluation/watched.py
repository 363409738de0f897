"""What is watched while a student learns from its own answers, or from pairs: the names that trainings log it by."""

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
