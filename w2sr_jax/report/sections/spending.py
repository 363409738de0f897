"""What each arm took and what it gained for that: its own training, what it goes on from, its teachers and their traces."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from w2sr_jax.evaluation import arms as spending
from w2sr_jax.evaluation.arms import SHARED, ArmTraining, PerPoint, Spent
from w2sr_jax.evaluation.cost import Timings
from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.report import hostile, reinforcement, rule, wording
from w2sr_jax.report.results import Results, Rung
from w2sr_jax.report.sections.ladder import ComparisonRow

NEARLY = 1.05
"""Numbers whose largest is at most so many times their least are called about equal."""


@dataclasses.dataclass(frozen=True)
class Price:
    """A point gained, in seconds and in floating-point operations."""

    seconds: PerPoint
    flops: PerPoint

    @property
    def known(self) -> bool:
        return self.seconds.value is not None or self.flops.value is not None


@dataclasses.dataclass(frozen=True)
class SpendingRow:
    """An arm, per seed: its `own` training, that of arms `before` it, its teachers and their traces (`taught`), of which
    `teacher_stages` are the teachers' own training stages; `whole` charges it with all of that, `spread` with its share of what
    several arms need from teachers."""

    row: ComparisonRow
    gained: Difference | None
    own: Spent
    before: Spent
    taught: Spent
    teacher_stages: Spent
    whole: Spent
    spread: Spent
    price: Price
    price_spread: Price

    @property
    def group(self) -> str:
        return self.row.group


@dataclasses.dataclass(frozen=True)
class Spending:
    """`equal` says in a sentence per group of arms what they had equally much of; `reinforced` is whether a teacher went through
    training stages of its own."""

    rows: list[SpendingRow]
    equal: list[str]
    reinforced: bool


def section(results: Results, rows: Sequence[ComparisonRow], timings: Timings | None) -> Spending | None:
    """The arms of which it is known what they needed; None without any."""
    times = reinforcement.seconds(timings)
    arms = {(rung.index, name): training for rung in results.rungs for name, training in (rung.arms or {}).items()}
    made = [_row(row, arms[row.rung, row.kind], times) for row in rows if (row.rung, row.kind) in arms]
    if not made:
        return None
    equal = [line for rung in results.rungs for line in (*equalities(rung, times), *against(rung, times))]
    return Spending(made, equal, any(need.part == "teacher stages" for one in arms.values() for need in one.needs))


def _row(row: ComparisonRow, training: ArmTraining, times: Mapping[str, float]) -> SpendingRow:
    gained, needs = row.comparison.vs_base, training.needs
    whole, spread = reinforcement.whole(training, times), spending.spent(needs, times, reinforcement.EVERY_PART, spread=True)
    return SpendingRow(
        row=row,
        gained=gained,
        own=spending.spent(needs, times, ("own",)),
        before=spending.spent(needs, times, ("before",)),
        taught=spending.spent(needs, times, SHARED),
        teacher_stages=spending.spent(needs, times, ("teacher stages",)),
        whole=whole,
        spread=spread,
        price=_price(whole, gained),
        price_spread=_price(spread, gained),
    )


def _price(spent: Spent, gained: Difference | None) -> Price:
    return Price(spending.per_point(spent.seconds, gained), spending.per_point(spent.flops, gained))


def equalities(rung: Rung, times: Mapping[str, float]) -> list[str]:
    """For the arms that begin alike, at the base or at the same arm, what their own trainings have equally much of, with the
    numbers."""
    groups: dict[str | None, list[str]] = {}
    arms = rung.arms or {}
    for name in sorted(arms, key=lambda arm: wording.arm_order(arm, rung)):
        if arms[name].needs:
            groups.setdefault(arms[name].after, []).append(name)
    return [_equality(rung, after, names, times) for after, names in groups.items() if len(names) > 1]


def against(rung: Rung, times: Mapping[str, float]) -> list[str]:
    """For the student that speaks for a rung and each reinforcement arm that it is held against: what both took, all that each
    needs included, and what of that is equal."""
    arm, arms = rule.headline_arm(rung), rung.arms or {}
    if arm is None or arm not in arms or not rule.imitates(rung, arm):
        return []
    others = dict.fromkeys([*rule.after(rung, arm), *(one.arm for one in rule.against_reinforcement(rung, arm))])
    return [_against(rung, name, arm, times) for name in others if name in arms]


def _against(rung: Rung, name: str, arm: str, times: Mapping[str, float]) -> str:
    arms = rung.arms or {}
    mine, other = (reinforcement.whole(arms[one], times) for one in (name, arm))
    said = [
        _beside(what, left, right, shown)
        for what, left, right, shown in (
            ("problems in the pool", arms[name].problems, arms[arm].problems, wording.count),
            ("optimizer steps", mine.steps, other.steps, wording.count),
            ("answers of models’ own", mine.answers or 0, other.answers or 0, wording.count),
            ("tokens trained on or written", mine.tokens, other.tokens, wording.quantity),
            ("device time", mine.seconds, other.seconds, wording.duration),
            ("FLOPs", mine.flops, other.flops, wording.quantity),
        )
        if left is not None and right is not None and (left or right)
    ]
    pair = " against ".join(f"“{hostile.one_line(wording.arm(one, rung), 30)}”" for one in (name, arm))
    return f"{wording.rung_title(rung)}, {pair}, with all that each needs: {'; '.join(said)}."


def _beside(what: str, left: float, right: float, shown: Callable[[float | None], str]) -> str:
    """What two arms took, the first one's number first."""
    if left == right:
        return f"equal {what} ({shown(left)})"
    about = "about equal " if min(left, right) > 0 and max(left, right) / min(left, right) <= NEARLY else ""
    return f"{about}{what} {shown(left)} against {shown(right)}"


def _equality(rung: Rung, after: str | None, names: Sequence[str], times: Mapping[str, float]) -> str:
    arms = rung.arms or {}
    own = [spending.spent(arms[name].needs, times, ("own",)) for name in names]
    amounts: tuple[tuple[str, Sequence[float | None], Callable[[float | None], str]], ...] = (
        ("problems in the pool", [arms[name].problems for name in names], wording.count),
        ("optimizer steps", [one.steps for one in own], wording.count),
        ("answers of their own", [one.answers or 0 for one in own] if any(one.answers for one in own) else [None], wording.count),
        ("tokens trained on", [one.tokens for one in own], wording.quantity),
        ("device time", [one.seconds for one in own], wording.duration),
        ("FLOPs", [one.flops for one in own], wording.quantity),
    )
    said = [_amount(what, values, shown) for what, values, shown in amounts if all(value is not None for value in values)]
    begin = "the base" if after is None else wording.arm(after, rung)
    arms_of = wording.listing([f"“{hostile.one_line(wording.arm(name, rung), 30)}”" for name in names])
    return f"{wording.rung_title(rung)}, own training from {begin} on ({arms_of}): {'; '.join(said)}."


def _amount(what: str, values: Sequence[float | None], shown: Callable[[float | None], str]) -> str:
    numbers = [value for value in values if value is not None]
    least, most = min(numbers), max(numbers)
    if least == most:
        return f"equal {what} ({shown(most)})"
    if least > 0 and most / least <= NEARLY:
        return f"about equal {what} ({shown(least)} to {shown(most)})"
    return f"{what} {shown(least)} to {shown(most)}"
