"""Variance components and their interval against analysis of variance, t tests, and normal theory."""

import numpy as np
import pytest
from scipy import special, stats

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import components
from w2sr_jax.evaluation.components import MeanSquares


def crossed(seeds: int, problems: int, parts: tuple[float, float, float], seed: int = 0, studies: int = 1) -> np.ndarray:
    """Normal differences `[studies, seeds, problems]` with the given variances of seeds, problems and the rest."""
    rng = np.random.default_rng(seed)
    shapes = ((studies, seeds, 1), (studies, 1, problems), (studies, seeds, problems))
    return sum(rng.normal(size=shape) * part**0.5 for shape, part in zip(shapes, parts))


def test_mean_squares_are_those_of_an_analysis_of_variance() -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("statsmodels")
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    d = crossed(3, 12, (0.2, 0.5, 1.0))[0]
    seeds, problems = np.indices(d.shape)
    table = pandas.DataFrame({"d": d.ravel(), "seed": seeds.ravel(), "problem": problems.ravel()})
    expected = anova_lm(ols("d ~ C(seed) + C(problem)", table).fit())["mean_sq"]
    found = components.mean_squares(d)
    assert [found.seeds, found.problems, found.residual] == pytest.approx(list(expected))


def test_many_studies_at_once_are_as_one_by_one() -> None:
    d = crossed(4, 9, (0.2, 0.5, 1.0), studies=3)
    found = components.mean_squares(d)
    one = [components.mean_squares(study) for study in d]
    assert found.residual == pytest.approx([squares.residual for squares in one])
    p = components.p_value(d.mean(axis=(1, 2)), found, "greater")
    assert p == pytest.approx([float(components.p_value(x.mean(), s, "greater")) for x, s in zip(d, one)])


def test_measured_components_are_right_on_average() -> None:
    truth = (0.03, 0.2, 0.5)
    found = [components.measured(study, np.zeros_like(study)) for study in crossed(5, 200, truth, studies=400)]
    average = np.mean([(c.seeds, c.problems, c.residual) for c in found], axis=0)
    assert average == pytest.approx(truth, rel=0.1)
    assert not found[0].binary


def test_one_seed_has_no_component_between_seeds() -> None:
    left, right = np.array([1.0, 0, 1, 1]), np.array([0.0, 0, 1, 0])
    found = components.measured(left, right)
    with pytest.raises(UserError, match="two problems"):
        components.measured([1], [0])
    assert found == components.Components(None, pytest.approx(np.var(left - right, ddof=1)), 0.0, True)


@pytest.mark.parametrize("direction", ["two-sided", "greater", "less"])
def test_without_variation_between_seeds_it_is_a_t_test_over_problems(direction: str) -> None:
    d = np.repeat(crossed(1, 40, (0, 1.0, 0))[0] + 0.3, 3, axis=0)
    squares = components.mean_squares(d)
    expected = stats.ttest_1samp(d[0], 0, alternative=direction)
    assert float(components.p_value(d.mean(), squares, direction)) == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = stats.ttest_1samp(d[0], 0).confidence_interval(0.9)
    assert 2 * float(components.half_width(squares, 0.1)) == pytest.approx(high - low)


@pytest.mark.parametrize("direction", ["two-sided", "greater", "less"])
def test_without_variation_between_problems_it_is_a_t_test_over_seeds(direction: str) -> None:
    of_seeds = np.array([0.02, 0.05, 0.03, 0.07])
    d = np.repeat(of_seeds[:, None], 50, axis=1)
    squares = components.mean_squares(d)
    expected = stats.ttest_1samp(of_seeds, 0, alternative=direction)
    assert float(components.p_value(d.mean(), squares, direction)) == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = stats.ttest_1samp(of_seeds, 0).confidence_interval(0.95)
    assert 2 * float(components.half_width(squares, 0.05)) == pytest.approx(high - low)


def test_p_is_the_level_at_which_the_interval_reaches_0() -> None:
    d = crossed(3, 60, (0.01, 0.2, 1.0))[0] + 0.4
    squares = components.mean_squares(d)
    p = float(components.p_value(d.mean(), squares))
    assert 1e-4 < p < 0.9
    assert float(components.half_width(squares, p)) == pytest.approx(abs(d.mean()), rel=1e-6)
    assert float(components.p_value(-d.mean(), squares)) == pytest.approx(p)


def test_seeds_of_equal_means_prove_no_more_than_the_problems() -> None:
    d = np.array([[1.0, 1, 0, 0, 0, 1], [0, 0, 1, 1, 1, 0]])  # the seeds' means are equal, and so are the problems'
    assert components.mean_squares(d).seeds == 0
    d[:, :2] = [[1, 1], [1, 1]]
    squares = components.mean_squares(d)
    alone = stats.ttest_1samp(d.mean(axis=0), 0).pvalue
    assert float(components.p_value(d.mean(), squares)) >= alone * (1 - 1e-6)


def test_differences_that_never_vary_are_tested_by_signs() -> None:
    d = np.full((3, 4), 1.0)
    assert float(components.p_value(1.0, components.mean_squares(d), "greater")) == pytest.approx(0.5**4)
    assert float(components.p_value(0.0, components.mean_squares(0 * d))) == 1.0


def drawn(seeds: int, problems: int, of_seeds: float, of_problems: float, studies: int) -> tuple[np.ndarray, MeanSquares]:
    """Mean differences and mean squares of studies without effect by normal theory, in units of the residual variance; the other
    arguments are P·σ²_seeds and S·σ²_problems."""
    rng = np.random.default_rng(0)
    degrees = (seeds - 1, problems - 1, (seeds - 1) * (problems - 1))
    squares = [e * rng.chisquare(df, studies) / df for e, df in zip((1 + of_seeds, 1 + of_problems, 1.0), degrees)]
    means = rng.normal(size=studies) * ((1 + of_seeds + of_problems) / (seeds * problems)) ** 0.5
    return means, MeanSquares(*squares, (seeds, problems))


STUDIES = 40_000
WORST = [(2, 10, 0), (2, 10, 1), (2, 50, 10), (3, 3, 0.3), (3, 10, 1), (3, 50, 10), (5, 10, 1), (5, 50, 10)]


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize(("seeds", "of_seeds", "of_problems"), WORST)
def test_the_level_holds_where_seeds_are_few(seeds: int, of_seeds: float, of_problems: float, alpha: float) -> None:
    means, squares = drawn(seeds, 600, of_seeds, of_problems, STUDIES)
    claims = int((np.abs(means) > components.half_width(squares, alpha)).sum())
    assert claims <= stats.binom.isf(1e-6, STUDIES, alpha)


def test_satterthwaites_approximation_would_not_hold_it() -> None:
    means, squares = drawn(3, 600, 10, 1, STUDIES)
    variance = squares.of_seeds + squares.of_problems
    degrees = variance**2 / (squares.of_seeds**2 / 2 + squares.of_problems**2 / 599)
    claims = int((np.abs(means) > special.stdtrit(degrees, 0.975) * np.sqrt(variance)).sum())
    assert claims > stats.binom.isf(1e-6, STUDIES, 0.05)
