"""A declared family of comparisons: what was to be shown, tested so that few claims are false.

The primary comparisons are what a study is for, usually one. They are corrected among themselves by Holm's procedure, and so are
the secondary ones: the probability that any primary claim of a study is false is at most alpha, and likewise for the secondary
ones. A comparison is shown if its adjusted p is at most alpha and its interval lies on the declared side of 0. A declared
direction spends all of alpha on its side, and its interval is the one that belongs to it, of confidence 1 − 2·alpha. Who wants a
directed claim to be as hard as that of a two-sided 95 % interval (ICH E9) declares alpha 0.025.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.components import half_width, mean_squares, p_value
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import DIGITS, Direction, Interval, Reals, vectors

EXACT = "exact McNemar test over problems, for this seed"
PERMUTATION = "permutation test over problems, for this seed"
CROSSED = "t test over seeds and problems"
SETTINGS = Evaluation()


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Left against right, `[problems]` or `[seeds, problems]` each, on the same problems; `direction` is what is to be shown."""

    name: str
    left: ArrayLike
    right: ArrayLike
    direction: Direction = "two-sided"

    def __post_init__(self) -> None:
        if self.direction not in ("greater", "less", "two-sided"):
            raise UserError(f"comparison {self.name!r}: direction is {self.direction!r}; it must be greater, less or two-sided")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came out of one comparison. `difference`, `low` and `high` (an interval of `confidence`) are left minus right as a
    share, not points; `n` counts problems. `p` is for the declared direction, `adjusted_p` after Holm's correction."""

    name: str
    direction: Direction
    difference: float
    low: float
    high: float
    confidence: float
    n: int
    seeds: int
    test: str
    p: float
    adjusted_p: float
    shown: bool


@dataclasses.dataclass(frozen=True)
class Family:
    """All comparisons of a study in the order in which they were declared."""

    alpha: float
    primary: tuple[Outcome, ...]
    secondary: tuple[Outcome, ...]


def holm(p_values: ArrayLike) -> Reals:
    """Holm's step-down adjusted p in the order given (Holm 1979): the k-th smallest of m becomes the largest of
    (m − j + 1)·p₍ⱼ₎ for j ≤ k, at most 1. They keep the order of the p values and never fall below them."""
    p = np.asarray(p_values, np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise UserError("p values must be a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def family(
    primary: Sequence[Comparison],
    secondary: Sequence[Comparison] = (),
    *,
    alpha: float = 0.05,
    settings: Evaluation = SETTINGS,
) -> Family:
    """Test what was declared. Names must differ, and there must be a primary comparison; else a UserError says so."""
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha is {alpha}; it must lie between 0 and 0.5, for example 0.05")
    if not primary:
        raise UserError("a study must declare a primary comparison before its first run")
    names = [comparison.name for comparison in (*primary, *secondary)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"every comparison of a family needs a name of its own; repeated: {', '.join(repeated)}")
    kinds = ([compare(comparison, alpha=alpha, settings=settings) for comparison in kind] for kind in (primary, secondary))
    first, second = (adjusted(kind, alpha) for kind in kinds)
    return Family(alpha, first, second)


def adjusted(results: Sequence[Outcome], alpha: float, untested: int = 0) -> tuple[Outcome, ...]:
    """The same comparisons corrected by Holm among themselves, and whether each is shown at `alpha`. So many more of the family
    as are `untested` count with a p value of 1."""
    corrected = holm([*(result.p for result in results), *[1.0] * untested])
    return tuple(
        dataclasses.replace(result, adjusted_p=float(p), shown=bool(p <= alpha) and _on_its_side(result))
        for result, p in zip(results, corrected)
    )


def compare(comparison: Comparison, *, alpha: float = 0.05, settings: Evaluation = SETTINGS) -> Outcome:
    """One comparison on its own.

    One seed: the exact McNemar test where scores are 0 or 1, else a permutation test over problems, with a bootstrap interval.
    The claim is about these two trained models. Several seeds: test and interval of `components.half_width`, whose null is over
    seeds and problems. The claim is about training anew.
    """
    a, b = vectors(comparison.left, comparison.right)
    seeds, problems = a.shape
    if problems < 2:
        raise UserError(f"comparison {comparison.name!r} has one problem; a difference needs two or more")
    both_sides = alpha if comparison.direction == "two-sided" else 2 * alpha
    settings = dataclasses.replace(settings, confidence=1 - both_sides)
    found, p, test = (_one_seed if seeds == 1 else _several_seeds)(a, b, comparison.direction, settings)
    result = Outcome(
        name=comparison.name,
        direction=comparison.direction,
        difference=found.value,
        low=found.low,
        high=found.high,
        confidence=_rounded(settings.confidence),
        n=problems,
        seeds=seeds,
        test=test,
        p=p,
        adjusted_p=p,
        shown=False,
    )
    return dataclasses.replace(result, shown=bool(p <= alpha) and _on_its_side(result))


def _one_seed(a: Reals, b: Reals, direction: Direction, settings: Evaluation) -> tuple[Interval, float, str]:
    found = statistics.paired(a, b, settings)
    interval = Interval(found.difference, found.low, found.high, found.n)
    if found.only_left is not None and found.only_right is not None:
        return interval, statistics.mcnemar_exact(found.only_left, found.only_right, direction), EXACT
    return interval, statistics.permutation_p((a - b)[0], settings.resamples, direction), PERMUTATION


def _several_seeds(a: Reals, b: Reals, direction: Direction, settings: Evaluation) -> tuple[Interval, float, str]:
    d = a - b
    squares, value = mean_squares(d), float(d.mean())
    if d.min() == d.max():
        interval = statistics.interval(d, settings, (-1.0, 1.0))
    else:
        half = float(half_width(squares, 1 - settings.confidence))
        interval = Interval(_rounded(value), _rounded(value - half), _rounded(value + half), d.shape[1])
    return interval, float(p_value(value, squares, direction)), CROSSED


def _on_its_side(result: Outcome) -> bool:
    above, below = result.low > 0, result.high < 0
    return {"greater": above, "less": below, "two-sided": above or below}[result.direction]


def _rounded(value: float) -> float:
    return round(float(value), DIGITS) + 0.0
