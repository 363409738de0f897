"""Variance of a difference between two models, by where it comes from: seeds, problems, the rest; and tests that reckon with all.

A difference is `[seeds, problems]`: what the left model of a seed scored on a problem minus what the right one did. Seeds and
problems are both samples, and what is claimed is to hold for other seeds and other problems. By Hoeffding's decomposition of such
an array the variance of its mean is σ²_seeds/S + σ²_problems/P + σ²_residual/(S·P), whatever the scores' distribution.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.statistics import Direction, Reals, vectors

SMALLEST_P = 1e-16
_EQUAL = 1e-15


@dataclasses.dataclass(frozen=True)
class Components:
    """Variances of the difference of one seed on one problem. Shares of accuracy squared, not points.

    `seeds`: of the mean over all problems, between seeds; None where it was not measured. `problems`: of the mean over all seeds,
    between problems. `residual`: what neither explains. `binary`: scores are 0 or 1, so that one seed is tested exactly.
    """

    seeds: float | None
    problems: float
    residual: float
    binary: bool = True


@dataclasses.dataclass(frozen=True)
class MeanSquares:
    """Mean squares of `[seeds, problems]` crossed without replication, over many arrays at once where they are arrays.

    Their expectations are residual + P·σ²_seeds, residual + S·σ²_problems and residual. With one seed `problems` is the variance
    between problems, and the others are 0.
    """

    seeds: Reals
    problems: Reals
    residual: Reals
    shape: tuple[int, int]

    @property
    def of_seeds(self) -> Reals:
        """What seeds (and the residual) add to the variance of the mean; S − 1 degrees of freedom."""
        return self.seeds / (self.shape[0] * self.shape[1])

    @property
    def of_problems(self) -> Reals:
        """What problems add to it; P − 1 degrees of freedom."""
        added: Reals = np.maximum(self.problems - self.residual, 0) / (self.shape[0] * self.shape[1])
        return added

    @property
    def for_these_seeds(self) -> Reals:
        """The variance of the mean if only problems were drawn anew; P − 1 degrees of freedom."""
        return self.problems / (self.shape[0] * self.shape[1])


def mean_squares(differences: ArrayLike) -> MeanSquares:
    """Of `[..., seeds, problems]`; at least two problems."""
    d = np.asarray(differences, np.float64)
    seeds, problems = d.shape[-2:]
    rows, columns = d.mean(axis=-1), d.mean(axis=-2)
    grand = rows.mean(axis=-1)
    of_problems = seeds * ((columns - grand[..., None]) ** 2).sum(axis=-1)
    if seeds == 1:
        nothing = np.zeros_like(grand)
        return MeanSquares(nothing, of_problems / (problems - 1), nothing, (seeds, problems))
    of_seeds = problems * ((rows - grand[..., None]) ** 2).sum(axis=-1)
    total = ((d - grand[..., None, None]) ** 2).sum(axis=(-2, -1))
    rest = np.maximum(total - of_seeds - of_problems, 0)
    # what is only rounding would otherwise make a p of differences that never vary
    of_seeds, of_problems, rest = (np.where(x <= _EQUAL * seeds * problems, 0, x) for x in (of_seeds, of_problems, rest))
    return MeanSquares(
        of_seeds / (seeds - 1), of_problems / (problems - 1), rest / ((seeds - 1) * (problems - 1)), (seeds, problems)
    )


def measured(left: ArrayLike, right: ArrayLike) -> Components:
    """The components behind left minus right, `[problems]` or `[seeds, problems]`: without bias but for estimates below 0, which
    become 0. Raises UserError for a single problem."""
    a, b = vectors(left, right)
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    if a.shape[1] < 2:
        raise UserError("variances need scores of two problems or more")
    squares = mean_squares(a - b)
    seeds, problems = squares.shape
    if seeds == 1:
        return Components(None, float(squares.problems), 0.0, binary)
    between = float((squares.seeds - squares.residual) / problems)
    return Components(
        max(0.0, between), max(0.0, float((squares.problems - squares.residual) / seeds)), float(squares.residual), binary
    )


def half_width(squares: MeanSquares, alpha: ArrayLike) -> Reals:
    """Half the width of the interval of confidence 1 − alpha around the mean difference.

    The square is t²(S−1)·V_seeds + t²(P−1)·V_problems, each part with the quantile of its own degrees of freedom (Banerjee 1960):
    its error is at most alpha, which Satterthwaite's approximation does not keep with two to five seeds. It is never less than
    for these seeds alone, t²(P−1)·V_for_these_seeds, so that seeds of equal means by chance prove nothing.
    """
    seeds, problems = squares.shape
    of_problems = special.stdtrit(problems - 1, np.asarray(alpha) / 2) ** 2
    smallest: Reals = of_problems * squares.for_these_seeds
    if seeds == 1:
        return np.sqrt(smallest)
    both = special.stdtrit(seeds - 1, np.asarray(alpha) / 2) ** 2 * squares.of_seeds + of_problems * squares.of_problems
    wide: Reals = np.sqrt(np.maximum(both, smallest))
    return wide


def p_value(value: ArrayLike, squares: MeanSquares, direction: Direction = "two-sided") -> Reals:
    """The level at which the interval around `value` just reaches 0, as a p for a direction; never below `SMALLEST_P`.

    Differences that do not vary at all have no such level; their p is that of all problems falling to one side by chance.
    """
    mean = np.asarray(value, np.float64)
    low, high = np.full(mean.shape, np.log(SMALLEST_P)), np.zeros(mean.shape)
    for _ in range(60):  # the half width falls as alpha grows
        middle = (low + high) / 2
        reached = np.abs(mean) >= half_width(squares, np.exp(middle))
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    unvaried = (squares.for_these_seeds == 0) & (squares.of_seeds == 0)
    two = np.where(unvaried, max(SMALLEST_P, 2 * 0.5 ** squares.shape[1]), np.exp(high))
    return directed(np.where(np.abs(mean) <= _EQUAL, 1.0, two), mean, direction)


def directed(two_sided: ArrayLike, value: ArrayLike, direction: Direction) -> Reals:
    """The p for a direction from the two-sided p of a symmetric test."""
    two = np.asarray(two_sided, np.float64)
    if direction == "two-sided":
        return two
    along = np.asarray(value) > 0 if direction == "greater" else np.asarray(value) < 0
    one: Reals = np.where(along, two / 2, 1 - two / 2)
    return one
