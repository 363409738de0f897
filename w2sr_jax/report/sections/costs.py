"""What the run cost: stages, their sums by kind, and where a clock was read, their times."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeVar

from w2sr_jax.evaluation.cost import Sittings, StageCost, StageTime, Timings

Number = TypeVar("Number", int, float)


@dataclasses.dataclass(frozen=True)
class StageRow:
    """`seconds` of device time; `finished` is a date as people write it; `training` says of a training where its time went."""

    stage: StageCost
    seconds: float | None
    finished: str | None
    training: Sittings | None = None


@dataclasses.dataclass(frozen=True)
class Sums:
    """Over stages; None where none of them has the number."""

    seconds: float | None
    tokens: int | None
    flops: float | None
    cost: float | None


@dataclasses.dataclass(frozen=True)
class KindRow:
    """The stages of one kind; `width` is their share of all time, in percent."""

    name: str
    count: int
    sums: Sums
    width: float


@dataclasses.dataclass(frozen=True)
class Costs:
    """`timed`: times are known; `paid`: servers asked for money. `training`: where the time of all trainings went together."""

    kinds: list[KindRow]
    stages: list[StageRow]
    total: Sums
    timed: bool
    paid: bool
    training: Sittings | None = None


def costs(stages: Sequence[StageCost], timings: Timings | None) -> Costs:
    """Stages, and their sums by kind. Times come from `timings` by the stages' names."""
    times = {} if timings is None else timings.stages
    rows = [_row(stage, times.get(stage.name)) for stage in stages]
    by_kind: dict[str, list[StageRow]] = {}
    for row in rows:
        by_kind.setdefault(row.stage.kind or row.stage.name, []).append(row)
    total = _sums(rows)
    kinds = [KindRow(name, len(group), sums := _sums(group), _width(sums, total)) for name, group in by_kind.items()]
    return Costs(kinds, rows, total, timed=total.seconds is not None, paid=total.cost is not None, training=_trainings(rows))


def _row(stage: StageCost, time: StageTime | None) -> StageRow:
    if time is None:
        return StageRow(stage, None, None)
    finished = None if time.finished is None else time.finished[:19].replace("T", " ")
    return StageRow(stage, time.device_seconds, finished, time.training)


def _trainings(rows: Sequence[StageRow]) -> Sittings | None:
    every = [row.training for row in rows if row.training is not None]
    if not every:
        return None
    return Sittings(
        wall=sum(each.wall for each in every),
        stepping=sum(each.stepping for each in every),
        lost_steps=sum(each.lost_steps for each in every),
        lost_seconds=sum(each.lost_seconds for each in every),
        sittings=sum(each.sittings for each in every),
    )


def _width(sums: Sums, total: Sums) -> float:
    return round(100 * (sums.seconds or 0) / total.seconds, 2) if total.seconds else 0.0


def _sums(rows: Sequence[StageRow]) -> Sums:
    return Sums(
        seconds=_sum(row.seconds for row in rows),
        tokens=_sum(row.stage.tokens for row in rows),
        flops=_sum(row.stage.flops for row in rows),
        cost=_sum(row.stage.cost for row in rows),
    )


def _sum(values: Iterable[Number | None]) -> Number | None:
    numbers = [value for value in values if value is not None]
    return sum(numbers) if numbers else None
