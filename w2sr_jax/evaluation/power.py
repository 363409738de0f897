"""How often a true difference is shown by the test that `families` uses, and what it takes to show it.

Effects are shares, not points; their sign is that of the declared direction. With several seeds the power is the mean, over the
mean squares that a study may see, of the chance that its interval lies beyond 0 on the right side. With one seed and scores of 0
or 1 it is summed over all outcomes of the exact test.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import special

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.components import Components, MeanSquares, half_width
from w2sr_jax.evaluation.statistics import Direction, Reals


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is to be shown: `power` is the chance of it that is wanted at a level `alpha`, all on one side for a direction."""

    alpha: float = 0.05
    direction: Direction = "two-sided"
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise UserError(f"alpha is {self.alpha}; it must lie between 0 and 0.5, for example 0.05")
        if self.direction not in ("greater", "less", "two-sided"):
            raise UserError(f"direction is {self.direction!r}; it must be greater, less or two-sided")
        if not 0 < self.power < 1:
            raise UserError(f"the wanted power is {self.power}; it must lie between 0 and 1, for example 0.8")

    @property
    def per_side(self) -> float:
        """The level of the side on which the effect lies."""
        return self.alpha / 2 if self.direction == "two-sided" else self.alpha


CLAIM = Claim()
_STUDIES = 4096
_FINEST = 1e-6
MOST_PROBLEMS = 1_000_000
MOST_SEEDS = 64


def power(effect: float, problems: int, seeds: int, components: Components, claim: Claim = CLAIM) -> float:
    """The chance that a true difference of `effect`, 0 to 1, is shown in its direction.

    Raises UserError for fewer than two problems or one seed, or several seeds whose variation was not measured.
    """
    if problems < 2 or seeds < 1:
        raise UserError(f"power is for two problems and one seed or more, not {problems} and {seeds}")
    if seeds == 1 and components.binary:
        return _exact(effect, problems, components.problems + components.residual + effect**2, claim.per_side)
    half, deviation = _half_widths(problems, seeds, components, 2 * claim.per_side)
    if deviation == 0:
        return float(effect > 0)
    return float(special.ndtr((effect - half) / deviation).mean())


def smallest_effect(problems: int, seeds: int, components: Components, claim: Claim = CLAIM) -> float | None:
    """The minimum detectable effect: the smallest difference shown with the wanted power; None where not even 1 is."""
    return _smallest(lambda effect: power(effect, problems, seeds, components, claim) >= claim.power)


def problems_for(effect: float, seeds: int, components: Components, claim: Claim = CLAIM) -> int | None:
    """The fewest problems with which `effect` is shown with the wanted power; None where a million do not do, for what varies
    between seeds does not shrink with problems.

    With one seed the power of the exact test rises in saw teeth; then some problems more can have a little less of it.
    """
    _check(effect)
    return _fewest(lambda n: power(effect, n, seeds, components, claim) >= claim.power, MOST_PROBLEMS)


def seeds_for(effect: float, problems: int, components: Components, claim: Claim = CLAIM) -> int | None:
    """The fewest seeds, two or more, with which `effect` is shown with the wanted power; None where 64 do not do.

    One seed is left out: its test is about two trained models, not about training anew.
    """
    _check(effect)
    return _fewest(lambda n: power(effect, problems, n, components, claim) >= claim.power, MOST_SEEDS)


def fewest_problems(claim: Claim = CLAIM, comparisons: int = 1) -> int:
    """Problems without which one seed can show nothing, even if every problem falls to one side: 2⁻ⁿ at most the level of a side,
    shared among the comparisons."""
    return math.ceil(math.log2(comparisons / claim.per_side))


def _half_widths(problems: int, seeds: int, components: Components, alpha: float) -> tuple[Reals, float]:
    """The half widths that studies will see, `[studies]`, and the standard deviation of their mean difference."""
    if seeds == 1:
        variance = components.problems + components.residual
        of_problems = variance * _spread(problems - 1, "problems")
        nothing = np.zeros_like(of_problems)
        return half_width(MeanSquares(nothing, of_problems, nothing, (1, problems)), alpha), math.sqrt(variance / problems)
    if components.seeds is None:
        raise UserError("one seed says nothing of how seeds vary; give their standard deviation, or plan with one seed")
    expected = (
        components.residual + problems * components.seeds,
        components.residual + seeds * components.problems,
        components.residual,
    )
    squares = MeanSquares(
        expected[0] * _spread(seeds - 1, "seeds"),
        expected[1] * _spread(problems - 1, "problems"),
        expected[2] * _spread((seeds - 1) * (problems - 1), "residual"),
        (seeds, problems),
    )
    variance = (expected[0] + expected[1] - expected[2]) / (seeds * problems)
    return half_width(squares, alpha), math.sqrt(variance)


@functools.lru_cache(maxsize=64)
def _spread(degrees: int, purpose: str) -> Reals:
    """χ²/degrees at evenly spaced probabilities in an order of its own for each purpose: a Latin hypercube of studies."""
    order = keys.generator(0, f"power/{purpose}", _STUDIES).permutation(_STUDIES)
    spread: Reals = special.chdtri(degrees, 1 - (order + 0.5) / _STUDIES) / degrees
    spread.setflags(write=False)
    return spread


def _exact(effect: float, problems: int, discordant: float, per_side: float) -> float:
    """Power of the exact McNemar test where a share `discordant` of the problems, from `effect` to 1, tells the models apart."""
    discordant = min(1.0, max(discordant, effect))
    if discordant == 0:
        return 0.0
    spread = 8 * math.sqrt(problems * discordant * (1 - discordant)) + 8
    first, last = math.floor(problems * discordant - spread), math.ceil(problems * discordant + spread)
    told = np.arange(max(0, first), min(problems, last) + 1)
    # the most that may fall to the losing side: the largest k with P(X ≤ k) ≤ per_side for a fair coin
    critical = np.floor(np.nan_to_num(special.bdtrik(per_side, told, 0.5), nan=-1.0))
    critical += _fair(critical + 1, told) <= per_side
    critical -= _fair(critical, told) > per_side
    losing = (discordant - effect) / (2 * discordant)
    shown = np.where(critical >= 0, special.bdtr(np.maximum(critical, 0), told, losing), 0.0)
    log_chance = (
        special.gammaln(problems + 1)
        - special.gammaln(told + 1)
        - special.gammaln(problems - told + 1)
        + special.xlogy(told, discordant)
        + special.xlog1py(problems - told, -discordant)
    )
    return float((np.exp(log_chance) * shown).sum())


def _fair(most: Reals, told: NDArray[np.int64]) -> Reals:
    """P(X ≤ most) of `told` fair coins; 0 for less than none."""
    chance: Reals = np.where(most < 0, 0.0, special.bdtr(np.clip(most, 0, told), told, 0.5))
    return chance


def _smallest(enough: Callable[[float], bool]) -> float | None:
    """Where on (0, 1] a rising condition begins to hold, by bisection."""
    low, high = 0.0, 1.0
    if not enough(high):
        return None
    while high - low > _FINEST:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _fewest(enough: Callable[[int], bool], most: int) -> int | None:
    """The smallest whole number from 2 to `most` for which a rising condition holds, by doubling and bisection."""
    low = high = 2
    while not enough(high):
        if high == most:
            return None
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _check(effect: float) -> None:
    if not 0 < effect <= 1:
        raise UserError(f"the effect is {effect}; it must be a share above 0, for example 0.03 for 3 points")
