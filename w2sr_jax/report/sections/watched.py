"""What was watched while students, and teachers, learned from their own answers or from pairs: curves, and where they began and
ended."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from w2sr_jax.evaluation.watched import thinned
from w2sr_jax.report import hostile, wording
from w2sr_jax.report.charts import curves, multiples
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.multiples import Series, Small
from w2sr_jax.report.results import CurvePoint, TrainingLog
from w2sr_jax.report.sections.models import ModelRow

MOST_POINTS = 120
MOST_GROUPS = 6
ENDS = 0.1
"""The share of the logged steps at each end whose mean is told."""


class Quantity(NamedTuple):
    """A metric by its `name` in journals: what it is called, whether it is a `share`, and how many digits are told."""

    name: str
    title: str
    share: bool = False
    digits: int = 2


OWN = (
    Quantity("reward", "reward"),
    Quantity("length", "length, tokens", digits=1),
    Quantity("entropy", "entropy, nats", digits=3),
    Quantity("kl", "KL to its start, nats", digits=3),
    Quantity("clipped", "clipped, %", share=True),
    Quantity("ratio_deviation", "ratio’s deviation"),
    Quantity("ratio_far", "ratio off by > 10 %, %", share=True),
    Quantity("truncated", "cut off, %", share=True),
    Quantity("looping", "looping, %", share=True),
    Quantity("bare", "no reasoning, %", share=True),
    Quantity("no_variance", "no variance, %", share=True),
)
PAIRS = (Quantity("margin", "margin, nats"), Quantity("pair_accuracy", "chosen above rejected, %", share=True))
NOT_TOLD_BY_ENDS = ("ratio_deviation", "ratio_far")


@dataclasses.dataclass(frozen=True)
class WatchedRow:
    """A training; `cells` are texts, one per column, `stage` says which of several its model went through."""

    row: ModelRow
    stage: str
    steps: int
    cells: list[str]

    @property
    def group(self) -> str:
        return self.row.group


@dataclasses.dataclass(frozen=True)
class Watched:
    """The trainings of a group: on their own answers, or on pairs. `still` names what was 0 throughout, which has no panel; `own`
    is whether they drew answers, of which more is watched than of pairs."""

    title: str
    columns: list[str]
    rows: list[WatchedRow]
    chart: Chart | None
    still: str
    own: bool


def sections(models: Sequence[ModelRow]) -> list[Watched]:
    """A section for each rung, and for the teachers, whose models learned so."""
    groups = list(dict.fromkeys(row.group for row in models))
    made = []
    for number, group in enumerate(groups[:MOST_GROUPS]):
        own = [(row, log) for row in models if row.group == group for log in logs(row)]
        for kind, signals, quantities in (("own", ("rewards", "answers"), OWN), ("pairs", ("pairs",), PAIRS)):
            chosen = [(row, log) for row, log in own if log.signal in signals]
            what = "on their own answers" if kind == "own" else "on pairs"
            if chosen:
                made.append(_section(f"{group}, {what}", f"watched-{kind}-{number}", chosen, quantities))
    return made


def logs(row: ModelRow) -> list[TrainingLog]:
    """A model's trainings, in order."""
    model = row.model
    return [*model.earlier, *([model.training] if model.training else [])]


def _section(title: str, name: str, chosen: Sequence[tuple[ModelRow, TrainingLog]], quantities: Sequence[Quantity]) -> Watched:
    seen = [one for one in quantities if any(_values(log.curve, one.name) for _, log in chosen)]
    still = [one for one in seen if not any(value for _, log in chosen for value in _values(log.curve, one.name))]
    moving = [one for one in seen if one not in still]
    told = [one for one in seen if one in moving or one.name in NOT_TOLD_BY_ENDS]
    labels = [labelled(row, log) for row, log in chosen]
    return Watched(
        title=title,
        columns=[one.title for one in told],
        rows=[WatchedRow(row, stage_of(row, log), _steps(log), [_cell(log, one) for one in told]) for row, log in chosen],
        chart=_chart(title, name, chosen, labels, moving) if moving else None,
        still=wording.listing([one.title.partition(",")[0] for one in still]),
        own=quantities is OWN,
    )


