"""Are claims as rarely false as they say, and as often found? Simulated studies put the statistics of studies to the test.

    python tools/stats/levels.py                 # 2,000 studies of each kind, with and without an effect; minutes
    python tools/stats/levels.py --short         # 1,000 of two kinds, for CI: ten seconds
    python tools/stats/levels.py --procedure pooled     # a wrong procedure in place of the right one: must fail

Without an effect the declared comparison may be shown in at most 5 % of the studies. With the minimum detectable effect that was
stated before the run it must be shown as often as the stated power, within 3 points. A line fails (exit code 1) if its count is
one that a procedure at the very edge of that would produce with a probability below 10⁻⁶.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import beta, binom
from simulated import Population

from w2sr_jax.core import keys
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.detectable import before
from w2sr_jax.evaluation.equivalence import equivalence
from w2sr_jax.evaluation.families import Comparison, family
from w2sr_jax.evaluation.power import Claim
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Direction

ALPHA, POWER, WITHIN = 0.05, 0.8, 0.03
CERTAIN = 1e-6
SETTINGS = Evaluation()

Procedure = Callable[[np.ndarray, np.ndarray, Direction], bool]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of study."""

    problems: int
    seeds: int
    direction: Direction
    population: Population = Population()

    def __str__(self) -> str:
        vary = f"seed sd {100 * self.population.seed_sd:g} points" if self.seeds > 1 else "these two models"
        return f"{self.problems:,} problems, {self.seeds} seed{'s' if self.seeds > 1 else ''}, {self.direction}, {vary}"


@dataclasses.dataclass(frozen=True)
class Line:
    """How often something happened in so many studies, and how often it may: `low` to `high` is what passes."""

    what: str
    count: int
    studies: int
    low: int
    high: int

    @property
    def passes(self) -> bool:
        return self.low <= self.count <= self.high

    @property
    def interval(self) -> tuple[float, float]:
        """Clopper and Pearson's exact 95 % interval of the rate."""
        return exact_interval(self.count, self.studies)

    def __str__(self) -> str:
        low, high = self.interval
        rate = f"{100 * self.count / self.studies:5.1f} %  ({100 * low:.1f} to {100 * high:.1f})"
        return (
            f"{rate:26}{'' if self.passes else 'FAILS: '}{self.what}; passes from {self.low} to {self.high} of {self.studies:,}"
        )


STRONG = Kind(1000, 3, "two-sided", Population(seed_sd=0.05))
"""Seeds that differ so much that problems hardly matter."""
KINDS = (
    Kind(600, 3, "greater"),
    Kind(600, 3, "two-sided"),
    Kind(1000, 5, "greater"),
    Kind(300, 3, "two-sided", Population(seed_sd=0.03)),
    Kind(600, 5, "two-sided", Population(seed_sd=0.0, taste=0.3)),
    Kind(300, 4, "greater", Population(accuracy=0.85, difficulty=0.7, taste=0.05, seed_sd=0.02)),
    Kind(600, 2, "greater"),
    Kind(600, 1, "two-sided", Population(seed_sd=0.0)),
    STRONG,
)
SHORT = KINDS[:1] + KINDS[3:4]


def declared(left: np.ndarray, right: np.ndarray, direction: Direction) -> bool:
    """What `families` does with a declared primary comparison."""
    return family([Comparison("primary", left, right, direction)], alpha=ALPHA, settings=SETTINGS).primary[0].shown


def pooled(left: np.ndarray, right: np.ndarray, direction: Direction) -> bool:
    """Wrong: McNemar's test over seeds × problems as if each were a problem of its own."""
    counts = int(((left == 1) & (right == 0)).sum()), int(((left == 0) & (right == 1)).sum())
    return statistics.mcnemar_exact(*counts, direction) <= ALPHA


def bootstrapped(left: np.ndarray, right: np.ndarray, direction: Direction) -> bool:
    """Too narrow with few seeds: the percentile interval of a bootstrap over problems and seeds."""
    both = ALPHA if direction == "two-sided" else 2 * ALPHA
    found = statistics.interval(left - right, dataclasses.replace(SETTINGS, confidence=1 - both), (-1.0, 1.0))
    return found.low > 0 or (direction == "two-sided" and found.high < 0)


def permuted(left: np.ndarray, right: np.ndarray, direction: Direction) -> bool:
    """About these seeds alone: signs of the problems' means are flipped."""
    return statistics.permutation_p((left - right).mean(axis=0), SETTINGS.resamples, direction) <= ALPHA


