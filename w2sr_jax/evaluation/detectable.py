"""What a study of so many problems and seeds can show, in a sentence, with what was assumed in another."""

import dataclasses
import math

from numpy.typing import ArrayLike

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import power
from w2sr_jax.evaluation.components import Components, measured
from w2sr_jax.evaluation.power import CLAIM, Claim
from w2sr_jax.evaluation.statistics import vectors


@dataclasses.dataclass(frozen=True)
class Assumptions:
    """What is expected of two models before a run; measured vectors say more (`after`)."""

    accuracy: float
    """Expected accuracy of both, a share."""
    correlation: float = 0.5
    """Of the two models' right answers to one problem. Not used where `discordant` is given."""
    discordant: float | None = None
    """Share of problems that just one of the two answers right; None: accuracy and correlation say it."""
    seed_sd: float = 0.01
    """Standard deviation between seeds of one model's accuracy over all problems that there are, a share (0.01: one point)."""
    repeated: float = 0.5
    """Share of the other variation in who answers a problem right that repeats in every seed; the rest is new with each."""
    both_vary: bool = True
    """Both models have seeds of their own; False where one of them is the same in all, such as a teacher from a file."""

    def __post_init__(self) -> None:
        for name in ("accuracy", "discordant", "repeated"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise UserError(f"{name} is {value}; it must be a share from 0 to 1")
        if not -1 <= self.correlation <= 1:
            raise UserError(f"correlation is {self.correlation}; it must lie from -1 to 1")
        if self.seed_sd < 0:
            raise UserError(f"seed_sd is {self.seed_sd}; it must be 0 or more")
        if self.between_seeds > self.told_apart:
            raise UserError(
                f"seed_sd {self.seed_sd} is more than models that differ on {100 * self.told_apart:.1f} % of problems can vary"
            )

    @property
    def told_apart(self) -> float:
        """The share of problems that just one of the two answers right."""
        if self.discordant is not None:
            return self.discordant
        return 2 * self.accuracy * (1 - self.accuracy) * (1 - self.correlation)

    @property
    def between_seeds(self) -> float:
        """The variance between seeds of the difference."""
        return (2 if self.both_vary else 1) * self.seed_sd**2

    def components(self) -> Components:
        """The variances that these assumptions come to."""
        rest = self.told_apart - self.between_seeds
        return Components(self.between_seeds, self.repeated * rest, (1 - self.repeated) * rest)

    @property
    def sentence(self) -> str:
        """What is assumed, in words, as far as seeds or not."""
        apart = f"just one of the two models answers {100 * self.told_apart:.1f} % of the problems right"
        source = "" if self.discordant is not None else f" (accuracy {100 * self.accuracy:g} %, correlation {self.correlation:g})"
        both = "either model" if self.both_vary else "the one model that has seeds"
        return (
            f"Assumed: {apart}{source}; the accuracy of {both} has a standard deviation of {_points(self.seed_sd)} between "
            f"seeds; {100 * self.repeated:g} % of the other variation repeats in every seed."
        )


@dataclasses.dataclass(frozen=True)
class Detectable:
    """The smallest difference (a share; None where not even 1 will do) that shows with a power, and on what this rests."""

    effect: float | None
    problems: int
    seeds: int
    claim: Claim
    components: Components
    basis: str

    @property
    def sentence(self) -> str:
        """What will not show."""
        given = f"with {_counted(self.problems, 'problem')} and {_counted(self.seeds, 'seed')}"
        about = "" if self.seeds > 1 else ", for these two trained models and not for others trained anew"
        terms = f"({_terms(self.claim)}{about})"
        if self.effect is None:
            return f"{given} no difference will show {terms}"
        return f"{given} differences below {100 * self.effect:.1f} points will not show {terms}"


@dataclasses.dataclass(frozen=True)
class Needed:
    """How many problems with these seeds, or seeds with these problems, show a difference; None where no number does."""

    effect: float
    problems: int
    seeds: int
    more_problems: int | None
    more_seeds: int | None
    claim: Claim
    components: Components
    basis: str

    @property
    def sentence(self) -> str:
        """What it takes; nothing of seeds where one seed was measured."""
        by = [_counted(self.more_problems, "problem", power.MOST_PROBLEMS) + f" with {_counted(self.seeds, 'seed')}"]
        if self.components.seeds is not None:
            by.append(_counted(self.more_seeds, "seed", power.MOST_SEEDS) + f" with {_counted(self.problems, 'problem')}")
        return f"a difference of {_points(self.effect)} takes {', or '.join(by)} ({_terms(self.claim)})"


def before(problems: int, seeds: int, assumptions: Assumptions, claim: Claim = CLAIM) -> Detectable:
    """The minimum detectable effect of a study that is yet to run. For one of m comparisons under Holm, give alpha/m: the worst
    case of its correction."""
    components = assumptions.components()
    effect = power.smallest_effect(problems, seeds, components, claim)
    return Detectable(effect, problems, seeds, claim, components, assumptions.sentence)


def after(left: ArrayLike, right: ArrayLike, claim: Claim = CLAIM) -> Detectable:
    """The minimum detectable effect with the variances that were measured, `[problems]` or `[seeds, problems]`.

    It says what such a study can show. The difference that was seen does not enter, for the power to show what was seen is its p
    value in other words (Hoenig and Heisey 2001).
    """
    a, _ = vectors(left, right)
    seeds, problems = a.shape
    components = measured(left, right)
    effect = power.smallest_effect(problems, seeds, components, claim)
    return Detectable(effect, problems, seeds, claim, components, _basis(components))


def needed(
    effect: float, problems: int, seeds: int, components: Components, claim: Claim = CLAIM, *, basis: str | None = None
) -> Needed:
    """Problems, or seeds, that show a difference with the wanted power while the other number stays. `basis` says where the
    components come from, such as `Assumptions.sentence`; None: from measured ones."""
    return Needed(
        effect=effect,
        problems=problems,
        seeds=seeds,
        more_problems=power.problems_for(effect, seeds, components, claim),
        more_seeds=None if components.seeds is None else power.seeds_for(effect, problems, components, claim),
        claim=claim,
        components=components,
        basis=_basis(components) if basis is None else basis,
    )


def _terms(claim: Claim) -> str:
    sided = "two-sided" if claim.direction == "two-sided" else "one-sided"
    return f"{100 * claim.power:g} % power, {100 * claim.alpha:g} % {sided} level"


def _basis(components: Components) -> str:
    of_problems = f"{100 * math.sqrt(components.problems):.1f} points between problems"
    if components.seeds is None:
        return f"Standard deviations of the difference: {of_problems}; one seed, so that none between seeds is known."
    return (
        f"Standard deviations of the difference: {100 * math.sqrt(components.seeds):.1f} points between seeds, {of_problems}, "
        f"{100 * math.sqrt(components.residual):.1f} points otherwise."
    )


def _counted(number: int | None, what: str, most: int = 0) -> str:
    """A number of things; None: more than most."""
    return f"more than {most:,} {what}s" if number is None else f"{number:,} {what}{'' if number == 1 else 's'}"


def _points(share: float) -> str:
    return f"{100 * share:g} point{'' if round(100 * share, 9) == 1 else 's'}"
