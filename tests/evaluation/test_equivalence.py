"""Equivalence against statsmodels' two one-sided tests."""

import numpy as np
import pytest
from scipy import stats

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import families
from w2sr_jax.evaluation.equivalence import equivalence


def answers(rate: float, *shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate).astype(float)


@pytest.mark.parametrize("margin", [3, 8, 15])
def test_one_seed_is_the_paired_test_of_statsmodels(margin: float) -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    left, right = answers(0.55, 400), answers(0.5, 400, seed=1)
    expected, *_ = weightstats.ttost_paired(left, right, -margin / 100, margin / 100)
    found = equivalence(left, right, margin_points=margin)
    assert found.p == pytest.approx(expected, rel=1e-6)
    low, high = stats.ttest_rel(left, right).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.shown == (expected < 0.05) == (-margin / 100 < low and high < margin / 100)


def test_seeds_without_variation_between_problems_are_the_paired_test_over_seeds() -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    left, right = np.array([0.52, 0.55, 0.53, 0.57]), np.array([0.51, 0.55, 0.55, 0.55])
    expected, *_ = weightstats.ttost_paired(left, right, -0.05, 0.05)
    found = equivalence(*(np.repeat(x[:, None], 30, axis=1) for x in (left, right)), margin_points=5)
    assert found.p == pytest.approx(expected, rel=1e-6)


def test_models_of_equal_quality_are_equivalent_within_a_wide_margin_only() -> None:
    left, right = answers(0.5, 5, 2000), answers(0.5, 5, 2000, seed=1)
    assert equivalence(left, right, margin_points=5).shown
    assert not equivalence(left, right, margin_points=0.5).shown
    assert not equivalence(left, answers(0.4, 5, 2000, seed=1), margin_points=5).shown


def test_a_difference_can_be_shown_and_be_within_the_margin() -> None:
    left, right = np.zeros(5000), np.zeros(5000)
    left[:60] = 1
    assert families.compare(families.Comparison("a", left, right)).shown
    assert equivalence(left, right, margin_points=3).shown


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_same_answers_everywhere_need_enough_problems(seeds: int) -> None:
    few, many = (equivalence(np.ones((seeds, n)), np.ones((seeds, n)), margin_points=2) for n in (50, 500))
    assert not few.shown
    assert many.shown
    assert few.low == -few.high < -0.02
    share = 1.6448536269514722**2
    assert many.high == pytest.approx(share / (500 + share))
    edge = share * 0.98 / 0.02  # problems at which the interval just reaches the margin
    below, above = (equivalence(np.ones(n), np.ones(n), margin_points=2) for n in (int(edge), int(edge) + 1))
    assert (below.shown, above.shown) == (False, True)
    assert above.p == pytest.approx(0.05, rel=0.02)


def test_in_words() -> None:
    same = answers(0.5, 3, 1000)
    assert equivalence(same, same, margin_points=1).sentence == (
        "no difference larger than 1 point: +0.0 (90 % interval −0.3 to +0.3, 1,000 problems, 3 seeds)"
    )
    assert equivalence([1, 0, 1], [1, 0, 0], margin_points=1).sentence.startswith("not shown to be within 1 point: ")


@pytest.mark.parametrize("bad", [{"margin_points": 0}, {"margin_points": 100}, {"margin_points": 2, "alpha": 0.5}])
def test_senseless_margins_are_refused(bad: dict) -> None:
    with pytest.raises(UserError, match="must lie between"):
        equivalence([1, 0], [0, 1], **bad)
    with pytest.raises(UserError, match="two problems"):
        equivalence([1], [1], margin_points=2)
