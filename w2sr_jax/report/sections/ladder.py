"""Each rung's students against their teachers, bases and ceilings: tables and pictures of gains and of gaps recovered."""

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from w2sr_jax.evaluation.scores import Comparison
from w2sr_jax.evaluation.statistics import Difference, Gap
from w2sr_jax.report import rule, wording
from w2sr_jax.report.charts import ranges
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.ranges import Mark
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import Results, Rung, TeacherTraces
from w2sr_jax.report.sections.models import Accuracy, accuracy, headed


@dataclasses.dataclass(frozen=True)
class ComparisonRow:
    """An arm's student. The `evidence` of each model is the key of the page with its answers."""

    group: str
    new_group: bool
    rung: int
    kind: str
    look: str
    label: str
    note: str
    teacher: str
    before: str
    comparison: Comparison
    evidence: str | None
    evidence_teacher: str | None
    evidence_base: str | None
    evidence_gold: str | None

    @property
    def n(self) -> int | None:
        return rule.problems(self.comparison)

    @property
    def compared(self) -> bool:
        """Whether it is held against any other model."""
        return any((self.comparison.vs_teacher, self.comparison.vs_base, self.comparison.vs_ceiling))

    @property
    def rgr(self) -> Gap | None:
        """The ceiling itself recovers nothing."""
        return None if self.kind == "gold" else self.comparison.rgr_base

    @property
    def pgr(self) -> Gap | None:
        return None if self.kind == "gold" else self.comparison.pgr


@dataclasses.dataclass(frozen=True)
class TeacherCell:
    title: str
    accuracy: Accuracy | None
    traces: TeacherTraces | None


@dataclasses.dataclass(frozen=True)
class ArmCell:
    label: str
    accuracy: Accuracy | None


@dataclasses.dataclass(frozen=True)
class RungRow:
    """A rung with the accuracies of all its models."""

    title: str
    parameters: int
    teachers: list[TeacherCell]
    parent: str
    base: Accuracy | None
    arms: list[ArmCell]
    gold: Accuracy | None


def comparison_rows(results: Results) -> list[ComparisonRow]:
    """All arms' students, rung by rung."""

    def page(name: str | None) -> str | None:
        model = results.models.get(name or "")
        return None if model is None else model.evidence

    return [
        ComparisonRow(
            group=wording.rung_title(rung),
            new_group=index == 0,
            rung=rung.index,
            kind=arm,
            look=wording.look(results, arm),
            label=wording.arm(arm, rung),
            note=wording.ARM_NOTES.get(arm, ""),
            teacher=wording.model_title(results, rule.teacher_name(rung, rung.comparisons[arm])),
            before=wording.arm(rung.comparisons[arm].before, rung),
            comparison=rung.comparisons[arm],
            evidence=page(rung.models.get(arm)),
            evidence_teacher=page(rule.teacher_name(rung, rung.comparisons[arm])),
            evidence_base=page(rung.models.get("base")),
            evidence_gold=page(rung.models.get("gold")),
        )
        for rung in rule.ordered(results)
        for index, arm in enumerate(_in_order(rung, rung.comparisons))
    ]


def _in_order(rung: Rung, arms: Iterable[str]) -> list[str]:
    return sorted(arms, key=lambda arm: wording.arm_order(arm, rung))


def rung_rows(results: Results, links: Links) -> list[RungRow]:
    """All rungs, from the first to the last."""
    return [_rung_row(results, rung, links) for rung in rule.ordered(results)]


def _rung_row(results: Results, rung: Rung, links: Links) -> RungRow:
    accuracies = {arm: accuracy(results, name, links) for arm, name in rung.models.items()}
    own = [arm for arm in _in_order(rung, accuracies) if arm not in rule.UNLIKE_ARMS]
    return RungRow(
        title=wording.rung_title(rung),
        parameters=rung.student.parameters,
        teachers=[
            TeacherCell(wording.model_title(results, name), accuracy(results, name, links), traces)
            for name, traces in zip_longest(rung.teachers, rung.traces)
            if name is not None
        ],
        parent=wording.model_title(results, rung.parent) if rung.parent else wording.MISSING,
        base=accuracies.get("base"),
        arms=[ArmCell(wording.arm(arm, rung), accuracies[arm]) for arm in own],
        gold=accuracies.get("gold"),
    )


def growth_chart(rows: Sequence[ComparisonRow]) -> Chart | None:
    """Student minus teacher, per rung and arm."""
    compared = [row for row in rows if row.comparison.vs_teacher is not None]
    if not compared:
        return None

    def difference(row: ComparisonRow) -> Difference:
        assert row.comparison.vs_teacher is not None
        return row.comparison.vs_teacher

    def mark(row: ComparisonRow) -> Mark:
        value = difference(row).difference
        return Mark.of(row.label, row.look, value, difference(row), wording.points(value))

    words = "; ".join(f"{row.group}, {row.label} {wording.points(difference(row).difference)} points" for row in compared)
    alt = f"Student minus teacher in percentage points, with intervals. {words}."
    return ranges.ranges("growth", headed(compared, mark), "points above the teacher", alt, zero=(0.0,), signed=True)
