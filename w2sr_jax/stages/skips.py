"""Students that were left out since nothing was left to train them on, and what was left out with them.

A stage that is skipped finishes with a manifest like any other, without files and with the reason among its measures, so that a
run goes on behind it and a later call knows of it.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest as lineage
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.stage import Made, Task
from w2sr_jax.report.results import Skipped
from w2sr_jax.stages import models
from w2sr_jax.stages.models import Model

REASON, ORIGIN = "skipped", "skipped_with"


class Skip(NamedTuple):
    """Why a stage was skipped, and with which one: itself, or one that it needs."""

    reason: str
    origin: str

    def made(self, task: Task) -> Made:
        """What a skipped task has made."""
        why = f": {self.reason}" if self.origin == task.name else f", since {student(self.origin)} was"
        return Made(measures={REASON: self.reason, ORIGIN: self.origin}, note=f"skipped{why}")


def of(manifest: Manifest | None) -> Skip | None:
    """The skip that a manifest tells of, if it does."""
    if manifest is None or REASON not in manifest.measures:
        return None
    return Skip(str(manifest.measures[REASON]), str(manifest.measures.get(ORIGIN, manifest.stage)))


def inherited(run: Path, task: Task) -> Skip | None:
    """The skip of a stage that the task cannot do without. A report can do without any."""
    if task.kind == "report":
        return None
    return next((skip for need in (*task.needs, *task.parents) if (skip := of(lineage.load(run, need)))), None)


def check_rung(run: Path, plan: Sequence[Task], done: Task) -> None:
    """`NothingToTrain` where all students of the rung of a task that is done were skipped, each for a reason of its own."""
    if not done.may_skip:
        return
    students = [task for task in plan if task.may_skip and task.rung == done.rung]
    found = [of(lineage.load(run, task.name)) for task in students]
    own = [skip for task, skip in zip(students, found) if skip and skip.origin == task.name]
    if len(own) == len(students):
        why = "; ".join(dict.fromkeys(skip.reason for skip in own))
        raise NothingToTrain(f"rung {done.rung} has no student that could be trained: {why}")


def blocked(plan: Sequence[Task], skipped: Task) -> list[int]:
    """The rungs that a skipped student's own would be needed for, from the next one on."""
    lost = {skipped.name}
    rungs: list[int] = []
    for task in plan:
        if lost & set(task.parents):
            lost.add(task.name)
            if task.may_skip and task.rung is not None and task.rung not in rungs:
                rungs.append(task.rung)
    return rungs


def student(task: str) -> str:
    """The name of the student that a task trains."""
    return task.removeprefix("rungs/").removesuffix("/train").replace("/", ".")


def missing(experiment: Experiment, runs: Sequence[Path]) -> dict[str, Skipped]:
    """The models that a report of these runs, one per seed, has to do without, by name: those that some seed has skipped."""
    skipped: dict[str, Skipped] = {}
    for model in models.all_evaluated(experiment):
        for seed, run in zip(experiment.seeds, runs, strict=True):
            skip = of(lineage.load(run, f"evaluations/{model.name}"))
            if skip is not None:
                first = Skipped(model.name, model.rung, model.arm, skip.reason, student(skip.origin), ())
                entry = skipped.get(model.name, first)
                skipped[model.name] = dataclasses.replace(entry, seeds=(*entry.seeds, seed))
    return skipped


def reason(run: Path, model: Model) -> str:
    """Why a model of the run was skipped; "" where it was not."""
    skip = of(lineage.load(run, model.task))
    return skip.reason if skip else ""