def _chart(
    title: str, name: str, chosen: Sequence[tuple[ModelRow, TrainingLog]], labels: Sequence[str], moving: Sequence[Quantity]
) -> Chart:
    panels = [
        Small(one.title, tuple(_lines(log.curve, one) for _, log in chosen), logarithmic=one.name == "ratio_deviation")
        for one in moving
    ]
    ends = "; ".join(
        f"{label}: {', '.join(f'{one.title} {_cell(log, one)}' for one in moving if _values(log.curve, one.name))}"
        for label, (_, log) in zip(labels, chosen)
    )
    looks = [row.look for row, _ in chosen]
    series = [Series(look, label, looks[:index].count(look)) for index, (look, label) in enumerate(zip(looks, labels))]
    return multiples.multiples(name, series, panels, f"What was watched by training step, {title}. {ends}.")


def labelled(row: ModelRow, log: TrainingLog) -> str:
    """What a training is called in a legend, where room is scarce: its model, and which of several training stages it is."""
    number = _number(row, log)
    end = f", stage {number}" if len(logs(row)) > 1 else ""
    return hostile.one_line(row.label, curves.LONGEST - len(end)) + end


def stage_of(row: ModelRow, log: TrainingLog) -> str:
    """Which of its model's training stages it is, and of what kind; empty where there is one."""
    every = len(logs(row))
    return f"stage {_number(row, log)} of {every}, {log.stage or 'Imitation'}" if every > 1 else ""


def _number(row: ModelRow, log: TrainingLog) -> int:
    """From 1 on. Two stages may have logged the same."""
    return next(number for number, each in enumerate(logs(row), 1) if each is log)


def _steps(log: TrainingLog) -> int:
    return max((point.step for point in log.curve), default=0)


def _values(curve: Sequence[CurvePoint], name: str) -> list[float]:
    return [point.watched[name] for point in curve if point.watched and name in point.watched]


def _lines(curve: Sequence[CurvePoint], quantity: Quantity) -> list[list[tuple[float, float]]]:
    """One line per seed, thinned to a readable number of points, first and last kept."""
    seeds: dict[int, list[tuple[float, float]]] = {}
    for point in curve:
        if point.watched and quantity.name in point.watched:
            scale = 100 if quantity.share else 1
            seeds.setdefault(point.seed, []).append((point.step, scale * point.watched[quantity.name]))
    return [thinned(line, MOST_POINTS) for line in seeds.values()]


def _cell(log: TrainingLog, quantity: Quantity) -> str:
    """`0.31 → 0.62`, means over the first and the last steps; of what is watched for its largest, that."""
    if quantity.name in NOT_TOLD_BY_ENDS:
        most = (log.largest or {}).get(quantity.name)
        if most is None:
            return wording.MISSING
        return wording.percent(most, 2) if quantity.share else f"{most:.1e}"
    values = [_values([point for point in log.curve if point.seed == seed], quantity.name) for seed in _seeds(log)]
    first, last = _mean([_end(one, 1) for one in values if one]), _mean([_end(one, -1) for one in values if one])
    if first is None or last is None:
        return wording.MISSING
    if quantity.share:
        return f"{wording.decimal(100 * first, 1)} → {wording.decimal(100 * last, 1)}"
    return f"{wording.decimal(first, quantity.digits)} → {wording.decimal(last, quantity.digits)}"


def _seeds(log: TrainingLog) -> list[int]:
    return list(dict.fromkeys(point.seed for point in log.curve))


def _end(values: Sequence[float], which: int) -> float:
    """The mean over the first (1) or the last (-1) logged steps."""
    count = max(1, round(ENDS * len(values)))
    part = values[:count] if which > 0 else values[-count:]
    return sum(part) / len(part)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
