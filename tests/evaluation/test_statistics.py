"""Statistics against independent references: brute force, SciPy, closed forms."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import at_k, statistics
from w2sr_jax.evaluation.settings import Evaluation

SETTINGS = Evaluation(resamples=2000)


def coins(rate: float, *shape: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) < rate).astype(float)


@pytest.mark.parametrize(("samples", "correct", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 4), (6, 6, 2), (7, 3, 5), (4, 1, 4)])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(samples: int, correct: int, k: int) -> None:
    subsets = list(itertools.combinations([True] * correct + [False] * (samples - correct), k))
    assert at_k.pass_at_k(samples, correct, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def majority_by_enumeration(answers: list[str | None], k: int) -> float:
    scores = []
    for subset in itertools.combinations(answers, k):
        counts = {a: subset.count(a) for a in subset if a is not None}
        best = [a for a, n in counts.items() if n == max(counts.values())]
        scores.append(best.count("right") / len(best) if best else 0.0)
    return sum(scores) / len(scores)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["right", "a", "b", "c", None]), min_size=1, max_size=9), st.data())
def test_maj_at_k_is_the_mean_over_subsets_with_ties_shared(answers: list[str | None], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(answers)))
    wrong = tuple(sorted(answers.count(a) for a in "abc" if a in answers))
    found = at_k.maj_at_k(answers.count("right"), wrong, answers.count(None), k)
    assert found == pytest.approx(majority_by_enumeration(answers, k))


def test_maj_at_k_of_many_samples_approaches_certainty() -> None:
    assert at_k.maj_at_k(30, (10, 10, 14), 0, 63) > 0.999
    assert at_k.maj_at_k(40, (24,), 0, 64) == 1.0


@pytest.mark.parametrize("k", [0, 4])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(UserError, match=f"@{k}"):
        at_k.pass_at_k(3, 1, k)
    with pytest.raises(UserError, match=f"@{k}"):
        at_k.maj_at_k(1, (2,), 0, k)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 5), (3, 9), (40, 12), (0, 31), (400, 370)])
def test_mcnemar_agrees_with_the_exact_binomial_test(b: int, c: int) -> None:
    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert statistics.mcnemar_exact(b, c) == pytest.approx(min(1.0, expected))


@pytest.mark.parametrize("direction", ["greater", "less"])
@pytest.mark.parametrize(("b", "c"), [(1, 0), (5, 5), (3, 9), (40, 12), (0, 31)])
def test_one_sided_mcnemar_agrees_with_the_exact_binomial_test(b: int, c: int, direction: str) -> None:
    expected = binomtest(b, b + c, 0.5, alternative=direction).pvalue
    assert statistics.mcnemar_exact(b, c, direction) == pytest.approx(expected)


@pytest.mark.parametrize("rate", [0.2, 0.6])
def test_accuracy_interval_is_close_to_the_normal_one(rate: float) -> None:
    scores = coins(rate, 800)
    found = statistics.interval(scores, SETTINGS)
    half = 1.96 * math.sqrt(scores.mean() * (1 - scores.mean()) / 800)
    assert found.value == pytest.approx(scores.mean())
    assert found.low == pytest.approx(scores.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(scores.mean() + half, abs=0.1 * half)
    assert found.n == 800


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    inside = 0
    for seed in range(200):
        found = statistics.interval(coins(0.4, 120, seed=seed), Evaluation(resamples=400))
        inside += found.low <= 0.4 <= found.high
    assert 0.89 <= inside / 200 <= 0.99


def test_wider_confidence_gives_a_wider_interval() -> None:
    scores = coins(0.5, 300)
    narrow, wide = (statistics.interval(scores, Evaluation(confidence=c)) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_no_success_still_leaves_doubt() -> None:
    found = statistics.interval(np.zeros(20), SETTINGS)
    assert found.low == 0.0
    assert 0.1 < found.high < 0.25  # Wilson's limit is 0.161
    assert statistics.interval(np.ones(20), SETTINGS).low == pytest.approx(1 - found.high)


def test_three_wins_out_of_three_do_not_prove_a_difference() -> None:
    found = statistics.paired(np.ones(3), np.zeros(3), SETTINGS)
    assert found.difference == 1.0
    assert found.low < 0
    assert found.mcnemar_p == 0.25


def test_paired_counts_and_difference() -> None:
    found = statistics.paired([1, 1, 1, 0, 0, 1], [1, 0, 0, 1, 0, 1], SETTINGS)
    assert (found.both, found.only_left, found.only_right, found.neither) == (2, 2, 1, 1)
    assert found.difference == pytest.approx(1 / 6)
    assert found.mcnemar_p == 1.0
    assert found.by_seed == ()


def test_paired_interval_is_that_of_the_differences_not_of_two_independent_samples() -> None:
    right = coins(0.5, 1000)
    left = right.copy()
    left[np.flatnonzero(right == 0)[:60]] = 1
    found = statistics.paired(left, right, SETTINGS)
    half = 1.96 * math.sqrt(0.06 * 0.94 / 1000)
    assert found.low == pytest.approx(0.06 - half, abs=0.003)
    assert found.high == pytest.approx(0.06 + half, abs=0.003)
    assert found.mcnemar_p == pytest.approx(binomtest(60, 60, 0.5).pvalue)


def test_permutation_test_agrees_with_mcnemar_on_one_seed() -> None:
    differences = np.array([1.0] * 14 + [-1.0] * 6 + [0.0] * 100)
    assert statistics.permutation_p(differences, 20_000) == pytest.approx(statistics.mcnemar_exact(14, 6), abs=0.01)
    assert statistics.permutation_p(np.zeros(5), 100) == 1.0
    for direction in ("greater", "less"):
        found = statistics.permutation_p(differences, 20_000, direction)
        assert found == pytest.approx(statistics.mcnemar_exact(14, 6, direction), abs=0.01)


def test_seeds_are_pooled_and_widen_the_interval() -> None:
    problems = 400
    alike = np.repeat(coins(0.5, 1, problems), 3, axis=0)
    spread = np.stack([coins(rate, problems, seed=i) for i, rate in enumerate((0.3, 0.5, 0.7))])
    narrow, wide = statistics.interval(alike, SETTINGS), statistics.interval(spread, SETTINGS)
    assert wide.value == pytest.approx(spread.mean())
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert narrow == statistics.interval(alike[0], SETTINGS)


def test_several_seeds_give_each_seeds_own_comparison() -> None:
    left, right = coins(0.7, 3, 200), coins(0.4, 3, 200, seed=1)
    found = statistics.paired(left, right, SETTINGS)
    assert found.mcnemar_p is None
    assert [s.difference for s in found.by_seed] == pytest.approx(list((left - right).mean(axis=1)))
    assert found.by_seed[1] == statistics.paired(left[1], right[1], SETTINGS)
    assert found.both + found.only_left + found.only_right + found.neither == 600


def test_gap_recovered_follows_its_formula_and_its_delta_method_interval() -> None:
    n = 4000
    anchor, ceiling = coins(0.1, n), coins(0.85, n, seed=1)
    student = coins(0.7, n, seed=2)
    found = statistics.gap_recovered(student, anchor, ceiling, SETTINGS)
    s, a, c = student.mean(), anchor.mean(), ceiling.mean()
    ratio = (s - a) / (c - a)
    assert found.value == pytest.approx(ratio)
    assert dataclasses.astuple(found.raw) == pytest.approx((s, a, c))
    half = 1.96 * np.std(student - anchor - ratio * (ceiling - anchor)) / (c - a) / math.sqrt(n)
    assert found.low == pytest.approx(ratio - half, abs=0.1 * half)
    assert found.high == pytest.approx(ratio + half, abs=0.1 * half)


def test_gap_is_suppressed_where_ceiling_and_anchor_cannot_be_told_apart() -> None:
    student, anchor, ceiling = coins(0.6, 100, seed=2), coins(0.5, 100), coins(0.52, 100, seed=3)
    found = statistics.gap_recovered(student, anchor, ceiling, SETTINGS)
    assert found.value is found.low is found.high is None
    assert found.suppressed == "gap not distinguishable from 0"
    assert found.gap.low <= 0 <= found.gap.high
    assert dataclasses.astuple(found.raw) == pytest.approx(tuple(map(np.mean, (student, anchor, ceiling))))


def test_gap_below_the_anchor_is_suppressed_too() -> None:
    found = statistics.gap_recovered(coins(0.6, 300), coins(0.8, 300, seed=1), coins(0.2, 300, seed=2), SETTINGS)
    assert found.suppressed == "ceiling below anchor"


def test_a_model_without_seeds_of_its_own_is_compared_with_each_seed() -> None:
    student, teacher = coins(0.6, 3, 50), coins(0.4, 50, seed=1)
    assert statistics.paired(student, teacher, SETTINGS).left == pytest.approx(student.mean())


def test_other_problems_are_refused() -> None:
    with pytest.raises(UserError, match="same problems"):
        statistics.paired(np.ones(5), np.ones(1), SETTINGS)
    with pytest.raises(UserError, match="finite"):
        statistics.interval([1.0, math.nan], SETTINGS)
    with pytest.raises(UserError, match="at least one problem"):
        statistics.interval([], SETTINGS)


def test_the_same_numbers_every_time() -> None:
    scores = coins(0.3, 2, 77)
    assert statistics.interval(scores, SETTINGS) == statistics.interval(scores, SETTINGS)
    statistics._problem_weights.cache_clear()
    assert statistics.paired(scores, 1 - scores, SETTINGS) == statistics.paired(scores, 1 - scores, SETTINGS)


@pytest.mark.parametrize("bad", [{"samples": -1}, {"resamples": 0}, {"confidence": 1.0}])
def test_senseless_settings_are_refused(bad: dict) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        Evaluation(**bad)
