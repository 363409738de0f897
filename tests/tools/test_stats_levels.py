"""The check of the statistics' levels: the procedure of studies passes it, wrong ones do not, and its truth is true."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from w2sr_jax.evaluation.components import measured

ROOT = Path(__file__).resolve().parents[2]
LEVELS = ROOT / "tools" / "stats" / "levels.py"


@pytest.fixture
def levels(monkeypatch):
    monkeypatch.syspath_prepend(LEVELS.parent)
    import levels

    return levels


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(LEVELS), *arguments], capture_output=True, text=True, cwd=ROOT)


def test_claims_are_as_rarely_false_and_as_often_found_as_stated():
    done = run("--short")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0].split(")")[1].split(" with")[0].strip() for line in lines] == ["shown"] * 4
    assert "of 1,000" in lines[0]


@pytest.mark.parametrize("wrong", ["pooled", "permuted", "bootstrapped"])
def test_a_wrong_procedure_is_found_out(levels, wrong):
    assert not levels.false_claims(levels.STRONG, 300, levels.PROCEDURES[wrong]).passes


def test_where_the_wrong_ones_are_found_out_the_right_one_is_not(levels):
    assert levels.false_claims(levels.STRONG, 300, levels.declared).passes


def test_the_check_fails_with_a_wrong_procedure():
    done = run("--short", "--studies", "300", "--procedure", "pooled")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILS: shown without effect: 300 problems, 3 seeds" in done.stdout


def test_the_bounds_let_pass_what_is_right_and_nothing_far_from_it(levels):
    for studies in (1000, 2000):
        high = levels.most(0.05, studies)
        assert binom.sf(high, studies, 0.05) < 1e-6 < binom.sf(high - 1, studies, 0.05) * 1.01
        assert binom.cdf(high, studies, 0.12) < 0.01  # a procedure that is wrong in 12 % of the studies
        low = levels.fewest(0.77, studies)
        assert binom.cdf(low - 1, studies, 0.77) < 1e-6
        assert binom.cdf(low - 1, studies, 0.65) > 0.99
    expected = binomtest(37, 400).proportion_ci(method="exact")
    assert levels.exact_interval(37, 400) == pytest.approx((expected.low, expected.high))
    assert levels.exact_interval(0, 10)[0] == 0 < levels.exact_interval(10, 10)[0]


def test_the_simulated_components_are_those_that_the_studies_show(levels):
    population = levels.Population(accuracy=0.7, taste=0.2, seed_sd=0.04)
    rng = np.random.default_rng(0)
    studies = [population.draw(rng, (0.7, 0.7), 6, 200) for _ in range(300)]
    found = [measured(left, right) for left, right in studies]
    truth = population.components()
    average = np.mean([(part.seeds, part.problems, part.residual) for part in found], axis=0)
    assert average == pytest.approx((truth.seeds, truth.problems, truth.residual), rel=0.08)
    assert np.mean([left.mean() for left, _ in studies]) == pytest.approx(0.7, abs=0.01)
    assumed = population.assumptions().components()
    assert (assumed.seeds, assumed.problems, assumed.residual) == pytest.approx((truth.seeds, truth.problems, truth.residual))
