"""Declared families: Holm's correction against statsmodels, and what is shown."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import families, statistics
from w2sr_jax.evaluation.families import Comparison, family, holm
from w2sr_jax.evaluation.settings import Evaluation

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def answers(rate: float, *shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate).astype(float)


def test_holm_agrees_with_statsmodels() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")

    @given(PROBABILITIES)
    def agree(p: list[float]) -> None:
        assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])

    agree()


@given(PROBABILITIES)
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p: list[float]) -> None:
    adjusted, given_p = holm(p), np.array(p)
    order = np.argsort(given_p)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= given_p).all()
    assert (adjusted <= np.minimum(1, len(p) * given_p)).all()
    assert adjusted.min() == pytest.approx(min(1, len(p) * min(p)))


@given(PROBABILITIES, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_and_ties_are_alike(p: list[float], random) -> None:
    p = [*p, p[0]]
    places = list(range(len(p)))
    random.shuffle(places)
    assert holm([p[i] for i in places]) == pytest.approx(holm(p)[places])
    assert holm(p)[0] == holm(p)[-1]


@given(PROBABILITIES)
def test_one_more_certain_comparison_makes_no_other_one_easier(p: list[float]) -> None:
    assert (holm([*p, 0.5])[:-1] >= holm(p)).all()


def test_what_is_no_p_value_is_refused() -> None:
    for bad in ([1.1], [-0.1], [math.nan], [[0.1]]):
        with pytest.raises(UserError, match="from 0 to 1"):
            holm(bad)


@pytest.mark.parametrize("direction", ["two-sided", "greater", "less"])
def test_one_seed_of_right_and_wrong_is_tested_exactly(direction: str) -> None:
    left, right = answers(0.6, 300), answers(0.5, 300, seed=1)
    found = families.compare(Comparison("a", left, right, direction))
    only = int(((left == 1) & (right == 0)).sum()), int(((left == 0) & (right == 1)).sum())
    assert found.p == pytest.approx(binomtest(only[0], sum(only), 0.5, alternative=direction).pvalue)
    assert found.test == families.EXACT
    confidence = 0.95 if direction == "two-sided" else 0.9
    expected = statistics.paired(left, right, Evaluation(confidence=confidence))
    assert (found.difference, found.low, found.high, found.confidence) == (
        expected.difference,
        expected.low,
        expected.high,
        confidence,
    )


def test_one_seed_of_other_scores_is_tested_by_permutation() -> None:
    left, right = answers(0.7, 200) * 0.5, answers(0.4, 200, seed=1) * 0.25
    two, greater, less = (families.compare(Comparison("a", left, right, d)) for d in ("two-sided", "greater", "less"))
    assert two.test == families.PERMUTATION
    assert two.p == statistics.paired(left, right, Evaluation()).permutation_p
    assert greater.p < 0.001 < 0.999 < less.p
    assert (two.shown, greater.shown, less.shown) == (True, True, False)


def test_several_seeds_are_tested_over_seeds_too() -> None:
    luck = np.array([0.5, 0.58, 0.66])[:, None]
    left = (np.random.default_rng(0).random((3, 500)) < luck).astype(float)
    right = answers(0.5, 3, 500, seed=1)
    found = families.compare(Comparison("a", left, right, "greater"))
    assert statistics.paired(left, right, Evaluation()).permutation_p < 0.01  # for these seeds alone
    assert found.test == families.CROSSED
    assert not found.shown
    assert found.p > 0.05 > 0
    assert found.low < 0 < found.difference < found.high


@pytest.mark.parametrize("direction", ["two-sided", "greater", "less"])
@pytest.mark.parametrize("gain", [-0.2, -0.08, 0.0, 0.08, 0.2])
def test_shown_is_what_test_and_interval_say_together(direction: str, gain: float) -> None:
    rng = np.random.default_rng(1)
    hard = rng.random(400)
    left, right = ((rng.random((5, 400)) * 0.5 + hard * 0.5 < 0.5 + shift).astype(float) for shift in (gain, 0))
    found = families.compare(Comparison("a", left, right, direction))
    sides = {"two-sided": found.low > 0 or found.high < 0, "greater": found.low > 0, "less": found.high < 0}
    assert found.shown == sides[direction] == (found.p <= 0.05)
    expected = {"two-sided": abs(gain) == 0.2, "greater": gain == 0.2, "less": gain == -0.2}
    if abs(gain) != 0.08:
        assert found.shown == expected[direction]


def test_identical_models_are_not_shown_to_differ() -> None:
    same = answers(0.5, 3, 50)
    found = families.compare(Comparison("a", same, same))
    assert (found.p, found.difference, found.shown) == (1.0, 0.0, False)
    assert found.low < 0 < found.high


def test_the_primary_comparison_is_not_corrected_for_the_secondary_ones() -> None:
    left, right = np.zeros(100), np.zeros(100)
    left[:6] = 1  # p = 2/64
    wins = Comparison("primary", left, right)
    others = [Comparison(f"secondary {i}", left, right) for i in range(2)]
    found = family([wins], others)
    assert found.primary[0].p == found.primary[0].adjusted_p == 2 / 64
    assert found.primary[0].shown
    assert [(r.p, r.adjusted_p, r.shown) for r in found.secondary] == [(2 / 64, 4 / 64, False)] * 2
    assert [r.name for r in found.secondary] == ["secondary 0", "secondary 1"]


def test_several_primary_comparisons_are_corrected_among_themselves() -> None:
    left, right = np.zeros(100), np.zeros(100)
    left[:6] = 1
    found = family([Comparison("a", left, right), Comparison("b", left, right)])
    assert [(r.adjusted_p, r.shown) for r in found.primary] == [(4 / 64, False)] * 2
    assert found.secondary == ()


def test_a_level_brings_its_interval() -> None:
    left, right = answers(0.6, 4, 300), answers(0.5, 4, 300, seed=1)
    narrow, wide = (family([Comparison("a", left, right)], alpha=alpha).primary[0] for alpha in (0.1, 0.01))
    assert (narrow.confidence, wide.confidence) == (0.9, 0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_families_that_make_no_sense_are_refused() -> None:
    one = Comparison("a", [1, 0, 1], [0, 0, 1])
    with pytest.raises(UserError, match="primary"):
        family([])
    with pytest.raises(UserError, match="repeated: a"):
        family([one], [one])
    with pytest.raises(UserError, match="alpha"):
        family([one], alpha=0.5)
    with pytest.raises(UserError, match="direction is 'up'"):
        Comparison("a", [1], [0], "up")
    with pytest.raises(UserError, match="one problem"):
        family([Comparison("a", [1], [0])])
    with pytest.raises(UserError, match="same problems"):
        family([Comparison("a", [1, 0], [0, 1, 1])])


def test_what_is_declared_and_not_tested_counts_in_the_correction() -> None:
    left, right = np.zeros(100), np.zeros(100)
    left[:6] = 1  # p = 2/64
    alone = families.compare(Comparison("a", left, right))
    assert [r.adjusted_p for r in families.adjusted([alone], 0.05, untested=3)] == [4 * 2 / 64]
    assert families.adjusted([], 0.05, untested=1) == ()
