"""Stages that were left out since nothing was left to train a student on, and what was left out with them.

A stage that is skipped finishes with a manifest like any other, without files and with the reason among its measures, so that a
run goes on behind it and a later call knows of it.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.stage import Stage, StageResult, stages_of
from w2sr_jax.graph.store import RunStore

REASON, ORIGIN = "skipped", "skipped_with"


@dataclasses.dataclass(frozen=True)
class Skip:
    """Why a stage was skipped, and with which one: itself, or one that it needs."""

    reason: str
    origin: str

    def result(self, stage: Stage) -> StageResult:
        why = f": {self.reason}" if self.origin == stage.name else f", since {student(self.origin)} was"
        return StageResult(measures={REASON: self.reason, ORIGIN: self.origin}, note=f"skipped{why}")


def of(manifest: Manifest | None) -> Skip | None:
    """The skip that a manifest tells of, if it does."""
    if manifest is None or REASON not in manifest.measures:
        return None
    return Skip(str(manifest.measures[REASON]), str(manifest.measures.get(ORIGIN, manifest.stage)))


def reason(store: RunStore, stage: str) -> str:
    """Why a stage was skipped; "" where it was not."""
    skip = of(store.manifest(stage))
    return skip.reason if skip else ""


def inherited(store: RunStore, stage: Stage) -> Skip | None:
    """The skip of a stage that this one cannot do without."""
    if stage.survives_skips:
        return None
    needs = (*stages_of(stage), *stage.after)
    return next((skip for need in needs if (skip := of(store.peek(need.name)))), None)


def outdated(manifest: Manifest, store: RunStore, stage: Stage) -> str:
    """Why a manifest does not count in a run, in words, where it tells that the stage was left out with another one which the run
    has not skipped, or for another reason; "" where it counts. What a stage only comes `after` is no part of its identity."""
    skip = of(manifest)
    if skip is None or skip.origin == manifest.stage or skip == inherited(store, stage):
        return ""
    return f"it was left out since {student(skip.origin)} was skipped, which is not so now"


def check_rung(store: RunStore, plan: Iterable[Stage], done: Stage) -> None:
    """`NothingToTrain` where all students of the rung of a stage that is done were skipped, each for a reason of its own."""
    if not done.may_skip:
        return
    students = [stage for stage in plan if stage.may_skip and stage.serves == done.serves]
    skips: Mapping[str, Skip | None] = {stage.name: of(store.peek(stage.name)) for stage in students}
    own = [skip for name, skip in skips.items() if skip and skip.origin == name]
    if len(own) == len(students):
        why = "; ".join(dict.fromkeys(skip.reason for skip in own))
        raise NothingToTrain(f"rung {done.serves} has no student that could be trained: {why}")


def blocked_rungs(plan: Iterable[Stage], skipped: Stage) -> list[int]:
    """The rungs that a skipped student's own would be needed for, from the next one on."""
    lost = {skipped.name}
    rungs: list[int] = []
    for stage in plan:
        if lost & {need.name for need in stage.after}:
            lost.add(stage.name)
            if stage.may_skip and stage.serves is not None and stage.serves not in rungs:
                rungs.append(stage.serves)
    return rungs


def student(stage: str) -> str:
    """The name of the student that a stage trains."""
    return stage.removeprefix("rungs/").removesuffix("/train").replace("/", ".")
