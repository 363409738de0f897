"""Power, minimum detectable effects and their inverses against statsmodels, brute force and simulated studies."""

import math

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import detectable, power
from w2sr_jax.evaluation.components import Components, measured
from w2sr_jax.evaluation.detectable import Assumptions
from w2sr_jax.evaluation.families import Comparison, family
from w2sr_jax.evaluation.power import Claim

GREATER = Claim(direction="greater")
TYPICAL = Components(0.0002, 0.1, 0.14)


@pytest.mark.parametrize("claim", [Claim(), GREATER, Claim(alpha=0.01)])
@pytest.mark.parametrize("effect", [0.02, 0.05, 0.1])
def test_problems_alone_are_the_paired_t_test_of_statsmodels(claim: Claim, effect: float) -> None:
    tests = pytest.importorskip("statsmodels.stats.power")
    expected = tests.TTestPower().power(effect / 0.5, 200, claim.per_side, alternative="larger")
    assert power.power(effect, 200, 1, Components(None, 0.25, 0.0, binary=False), claim) == pytest.approx(expected, abs=0.002)
    assert power.power(effect, 200, 3, Components(0.0, 0.25, 0.0), claim) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_alone_are_the_t_test_over_seeds_of_statsmodels(seeds: int) -> None:
    tests = pytest.importorskip("statsmodels.stats.power")
    for effect in (0.01, 0.03, 0.08):
        expected = tests.TTestPower().power(effect / 0.02, seeds, 0.025, alternative="larger")
        assert power.power(effect, 500, seeds, Components(0.02**2, 0.0, 0.0)) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("direction", ["two-sided", "greater"])
@pytest.mark.parametrize(("problems", "discordant", "effect"), [(3, 0.5, 0.4), (12, 0.6, 0.5), (60, 0.3, 0.15), (60, 0.15, 0.15)])
def test_one_seed_is_summed_over_all_outcomes(problems: int, discordant: float, effect: float, direction: str) -> None:
    winning = (discordant + effect) / 2
    expected = 0.0
    for told in range(problems + 1):
        for k in range(told + 1):
            right_side = 2 * k > told
            if told and right_side and binomtest(k, told, 0.5, alternative=direction).pvalue <= 0.05:
                expected += binom.pmf(told, problems, discordant) * binom.pmf(k, told, winning / discordant)
    found = power.power(effect, problems, 1, Components(None, discordant - effect**2, 0.0), Claim(direction=direction))
    assert found == pytest.approx(expected, abs=1e-9)


def test_one_seed_of_many_problems_is_no_slower_nor_wrong() -> None:
    assert power.power(0.002, 1_000_000, 1, Components(None, 0.25, 0.0)) == pytest.approx(
        power.power(0.002, 1_000_000, 1, Components(None, 0.25, 0.0, binary=False)), abs=0.002
    )


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_more_of_everything_shows_smaller_effects(seeds: int) -> None:
    def smallest(problems: int, seeds: int, **claim: float) -> float:
        found = power.smallest_effect(problems, seeds, TYPICAL, Claim(**claim))
        assert found is not None
        return found

    base = smallest(300, seeds)
    assert power.power(base, 300, seeds, TYPICAL) == pytest.approx(0.8, abs=0.001)
    assert smallest(600, seeds) < base
    assert smallest(300, seeds + 3 if seeds > 1 else 1, alpha=0.1) < base < smallest(300, seeds, power=0.9)
    assert power.power(0.0, 300, seeds, TYPICAL) <= 0.026


def test_the_numbers_needed_are_the_smallest_that_do() -> None:
    claim = Claim(direction="greater", power=0.9)
    problems, seeds = power.problems_for(0.06, 5, TYPICAL, claim), power.seeds_for(0.06, 600, TYPICAL, claim)
    assert problems is not None
    assert seeds is not None
    assert power.power(0.06, problems, 5, TYPICAL, claim) >= 0.9 > power.power(0.06, problems - 1, 5, TYPICAL, claim)
    assert power.power(0.06, 600, seeds, TYPICAL, claim) >= 0.9 > power.power(0.06, 600, seeds - 1, TYPICAL, claim)


def test_what_no_number_shows_is_none() -> None:
    assert power.problems_for(0.01, 3, Components(0.02**2, 0.1, 0.1)) is None
    assert power.seeds_for(0.01, 50, Components(0.0, 0.25, 0.1)) is None
    assert power.smallest_effect(4, 1, Components(None, 0.2, 0.0)) is None


def test_too_few_problems_for_any_claim() -> None:
    for claim, comparisons in ((Claim(), 1), (GREATER, 1), (Claim(), 8)):
        n = power.fewest_problems(claim, comparisons)
        for problems, shown in ((n, True), (n - 1, False)):
            pairs = [Comparison(str(i), np.ones(problems), np.zeros(problems), claim.direction) for i in range(comparisons)]
            assert all((r.adjusted_p <= 0.05) == shown for r in family(pairs).primary)


