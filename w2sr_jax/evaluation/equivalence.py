"""Whether two models are equally good, within a margin that was stated beforehand.

A difference that is not shown is not a difference shown to be absent. Two one-sided tests (TOST; Schuirmann 1987) show that: one
refutes a difference of the margin or more to the left, one to the right, each at alpha.
"""

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.components import SMALLEST_P, MeanSquares, half_width, mean_squares, p_value
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import DIGITS, vectors


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """Left minus right with the interval of confidence 1 − 2·alpha (shares, not points), and whether it lies within the margin.

    `p` is the larger of the two one-sided tests'; `shown` says that no difference larger than the margin is left.
    """

    difference: float
    low: float
    high: float
    n: int
    seeds: int
    margin_points: float
    alpha: float
    p: float
    shown: bool

    @property
    def sentence(self) -> str:
        """What was shown, in words."""
        verdict = "no difference larger than" if self.shown else "not shown to be within"
        low, high = 100 * self.low, 100 * self.high
        return (
            f"{verdict} {self.margin_points:g} point{'' if self.margin_points == 1 else 's'}: {100 * self.difference:+.1f} "
            f"({100 * (1 - 2 * self.alpha):g} % interval {low:+.1f} to {high:+.1f}, "
            f"{self.n:,} problems, {self.seeds} seed{'s' if self.seeds > 1 else ''})"
        ).replace("-", "−")


def equivalence(left: ArrayLike, right: ArrayLike, *, margin_points: float, alpha: float = 0.05) -> Equivalence:
    """Whether left and right, `[problems]` or `[seeds, problems]`, differ by less than a margin in points (hundredths of 1).

    With one seed the tests are paired t tests over problems; with several they are over seeds and problems
    (`components.half_width`). Raises UserError for a margin outside 0 to 100, an alpha outside 0 to 0.5, or a single problem.
    """
    if not 0 < margin_points < 100:
        raise UserError(f"the margin is {margin_points} points; it must lie between 0 and 100, for example 2")
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha is {alpha}; for equivalence it must lie between 0 and 0.5, for example 0.05")
    a, b = vectors(left, right)
    d, margin = a - b, margin_points / 100
    seeds, problems = d.shape
    if problems < 2:
        raise UserError("equivalence needs two problems or more")
    value = float(d.mean())
    if d.min() == d.max():
        found = statistics.interval(d, Evaluation(confidence=1 - 2 * alpha), (-1.0, 1.0))
        low, high, p = found.low, found.high, _unvaried(value, margin, problems)
    else:
        squares = mean_squares(d)
        half = float(half_width(squares, 2 * alpha))
        low, high, p = value - half, value + half, _larger(value, margin, squares)
    return Equivalence(
        difference=round(value, DIGITS) + 0.0,
        low=round(low, DIGITS) + 0.0,
        high=round(high, DIGITS) + 0.0,
        n=problems,
        seeds=seeds,
        margin_points=margin_points,
        alpha=alpha,
        p=p,
        shown=bool(p < alpha and -margin < low and high < margin),
    )


def _larger(value: float, margin: float, squares: MeanSquares) -> float:
    """The p of the two one-sided tests together."""
    return max(float(p_value(value + margin, squares, "greater")), float(p_value(value - margin, squares, "less")))


def _unvaried(value: float, margin: float, problems: int) -> float:
    """The level at which the interval of a difference that all problems share (`statistics.interval`) just reaches the margin.

    That interval lets a share z²/(n + z²) of the problems be the farthest possible from it.
    """
    if abs(value) >= margin:
        return 1.0
    share = min((margin - value) / (1 - value), (margin + value) / (1 + value))
    return max(SMALLEST_P, float(special.ndtr(-np.sqrt(problems * share / (1 - share)))))
