"""How the arms of a rung were trained, and which stages each of them could not have been without."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from w2sr_jax.evaluation.arms import SHARED, ArmTraining, Needed, Part
from w2sr_jax.experiment import BASE, GOLD, Arm, Experiment, Rung, TrainingStage
from w2sr_jax.graph.stage import Stage
from w2sr_jax.stages import models, plan
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.report.sources import Sources
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Train


class _Use(NamedTuple):
    """A stage, and why it is needed."""

    part: Part
    stage: Stage


def trainings(experiment: Experiment, sources: Sources, pool: int) -> list[dict[str, ArmTraining]]:
    """How every arm of each rung was trained, the ceiling among them, in the order of the settings. `pool` is the number of
    problems in the pool. The base that all arms of a rung start from counts for none of them, and neither does what looks at them
    alone: probes and evaluations."""
    planned = plan.stages(dataclasses.replace(experiment, extra=()))
    uses = [{arm.name: _uses(planned, index, arm) for arm in rung.trained} for index, rung in enumerate(experiment.rungs)]
    arms = Counter(use.stage.name for of_rung in uses for own in of_rung.values() for use in own if use.part in SHARED)
    return [
        {
            arm.name: ArmTraining(
                signals=tuple(stage.signal for stage in rung.stages_of(arm)),
                after=arm.after or None,
                traces=arm.name != GOLD and arm.select.curates,
                problems=len(prepare.part(range(pool), rung.pool)),
                needs=tuple(_needed(sources, use, arms[use.stage.name] or 1) for use in uses[index][arm.name]),
            )
            for arm in rung.trained
        }
        for index, rung in enumerate(experiment.rungs)
    ]


def before(rung: Rung, arm: Arm) -> str | None:
    """The arm that another one goes on from; where it is not stated, one whose selection and first training stages it shares."""
    if arm.after:
        return arm.after
    own = rung.stages_of(arm)
    for other in rung.selected_arms:
        stages = rung.stages_of(other)
        if other.select == arm.select and not other.after and len(stages) < len(own) and stages == own[: len(stages)]:
            return other.name
    return None


def _uses(planned: plan.ExperimentPlan, index: int, arm: Arm) -> list[_Use]:
    """The stages that an arm needs, each once, for the first reason there is."""
    experiment = planned.experiment
    base = planned.trainings[models.student(experiment, index, BASE).name]
    last = planned.trainings[models.student(experiment, index, arm.name).name]
    by_name: dict[str, _Use] = {}
    for use in _of_student(last, base, arm.name):
        by_name.setdefault(use.stage.name, use)
    return list(by_name.values())


def _of_student(training: Train, base: Train, arm: str) -> Iterator[_Use]:
    """What a student of a rung with this base needs, as the arm has it."""
    if training.name == base.name:
        return
    yield _Use("own" if training.model.arm == arm else "before", training)
    if training.source is not None:
        yield from _of_student(training.source, base, arm)
    yield from _learned(training)
    for other in training.others:
        yield from _of_student(other, base, arm) if other.model.rung == base.model.rung else _of_teacher(other)


def _of_teacher(training: Train) -> Iterator[_Use]:
    """What a teacher, or another model that a loss looks at, needs, from its beginning on."""
    yield _Use("teacher stages" if isinstance(training.recipe, TrainingStage) else "teacher", training)
    for one in (training.source, *training.others):
        if one is not None:
            yield from _of_teacher(one)
    yield from _learned(training)


def _learned(training: Train) -> Iterator[_Use]:
    """The traces that a training learned from, and who wrote them."""
    if training.curation is None or training.model.arm == GOLD:
        return
    for traces in training.curation.traces:
        yield _Use("traces", traces)
        if isinstance(traces, Traces) and traces.writer is not None:
            yield from _of_teacher(traces.writer)


def _needed(sources: Sources, use: _Use, arms: int) -> Needed:
    measures = []
    for run in sources.runs:
        manifest = run.manifest(use.stage.name)
        measures.append({} if manifest is None else manifest.measures)
    return Needed(
        part=use.part,
        stages=tuple(sources.prefix(run) + use.stage.name for run in sources.runs),
        arms=arms,
        steps=_mean(measures, "steps"),
        tokens=_mean(measures, "tokens"),
        answers=_mean(measures, "rollouts"),
        flops=_mean(measures, "flops"),
    )


def _mean(measures: list[Mapping[str, Any]], name: str) -> float | None:
    """Over the seeds; None where one does not have it."""
    values = [one[name] for one in measures if one.get(name) is not None]
    return fmean(values) if len(values) == len(measures) else None
