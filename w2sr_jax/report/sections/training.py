"""What was seen while models trained: curves of the loss, and what the probe saw."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from w2sr_jax.evaluation.probe import ProbePoint
from w2sr_jax.evaluation.scores import HeldOut
from w2sr_jax.evaluation.watched import thinned
from w2sr_jax.report.charts import curves
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.results import CurvePoint, SeedProbe, TrainingLog
from w2sr_jax.report.sections import watched
from w2sr_jax.report.sections.models import ModelRow

MOST_POINTS = 160
MOST_PANELS = 12

_OTHERWISE = {"rewards": ", own answers", "answers": ", own answers", "pairs": ", pairs"}
"""Trainings whose steps are too unlike those on texts to share an axis with them."""

Lines = list[list[tuple[float, float]]]


@dataclasses.dataclass(frozen=True)
class TrainedRow:
    """A training on texts; `last` is the last logged step of its last seed, `stage` says which of several it is. `held` is the
    likelihood of held-out traces, which is that of the model after all its training stages: it stands at the last of them, which
    has a row of its own where it is no training on texts."""

    row: ModelRow
    log: TrainingLog | None
    last: CurvePoint | None
    stage: str
    held: HeldOut | None

    @property
    def group(self) -> str:
        return self.row.group


@dataclasses.dataclass(frozen=True)
class ProbeRow:
    """A probed model at the first and the last step of a training, means over seeds; `points` counts steps, `stage` says which of
    several trainings it is."""

    row: ModelRow
    stage: str
    first_step: int
    last_step: int
    points: int
    accuracy_first: float | None
    accuracy_last: float | None
    induced_first: float | None
    induced_last: float | None
    n: int
    n_induced: int

    @property
    def group(self) -> str:
        return self.row.group


def trained(models: Sequence[ModelRow]) -> list[TrainedRow]:
    """The trainings on texts, and the models of which a likelihood of held-out traces is known."""
    rows: list[TrainedRow] = []
    for row in models:
        every, held = watched.logs(row), row.model.held_out
        for log in on_texts(row):
            rows.append(TrainedRow(row, log, log.curve[-1], watched.stage_of(row, log), held if log is every[-1] else None))
        if held and not (rows and rows[-1].row is row and rows[-1].held):
            rows.append(TrainedRow(row, None, None, watched.stage_of(row, every[-1]) if every else "", held))
    return rows


def on_texts(row: ModelRow) -> list[TrainingLog]:
    """A model's trainings on texts of others, in order."""
    return [log for log in watched.logs(row) if log.signal in (None, "traces") and log.curve]


def probed(models: Sequence[ModelRow]) -> list[ProbeRow]:
    """The models that were probed, in each training stage that was."""
    return [_probe_row(row, log, [one.point for one in seen]) for row, log, seen in _looks(models)]


def _looks(models: Sequence[ModelRow]) -> Iterator[tuple[ModelRow, TrainingLog | None, Sequence[SeedProbe]]]:
    """What probes saw of each model in each of its trainings, in order."""
    for row in models:
        for log, seen in (*((log, log.probe) for log in row.model.earlier), (row.model.training, row.model.probe)):
            if seen:
                yield row, log, seen


def _probe_row(row: ModelRow, log: TrainingLog | None, points: Sequence[ProbePoint]) -> ProbeRow:
    steps = sorted({point.step for point in points})
    first, last = ([point for point in points if point.step == step] for step in (steps[0], steps[-1]))
    return ProbeRow(
        row=row,
        stage="" if log is None else watched.stage_of(row, log),
        first_step=steps[0],
        last_step=steps[-1],
        points=len(steps),
        accuracy_first=_mean(point.accuracy for point in first),
        accuracy_last=_mean(point.accuracy for point in last),
        induced_first=_mean(point.induced for point in first),
        induced_last=_mean(point.induced for point in last),
        n=points[0].n,
        n_induced=points[0].n_induced,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None


def chart(models: Sequence[ModelRow]) -> Chart | None:
    """Training loss of each arm, one panel per rung; teachers and bases in a panel of their own."""
    panels: dict[str, dict[str, Lines]] = {}
    labels: dict[tuple[str, str], str] = {}
    for row in models:
        before = row.rung is None or row.kind.startswith("base")
        for log in on_texts(row):
            lines = _lines(log.curve)
            if lines:
                title = "Before the ladder" if before else row.group
                name = watched.labelled(row, log) if row.rung is None or not before else f"base, {row.group.lower()}"
                entries = panels.setdefault(title, {})
                key = curves.apart(entries, name if before else row.look)
                entries[key], labels[title, key] = lines, name
    if not panels:
        return None
    shown = sorted(panels.items(), key=lambda panel: (panel[0] == "Before the ladder", panel[0]))[:MOST_PANELS]
    ends = _said(shown, 2, labels)
    alt = f"Training curves, negative log-likelihood by step. {ends}."
    return curves.curves("training", shown, "NLL, nats per token", alt, labels=labels)


def _lines(curve: Sequence[CurvePoint]) -> Lines:
    """One line per seed, thinned to a readable number of points, first and last kept."""
    seeds: dict[int, list[tuple[float, float]]] = {}
    for point in curve:
        if point.nll is not None:
            seeds.setdefault(point.seed, []).append((point.step, point.nll))
    return [thinned(line, MOST_POINTS) for line in seeds.values()]


def probe_chart(models: Sequence[ModelRow]) -> Chart | None:
    """Accuracy and the rate of induced errors by step: a panel of each per rung, a line per seed."""
    panels: dict[str, dict[str, Lines]] = {}
    labels: dict[tuple[str, str], str] = {}
    for row, log, points in _looks(models):
        how = _OTHERWISE.get(log.signal or "", "") if log else ""
        accuracy = [(one.seed, one.point.step, one.point.accuracy) for one in points]
        induced = [(one.seed, one.point.step, one.point.induced) for one in points]
        for title, values in (("accuracy", accuracy), ("induced errors", induced)):
            seeds: dict[int, list[tuple[float, float]]] = {}
            for seed, step, value in values:
                if value is not None:
                    seeds.setdefault(seed, []).append((step, 100 * value))
            if seeds:
                panel = f"{row.group}, {title}{how}"
                entries = panels.setdefault(panel, {})
                key = curves.apart(entries, row.look)
                entries[key] = [sorted(line) for line in seeds.values()]
                labels[panel, key] = watched.labelled(row, log) if log else row.label
    if not panels:
        return None
    shown = list(panels.items())[:MOST_PANELS]
    ends = _said(shown, 1, labels)
    alt = f"Accuracy on the probe problems, and errors induced by the teacher, in percent by training step. {ends}."
    return curves.curves("probe", shown, "%", alt, legend="best", labels=labels)


def _said(panels: Sequence[tuple[str, dict[str, Lines]]], digits: int, labels: curves.Labels) -> str:
    def ends(title: str, entries: dict[str, Lines]) -> str:
        named = ((curves.called(kind, title, labels), lines[0][-1][1]) for kind, lines in entries.items())
        return ", ".join(f"{name} ends at {value:.{digits}f}" for name, value in named)

    return "; ".join(f"{title}: {ends(title, entries)}" for title, entries in panels)
