"""Intervals, paired tests and gap recovered.

A score vector holds one number per problem, `[problems]`, or per seed and problem, `[seeds, problems]`. Intervals come from a
bootstrap of the problems and, with several seeds, of the seeds too. Every call with vectors of one shape sees the same
resamples, so models are compared on the same draws.
"""

import dataclasses
import functools
import math
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation

Reals = NDArray[np.float64]
Direction = Literal["greater", "less", "two-sided"]
"""What a test looks for: left above right, left below right, or either."""

DIGITS = 10  # reported numbers are rounded here, far above the noise of summation order
_CHUNK = 256
_NOTHING = 1e-9


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval over `n` problems."""

    value: float
    low: float
    high: float
    n: int


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A ratio over `n` cases (its denominator) with its confidence interval; None where there is no case or it is undefined."""

    value: float | None
    low: float | None
    high: float | None
    n: int


@dataclasses.dataclass(frozen=True)
class Difference:
    """Left minus right on the same problems. The counts are over problems and seeds; None where scores are not 0 or 1.

    `mcnemar_p` is for one seed: pooled seeds repeat problems, which McNemar's test does not allow; `permutation_p` flips the
    sign of each problem's mean difference and allows it. `by_seed` holds the same per seed, for two seeds or more.
    """

    difference: float
    low: float
    high: float
    n: int
    left: float
    right: float
    both: int | None
    only_left: int | None
    only_right: int | None
    neither: int | None
    mcnemar_p: float | None
    permutation_p: float
    by_seed: tuple["Difference", ...] = ()

    @property
    def p(self) -> float:
        """Of the exact test where there is one."""
        return self.permutation_p if self.mcnemar_p is None else self.mcnemar_p


@dataclasses.dataclass(frozen=True)
class Triple:
    """The three accuracies behind a share of a gap."""

    student: float
    anchor: float
    ceiling: float


@dataclasses.dataclass(frozen=True)
class Width:
    """How far the ceiling lies above the anchor, with its interval."""

    value: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Gap:
    """(student − anchor) / (ceiling − anchor), with what it is made of. Where `suppressed` says why there is no share, value and
    bounds are None; a bound alone is None where the interval has no end on its side."""

    value: float | None
    low: float | None
    high: float | None
    suppressed: str | None
    raw: Triple
    gap: Width


def vectors(*scores: ArrayLike) -> list[Reals]:
    """The scores as float64 `[seeds, problems]` of one common shape; a single seed is repeated where others have several."""
    arrays = [np.atleast_2d(np.asarray(score, np.float64)) for score in scores]
    shapes = [array.shape for array in arrays]
    if any(array.ndim != 2 or array.shape[1] == 0 for array in arrays):
        raise UserError(f"scores must be [problems] or [seeds, problems] with at least one problem, not {shapes}")
    if any(not np.isfinite(array).all() for array in arrays):
        raise UserError("scores must be finite numbers; leave problems that cannot be graded out")
    try:
        common = np.broadcast_shapes(*shapes)
    except ValueError:
        common = (0, 0)
    if any(shape[1] != common[1] or shape[0] not in (1, common[0]) for shape in shapes):
        raise UserError(f"models must be scored on the same problems and seeds to be compared, not on {shapes} (seeds, problems)")
    return [np.broadcast_to(array, common) for array in arrays]


@functools.lru_cache(maxsize=4)
def _problem_weights(problems: int, resamples: int) -> NDArray[np.uint16]:
    """How often each problem is drawn in each resample, `[resamples, problems]`."""
    rng = keys.generator(0, "bootstrap/problems", problems, resamples)
    weights = np.empty((resamples, problems), np.uint16)
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        drawn = rng.integers(problems, size=(rows, problems)) + problems * np.arange(rows)[:, None]
        weights[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * problems).reshape(rows, problems)
    weights.setflags(write=False)
    return weights


def _problem_means(scores: Reals, resamples: int) -> Reals:
    """Means over problems of `[rows, problems]` under each resample of problems: `[resamples, rows]`."""
    problems = scores.shape[1]
    weights = _problem_weights(problems, resamples)
    chunks = (weights[i : i + _CHUNK].astype(np.float64) for i in range(0, resamples, _CHUNK))
    means: Reals = np.concatenate([chunk @ scores.T for chunk in chunks]) / problems
    return means


def _drawn_seeds(means: Reals) -> Reals:
    """`[resamples, seeds]` with the seeds of each resample drawn anew."""
    resamples, count = means.shape
    if count == 1:
        return means
    drawn = keys.generator(0, "bootstrap/seeds", count, resamples).integers(count, size=(resamples, count))
    return np.take_along_axis(means, drawn, axis=1)