def test_assumptions_become_components() -> None:
    found = Assumptions(0.7, correlation=0.4, seed_sd=0.02, repeated=0.25).components()
    told_apart = 2 * 0.7 * 0.3 * 0.6
    assert found.seeds == pytest.approx(2 * 0.02**2)
    assert found.seeds + found.problems + found.residual == pytest.approx(told_apart)
    assert found.problems == pytest.approx(0.25 * (told_apart - 2 * 0.02**2))
    assert Assumptions(0.7, seed_sd=0.02, both_vary=False).components().seeds == pytest.approx(0.02**2)
    assert Assumptions(0.7, discordant=0.1, repeated=1, seed_sd=0).components() == Components(0.0, 0.1, 0.0)


def test_correlation_and_accuracy_say_how_often_models_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    hard, left, right = rng.random(400_000), rng.random(400_000), rng.random(400_000)
    a, b = (np.where(rng.random(400_000) < 0.7, hard, own) < 0.6 for own in (left, right))
    correlation = float(np.corrcoef(a, b)[0, 1])
    assert Assumptions(0.6, correlation=correlation).told_apart == pytest.approx((a != b).mean(), abs=0.004)


def test_before_a_run_in_words() -> None:
    found = detectable.before(600, 3, Assumptions(0.6, correlation=0.7, seed_sd=0.005), GREATER)
    assert found.effect is not None
    assert found.sentence == (
        f"with 600 problems and 3 seeds differences below {100 * found.effect:.1f} points will not show "
        "(80 % power, 5 % one-sided level)"
    )
    assert found.basis == (
        "Assumed: just one of the two models answers 14.4 % of the problems right (accuracy 60 %, correlation 0.7); the accuracy "
        "of either model has a standard deviation of 0.5 points between seeds; 50 % of the other variation repeats in every seed."
    )
    one = detectable.before(1000, 1, Assumptions(0.6, discordant=0.2)).sentence
    assert one.startswith("with 1,000 problems and 1 seed differences below")
    assert "for these two trained models" in one
    assert "no difference will show" in detectable.before(3, 1, Assumptions(0.6)).sentence


def test_what_it_takes_in_words() -> None:
    found = detectable.needed(0.05, 600, 3, TYPICAL, GREATER)
    assert found.sentence == (
        f"a difference of 5 points takes {found.more_problems:,} problems with 3 seeds, or {found.more_seeds} seeds with 600 "
        "problems (80 % power, 5 % one-sided level)"
    )
    assert found.basis == (
        "Standard deviations of the difference: 1.4 points between seeds, 31.6 points between problems, 37.4 points otherwise."
    )
    never = detectable.needed(0.01, 100, 3, Components(0.02**2, 0.1, 0.1), basis="said elsewhere")
    assert never.sentence.startswith(
        "a difference of 1 point takes more than 1,000,000 problems with 3 seeds, or more than 64 seeds with 100 problems ("
    )
    assert never.basis == "said elsewhere"


def test_after_a_run_the_measured_variances_count_and_not_the_difference_seen() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(500)
    left, right = ((rng.random((4, 500)) * 0.5 + hard * 0.5 < 0.5).astype(float) for _ in range(2))
    found = detectable.after(left, right)
    assert found.effect == power.smallest_effect(500, 4, measured(left, right))
    assert (found.problems, found.seeds) == (500, 4)
    one = detectable.after(left[0], right[0])
    assert "one seed" in one.basis
    shifted = detectable.after(left + 0.2, right)
    assert shifted.effect == pytest.approx(found.effect, abs=1e-5)


def test_seeds_cannot_be_planned_from_one() -> None:
    left, right = np.array([1.0, 0, 1, 1, 0]), np.array([1.0, 1, 0, 1, 0])
    with pytest.raises(UserError, match="one seed says nothing of how seeds vary"):
        power.power(0.1, 100, 3, measured(left, right))
    assert "seeds" not in detectable.needed(0.1, 100, 1, measured(left, right)).sentence


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ({"accuracy": 1.2}, "accuracy"),
        ({"accuracy": 0.5, "correlation": 2}, "correlation"),
        ({"accuracy": 0.5, "seed_sd": -1}, "seed_sd"),
        ({"accuracy": 0.99, "seed_sd": 0.3}, "more than models"),
        ({"accuracy": math.nan}, "accuracy"),
    ],
)
def test_senseless_assumptions_are_refused(bad: dict, match: str) -> None:
    with pytest.raises(UserError, match=match):
        Assumptions(**bad)


def test_senseless_claims_are_refused() -> None:
    for bad in ({"alpha": 0.5}, {"alpha": 0.0}, {"power": 1.0}, {"direction": "up"}):
        with pytest.raises(UserError, match=next(iter(bad))):
            Claim(**bad)
    with pytest.raises(UserError, match="effect is 0"):
        power.problems_for(0, 3, TYPICAL)
    with pytest.raises(UserError, match="not 1 and 3"):
        power.power(0.1, 1, 3, TYPICAL)
