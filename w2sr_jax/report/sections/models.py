"""Every model as a row, and the picture of their accuracies."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from w2sr_jax.evaluation.statistics import Interval
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.charts import ranges
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.ranges import Mark
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import Model, Results, Rung


class Grouped(Protocol):
    """A row of a table that stands under the heading `group`."""

    @property
    def group(self) -> str: ...


Row = TypeVar("Row", bound=Grouped)


@dataclasses.dataclass(frozen=True)
class ModelRow:
    """A model of the run. `look` picks colour and shape; `reference` is the accuracy of its rung's teacher, None with several;
    `how` says of an arm what it learned from, where that is not traces alone."""

    name: str
    model: Model
    group: str
    new_group: bool
    label: str
    kind: str
    look: str
    note: str
    reference: float | None
    how: str = ""

    @property
    def rung(self) -> int | None:
        return self.model.rung

    @property
    def evidence(self) -> str | None:
        return self.model.evidence

    @property
    def accuracy(self) -> Interval:
        return self.model.scores.accuracy

    @property
    def gain(self) -> tuple[str, ...]:
        """What a teacher's own training stages have brought, in lines."""
        change = self.model.vs_before
        if change is None:
            return ()
        scores = f"{wording.percent(change.right)} → {wording.percent(change.left)}"
        return f"{scores} by its own stages", f"{wording.points(change.difference)} points ({wording.points_range(change)})"

    @property
    def under(self) -> tuple[str, ...]:
        """What stands below its name, in lines."""
        return (*([self.how] if self.how else ()), *self.gain)

    @property
    def by_seed(self) -> str:
        return ", ".join(wording.decimal(100 * value, 1) for value in self.model.scores.by_seed)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """A model's accuracy, and where its answers are."""

    interval: Interval
    href: str | None


def rows(results: Results) -> list[ModelRow]:
    """All models, in the order of tables."""
    titles = {rung.index: wording.rung_title(rung) for rung in rule.ordered(results)}
    by_index: dict[int | None, Rung] = {rung.index: rung for rung in results.rungs}
    table: list[ModelRow] = []
    for name, model in sorted(results.models.items(), key=lambda item: wording.order(by_index.get(item[1].rung), *item)):
        group = "Teachers" if model.rung is None else titles.get(model.rung, f"Rung {model.rung}")
        kind = wording.kind(model)
        table.append(
            ModelRow(
                name=name,
                model=model,
                group=group,
                new_group=not table or table[-1].group != group,
                label=hostile.one_line(name, 30) if model.rung is None else wording.arm_at(results, model.rung, kind),
                kind=kind,
                look=wording.look(results, kind),
                note=wording.ARM_NOTES.get(kind, ""),
                reference=_reference(results, model.rung),
                how=wording.trained(kind, by_index.get(model.rung)),
            )
        )
    return table


def _reference(results: Results, rung: int | None) -> float | None:
    comparisons = (one for entry in results.rungs if entry.index == rung for one in entry.comparisons.values())
    return next((one.vs_teacher.right for one in comparisons if one.vs_teacher is not None), None)


def accuracy(results: Results, name: str | None, links: Links) -> Accuracy | None:
    """The accuracy of the model of this name; None where there is no such model."""
    model = results.models.get(name or "")
    return None if model is None else Accuracy(model.scores.accuracy, links.to(model.evidence))


def chart(models: Sequence[ModelRow]) -> Chart | None:
    """Greedy accuracy of every model with its interval, rung by rung; the teacher's accuracy as a dashed line."""
    if not models:
        return None

    def mark(row: ModelRow) -> Mark:
        return Mark.of(row.label, row.look, row.accuracy.value, row.accuracy, wording.percent(row.accuracy.value), row.reference)

    marks = headed(models, mark)
    words = "; ".join(f"{row.group}, {row.label} {wording.percent(row.accuracy.value)}" for row in models)
    most = max(mark.high or mark.value or 0 for mark in marks)
    limits = (0.0, min(100.0, most * 1.08) if most else 100.0)
    return ranges.ranges("accuracy", marks, "greedy accuracy, %", f"Greedy accuracy by model, with intervals. {words}.", limits)


def headed(rows: Sequence[Row], mark: Callable[[Row], Mark]) -> list[Mark]:
    """The rows' marks, each group under its heading."""
    marks, group = [], None
    for row in rows:
        if row.group != group:
            group = row.group
            marks.append(Mark(row.group))
        marks.append(mark(row))
    return marks
