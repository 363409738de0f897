"""What was logged and seen while models trained, from the journals of their trainings."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.core import codec
from w2sr_jax.evaluation.watched import LARGEST, WATCHED, thinned
from w2sr_jax.experiment import BASE, Experiment, TrainingStage
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report.results import CurvePoint, SeedProbe, TrainingLog
from w2sr_jax.stages import examples, layout, models, probing
from w2sr_jax.stages.models import Model
from w2sr_jax.training import journal

CURVE = 120  # points of a training curve, of each seed


def logs(experiment: Experiment, runs: Sequence[RunStore], model: Model) -> list[TrainingLog]:
    """The logs of the trainings of a model's arm, or of its teacher, over all seeds, in order; the last one is the model's own.
    Those that have logged nothing are left out."""
    made = chain(experiment, model)
    every = [_log(experiment, runs, each) for each in made]
    for index, each in enumerate(made[:-1]):
        every[index] = dataclasses.replace(every[index], probe=probe(experiment, runs, each) or None)
    return [log for log in every if log.curve]


def probe(experiment: Experiment, runs: Sequence[RunStore], model: Model) -> tuple[SeedProbe, ...]:
    """What a training's probe saw, over all seeds."""
    paths = {
        seed: run.optional(layout.within(model.directory, layout.PROBE)) for seed, run in zip(experiment.seeds, runs, strict=True)
    }
    return tuple(SeedProbe(seed, point) for seed, path in paths.items() if path for point in probing.points(path))


def chain(experiment: Experiment, model: Model) -> list[Model]:
    """The models that a model's arm goes through, up to it; of a teacher those that its own training stages make. The model alone
    where there are no such."""
    if model.role == "teacher":
        every = models.teacher_chain(experiment.teachers[models.teacher_of(experiment, model)])
        return every[1:] or every
    if model.rung is None or model.arm in (BASE, models.DIRECT):
        return [model]
    return models.students(experiment, model.rung, experiment.rungs[model.rung].arm(str(model.arm)))


def _log(experiment: Experiment, runs: Sequence[RunStore], model: Model) -> TrainingLog:
    recipe = examples.recipe_of(experiment, model)
    stage = recipe if isinstance(recipe, TrainingStage) else None
    manifests = [run.manifest(model.stage) for run in runs]
    every = {seed: _lines(run, model) for seed, run in zip(experiment.seeds, runs, strict=True)}
    return TrainingLog(
        curve=tuple(_point(seed, line, model) for seed, lines in every.items() for line in thinned(lines, CURVE)),
        tokens=sum(manifest.measures.get("tokens", 0) for manifest in manifests if manifest),
        stage="" if stage is None else type(stage).__name__,
        signal=None if stage is None else stage.signal,
        largest=_largest([line for lines in every.values() for line in lines]) or None,
    )


def _lines(run: RunStore, model: Model) -> list[dict[str, Any]]:
    path = run.optional(layout.within(model.directory, layout.METRICS))
    return journal.read(path) if path else []


def _point(seed: int, line: Mapping[str, Any], model: Model) -> CurvePoint:
    watched = {name: line[name] for name in WATCHED if line.get(name) is not None}
    # Not every training has these.
    fields = {"nll": None, "learning_rate": None, **line, "seed": seed, "watched": watched or None}
    return codec.decode(CurvePoint, fields, f"the journal of {model.name}", others=True)


def _largest(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    values = {name: [line[name] for line in lines if line.get(name) is not None] for name in LARGEST}
    return {name: max(each) for name, each in values.items() if each}