PROCEDURES: dict[str, Procedure] = {f.__name__: f for f in (declared, pooled, bootstrapped, permuted)}


def exact_interval(count: int, studies: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson's interval of a rate."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, count, studies - count + 1) if count else 0.0
    high = beta.isf(tail, count + 1, studies - count) if count < studies else 1.0
    return float(low), float(high)


def most(rate: float, studies: int) -> int:
    """A count that is exceeded with a probability below 10⁻⁶ where each study counts with `rate`."""
    return int(binom.isf(CERTAIN, studies, rate))


def fewest(rate: float, studies: int) -> int:
    """A count that is not reached with a probability below 10⁻⁶ where each study counts with `rate`."""
    return int(binom.ppf(CERTAIN, studies, rate))


def counted(kind: Kind, effect: float, studies: int, procedure: Procedure) -> int:
    """In how many studies of a true difference `effect` it is shown."""
    rng = keys.generator(0, "levels", str(kind), round(1e6 * effect))
    accuracy = kind.population.accuracy
    draws = (
        kind.population.draw(rng, (accuracy + effect / 2, accuracy - effect / 2), kind.seeds, kind.problems)
        for _ in range(studies)
    )
    return sum(procedure(left, right, kind.direction) for left, right in draws)


def false_claims(kind: Kind, studies: int, procedure: Procedure) -> Line:
    """Shown though there is no effect."""
    return Line(f"shown without effect: {kind}", counted(kind, 0.0, studies, procedure), studies, 0, most(ALPHA, studies))


def found_claims(kind: Kind, studies: int, procedure: Procedure) -> Line:
    """Shown with the effect that was stated to show with 80 % power."""
    stated = before(kind.problems, kind.seeds, kind.population.assumptions(), Claim(ALPHA, kind.direction, POWER))
    if stated.effect is None:
        raise ValueError(f"no effect has {POWER:.0%} power with {kind}")
    count = counted(kind, stated.effect, studies, procedure)
    low, high = fewest(POWER - WITHIN, studies), most(POWER + WITHIN, studies)
    return Line(f"shown with {100 * stated.effect:.1f} points, stated {POWER:.0%}: {kind}", count, studies, low, high)


def false_families(kind: Kind, studies: int, comparisons: int = 6) -> Line:
    """Any of several secondary comparisons with one common model is shown though there is no effect."""
    rng = keys.generator(0, "levels/family", str(kind), comparisons)
    count = 0
    for _ in range(studies):
        *arms, common = kind.population.draw(rng, (kind.population.accuracy,) * (comparisons + 1), kind.seeds, kind.problems)
        pairs = [Comparison(str(number), arm, common, kind.direction) for number, arm in enumerate(arms)]
        primary = dataclasses.replace(pairs[0], name="primary")
        count += any(result.shown for result in family([primary], pairs, alpha=ALPHA).secondary)
    return Line(f"any of {comparisons} secondary shown without effect: {kind}", count, studies, 0, most(ALPHA, studies))


def false_equivalences(kind: Kind, studies: int, margin: float = 0.05) -> Line:
    """Equivalence is shown though the difference is the margin."""
    rng, accuracy = keys.generator(0, "levels/equivalence", str(kind)), kind.population.accuracy
    count = 0
    for _ in range(studies):
        left, right = kind.population.draw(rng, (accuracy + margin / 2, accuracy - margin / 2), kind.seeds, kind.problems)
        count += equivalence(left, right, margin_points=100 * margin, alpha=ALPHA).shown
    what = f"equivalence within {100 * margin:g} points shown at that difference: {kind}"
    return Line(what, count, studies, 0, most(ALPHA, studies))


def lines(kinds: tuple[Kind, ...], studies: int, procedure: Procedure) -> Iterator[Line]:
    """What is checked, one after the other."""
    for kind in kinds:
        yield false_claims(kind, studies, procedure)
        yield found_claims(kind, studies, procedure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="1,000 studies of two kinds")
    parser.add_argument("--studies", type=int, help="studies of each kind")
    parser.add_argument("--procedure", choices=sorted(PROCEDURES), default="declared")
    options = parser.parse_args()
    studies = options.studies or (1000 if options.short else 2000)
    failed = 0
    for line in lines(SHORT if options.short else KINDS, studies, PROCEDURES[options.procedure]):
        print(line, flush=True)
        failed += not line.passes
    if not options.short and options.procedure == "declared":
        for line in (false_families(KINDS[0], studies), false_equivalences(KINDS[0], studies)):
            print(line, flush=True)
            failed += not line.passes
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