def bootstrap_means(scores: Reals, resamples: int) -> Reals:
    """Means of `[seeds, problems]` under each resample of problems, then of seeds: `[resamples]`."""
    means: Reals = _drawn_seeds(_problem_means(scores, resamples)).mean(axis=1)
    return means


def interval(scores: ArrayLike, settings: Evaluation, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Mean and percentile interval of scores that lie within `bounds`.

    Equal scores leave the bootstrap nothing to vary; then the interval reaches towards the bounds by Wilson's upper limit for
    an event never seen in n problems.
    """
    (array,) = vectors(scores)
    value, n = float(array.mean()), array.shape[1]
    if array.min() == array.max():
        low, high = _unvaried(value, n, settings, bounds)
    else:
        low, high = _quantiles(bootstrap_means(array, settings.resamples), settings.confidence)
    return Interval(value=_rounded(value), low=_rounded(low), high=_rounded(high), n=n)


def ratio(
    numerators: ArrayLike, denominators: ArrayLike, settings: Evaluation, bounds: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """Σ numerators / Σ denominators over problems and seeds, with a percentile interval; `n` is Σ denominators.

    A denominator counts the cases of a problem (0: it is none, and its numerator is 0), a numerator lies within `bounds` times
    it. Resamples without a case are left out. Equal ratios everywhere are treated as in `interval`, over problems with a case.
    """
    top, bottom = vectors(numerators, denominators)
    cases = bottom > 0
    n = round(bottom.sum())
    if not n:
        return Estimate(value=None, low=None, high=None, n=0)
    value = float(top.sum() / bottom.sum())
    parts = top[cases] / bottom[cases]
    if parts.min() == parts.max():
        low, high = _unvaried(value, int(cases.any(axis=0).sum()), settings, bounds)
    else:
        draws = [bootstrap_means(array, settings.resamples) for array in (top, bottom)]
        low, high = _quantiles(draws[0][draws[1] > 0] / draws[1][draws[1] > 0], settings.confidence)
    return Estimate(value=_rounded(value), low=_rounded(low), high=_rounded(high), n=n)


def kappa(left: ArrayLike, right: ArrayLike, settings: Evaluation, counted: ArrayLike | None = None) -> Estimate:
    """Error consistency of two models' right (1) and wrong (0) answers: κ = (c_obs − c_exp)/(1 − c_exp) (2502.04313), with
    c_obs the share of problems on which both are right or both are wrong and c_exp = a₁a₂ + (1 − a₁)(1 − a₂).

    Chance is taken within each seed; numerator and denominator are summed over seeds. `counted` marks (1) those that
    count. None where chance alone makes both agree always (c_exp = 1). Resamples in which it does are left out.
    """
    a, b = vectors(left, right)
    a, b, m = vectors(a, b, np.ones_like(a) if counted is None else counted)
    a, b, agree = m * a, m * b, m * (a == b)
    sums = [array.sum(axis=1) for array in (m, a, b, agree)]
    (above,), (room,) = _consistency(*(total[None] for total in sums))
    n = round(m.sum())
    if room <= _NOTHING * n:
        return Estimate(value=None, low=None, high=None, n=n)
    if agree.sum() in (0, m.sum()):  # agreement that never varies leaves the bootstrap too little to vary
        observed = ratio(agree, m, settings)
        chance = 1 - room / n
        low, high = (max(-1.0, (float(bound or 0.0) - chance) / (1 - chance)) for bound in (observed.low, observed.high))
    else:
        draws = [_drawn_seeds(_problem_means(array, settings.resamples)) for array in (m, a, b, agree)]
        tops, bottoms = _consistency(*draws)
        defined = bottoms > _NOTHING
        low, high = _quantiles(tops[defined] / bottoms[defined], settings.confidence)
    return Estimate(value=_rounded(above / room), low=_rounded(low), high=_rounded(high), n=n)


def _consistency(counted: Reals, left: Reals, right: Reals, agree: Reals) -> tuple[Reals, Reals]:
    """Agreement above chance and the room for it, `[resamples]`, from sums (or means) per seed, `[resamples, seeds]`."""
    chance = (left * right + (counted - left) * (counted - right)) / np.maximum(counted, _NOTHING)
    return (agree - chance).sum(axis=1), (counted - chance).sum(axis=1)


def paired(left: ArrayLike, right: ArrayLike, settings: Evaluation) -> Difference:
    """Left minus right on the same problems, with a paired bootstrap interval and exact tests."""
    a, b = vectors(left, right)
    difference = interval(a - b, settings, (-1.0, 1.0))
    binary = bool(np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all())
    counts = [int((x & y).sum()) for x in (a == 1, a != 1) for y in (b == 1, b != 1)] if binary else [None] * 4
    both, only_left, only_right, neither = counts
    single = len(a) == 1
    exact = mcnemar_exact(only_left, only_right) if single and only_left is not None and only_right is not None else None
    return Difference(
        difference=difference.value,
        low=difference.low,
        high=difference.high,
        n=difference.n,
        left=_rounded(a.mean()),
        right=_rounded(b.mean()),
        both=both,
        only_left=only_left,
        only_right=only_right,
        neither=neither,
        mcnemar_p=exact,
        permutation_p=permutation_p((a - b).mean(axis=0), settings.resamples),
        by_seed=() if single else tuple(paired(x, y, settings) for x, y in zip(a, b)),
    )


def mcnemar_exact(only_left: int, only_right: int, direction: Direction = "two-sided") -> float:
    """Exact McNemar p: discordant pairs fall to either side with probability one half."""
    n = only_left + only_right
    k = {"greater": only_right, "less": only_left, "two-sided": min(only_left, only_right)}[direction]
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, (2 if direction == "two-sided" else 1) * tail / (1 << n))


def permutation_p(differences: ArrayLike, resamples: int, direction: Direction = "two-sided") -> float:
    """Monte Carlo p of a mean paired difference, `[problems]`, under random signs; never below 1/(resamples + 1)."""
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    if not values.size:
        return 1.0
    rng = keys.generator(0, "permutation", values.size, resamples)
    values = -values if direction == "less" else values
    extreme = np.abs if direction == "two-sided" else np.positive
    observed, reached = extreme(values.sum()) - _NOTHING, 0
    for start in range(0, resamples, _CHUNK):
        signs = rng.integers(2, size=(min(_CHUNK, resamples - start), values.size), dtype=np.int8) * 2.0 - 1.0
        reached += int((extreme(signs @ values) >= observed).sum())
    return _rounded((1 + reached) / (1 + resamples))


def gap_recovered(student: ArrayLike, anchor: ArrayLike, ceiling: ArrayLike, settings: Evaluation) -> Gap:
    """Share of the way from anchor to ceiling that the student went, with a joint bootstrap interval.

    RGR (2505.20072) with the student's base as anchor, PGR (Burns et al. 2023) with the teacher. Suppressed, with the reason,
    unless the ceiling is above the anchor by an interval that excludes 0: a ratio over such a gap says nothing.
    """
    s, a, c = vectors(student, anchor, ceiling)
    gap = interval(c - a, settings, (-1.0, 1.0))
    raw = Triple(_rounded(s.mean()), _rounded(a.mean()), _rounded(c.mean()))
    width = Width(gap.value, gap.low, gap.high)
    reason = None if gap.low > 0 else "ceiling below anchor" if gap.high < 0 else "gap not distinguishable from 0"
    if reason is not None:
        return Gap(value=None, low=None, high=None, suppressed=reason, raw=raw, gap=width)
    numerator, denominator = (bootstrap_means(x, settings.resamples) for x in (s - a, c - a))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = numerator / denominator
    ratios = np.where(np.isnan(ratios), 0.0, ratios)
    low, high = _quantiles(ratios, settings.confidence, method="inverted_cdf")
    value = (s.mean() - a.mean()) / (c.mean() - a.mean())
    return Gap(
        value=_rounded(value),
        low=_rounded(low) if math.isfinite(low) else None,
        high=_rounded(high) if math.isfinite(high) else None,
        suppressed=None,
        raw=raw,
        gap=width,
    )


def _unvaried(value: float, n: int, settings: Evaluation, bounds: tuple[float, float]) -> tuple[float, float]:
    """Interval of a value that all n problems share."""
    z = NormalDist().inv_cdf(0.5 + settings.confidence / 2)
    unseen = z * z / (n + z * z)
    return value - unseen * (value - bounds[0]), value + unseen * (bounds[1] - value)


def _quantiles(draws: Reals, confidence: float, method: str = "linear") -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, (tail, 1 - tail), method=method)  # type: ignore[call-overload]
    return float(low), float(high)


def _rounded(value: float) -> float:
    return round(float(value), DIGITS) + 0.0  # never -0.0
