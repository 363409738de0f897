"""How the arms of a rung were trained, what that took, and what each point that they gained has cost."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from w2sr_jax.evaluation.statistics import Difference

Signal = Literal["traces", "rewards", "answers", "pairs"]
"""What a training stage learns from: traces of others (imitation), rewards of the student's own answers (reinforcement), its own
answers with a loss that looks at no reward (distillation, shifts, controls), or pairs of traces (preference)."""

Part = Literal["own", "before", "traces", "teacher", "teacher stages"]
"""Why an arm needs a stage: it is one of its own training stages, or of an arm's that it goes on from or that its loss looks at;
it draws the traces that it learns from; it makes a teacher, or another model that a loss looks at, or is one of the training
stages that this went through after that, such as a teacher's own reinforcement (of a student of another rung, those that did not
learn from traces)."""
SHARED: tuple[Part, ...] = ("traces", "teacher", "teacher stages")
"""The parts that several arms may need, and then share when their cost is spread."""


@dataclasses.dataclass(frozen=True)
class Needed:
    """A stage without which an arm's student would not be. `stages` are its names in `Results.stages`, one per seed, `arms` is
    how many arms of the whole run need it. Counts are of one seed, the mean over all: `steps` of the optimizer, `tokens` that
    were trained on or written, `answers` that were drawn to learn from, floating-point operations; None where there are
    none."""

    part: Part
    stages: tuple[str, ...]
    arms: int
    steps: float | None
    tokens: float | None
    answers: float | None
    flops: float | None


@dataclasses.dataclass(frozen=True)
class ArmTraining:
    """How an arm's student was trained. `signals` says of each training stage what it learns from, in order; `after` names the
    arm that it goes on from (None: the rung's base); `traces` is whether traces were selected for it; `problems` counts those
    of the pool that it may learn from, of one seed."""

    signals: tuple[Signal, ...]
    after: str | None
    traces: bool
    problems: int
    needs: tuple[Needed, ...]


class Spent(NamedTuple):
    """What an arm took, per seed; None where nothing of it is known."""

    seconds: float | None = None
    flops: float | None = None
    steps: float | None = None
    tokens: float | None = None
    answers: float | None = None


class PerPoint(NamedTuple):
    """What a point has cost, with the interval that follows from that of the points gained; `high` is None where it has no end.
    Where nothing was gained, or the cost is not known, all three are None."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def spent(needs: Iterable[Needed], seconds: Mapping[str, float], parts: Iterable[Part], spread: bool = False) -> Spent:
    """The sums over the stages of these parts. `seconds` are those of stages by their names; `spread` charges an arm with its
    share alone of what several arms need from teachers."""
    wanted = set(parts)
    chosen = [need for need in needs if need.part in wanted]
    shares = [1 / need.arms if spread and need.part in SHARED else 1.0 for need in chosen]

    def total(values: Iterable[float | None]) -> float | None:
        known = [value * share for value, share in zip(values, shares, strict=True) if value is not None]
        return sum(known) if known else None

    return Spent(
        seconds=total(_mean_seconds(need, seconds) for need in chosen),
        flops=total(need.flops for need in chosen),
        steps=total(need.steps for need in chosen),
        tokens=total(need.tokens for need in chosen),
        answers=total(need.answers for need in chosen),
    )


def per_point(cost: float | None, gained: Difference | None) -> PerPoint:
    """The cost of each percentage point gained: of the difference, and of the ends of its interval. The most points make the
    least cost; an interval that reaches 0 sets no bound to the cost."""
    if cost is None or gained is None or gained.difference <= 0:
        return PerPoint()
    most = None if gained.low <= 0 else cost / (100 * gained.low)
    return PerPoint(cost / (100 * gained.difference), cost / (100 * gained.high), most)


def _mean_seconds(need: Needed, seconds: Mapping[str, float]) -> float | None:
    """None unless the time of every seed is known."""
    known = [seconds[name] for name in need.stages if name in seconds]
    return sum(known) / len(known) if known and len(known) == len(need.stages) else None
