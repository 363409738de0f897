"""Gates while a student trains."""

import pytest
from scipy.stats import binomtest

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.probe import Probe, ProbePoint, rising, too_weak


@pytest.mark.parametrize(("correct", "problems"), [(0, 20), (3, 50), (20, 200), (49, 50)])
def test_a_teacher_is_too_weak_where_its_upper_bound_is_below_the_threshold(correct: int, problems: int) -> None:
    upper = binomtest(correct, problems, alternative="less").proportion_ci(0.95, method="wilson").high
    assert too_weak("t", correct, problems, Probe(weakest_teacher=upper - 1e-6)) is None
    words = too_weak("t", correct, problems, Probe(weakest_teacher=min(upper + 1e-6, 0.999)))
    assert words is not None
    assert f"{correct} of {problems}" in words


def test_without_a_threshold_or_problems_no_teacher_is_too_weak() -> None:
    assert too_weak("t", 0, 1000, Probe()) is None
    assert too_weak("t", 0, 0, Probe(weakest_teacher=0.5)) is None


def points(*rates: float | None, n: int = 100_000) -> list[ProbePoint]:
    return [ProbePoint(10 * index, 0.5, rate, 200, n) for index, rate in enumerate(rates)]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ((0.0, 0.1, 0.4), False),  # one point is no trend
        ((0.0, 0.1, 0.4, 0.4), True),
        ((0.0, 0.4, 0.45, 0.5), False),  # the base's own rate before the first step says nothing
        ((0.0, 0.1, 0.4, 0.15), False),
        ((None, 0.3, 0.1, 0.35, None, 0.36), True),
        ((0.0, 0.3, 0.4, 0.45), False),
        ((0.0, 0.5, 0.1, 0.1, 0.1), False),
    ],
)
def test_induced_errors_rise_where_recent_points_all_lie_above_the_lowest_before(rates: tuple, expected: bool) -> None:
    assert (rising(points(*rates), Probe(induced_rise=0.2)) is not None) is expected
    assert rising(points(*rates), Probe()) is None


def test_a_rise_must_be_credible() -> None:
    """40 of 100 problems: the one-sided lower bound lies between 32 and 33 %."""
    bound = binomtest(40, 100, alternative="greater").proportion_ci(0.95, method="wilson").low
    rates = points(0.0, 0.1, 0.4, 0.4, n=100)
    assert rising(rates, Probe(induced_rise=bound - 0.1 - 1e-6)) is not None
    assert rising(rates, Probe(induced_rise=bound - 0.1 + 1e-6)) is None


def test_the_reason_names_steps_and_rates() -> None:
    words = rising(points(0.0, 0.1, 0.4, 0.45), Probe(induced_rise=0.2))
    assert words is not None
    assert "45.0% of 100000 problems at step 30" in words
    assert "10.0% at step 10" in words


@pytest.mark.parametrize(
    "change", [{"every": -1}, {"problems": 0}, {"weakest_teacher": 1.0}, {"induced_rise": -0.1}, {"patience": 0}]
)
def test_values_out_of_range_are_refused_by_name(change: dict) -> None:
    with pytest.raises(UserError, match=f"probe.{next(iter(change))} is"):
        Probe(**change)
