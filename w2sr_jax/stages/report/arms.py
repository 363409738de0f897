"""How the arms of a rung were trained, and which stages each of them could not have been without."""

from collections import Counter
from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from w2sr_jax.evaluation.arms import SHARED, ArmTraining, Needed, Part
from w2sr_jax.experiment import BASE, GOLD, Arm, Experiment, Rung, TrainingStage
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.stages import examples, layout, models
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.report.sources import Sources


class _Use(NamedTuple):
    """A stage by its name, and why it is needed."""

    part: Part
    stage: str


def trainings(experiment: Experiment, sources: Sources, pool: int) -> list[dict[str, ArmTraining]]:
    """How every arm of each rung was trained, the ceiling among them, in the order of the settings. `pool` is the number of
    problems in the pool. The base that all arms of a rung start from counts for none of them, and neither does what looks at them
    alone: probes and evaluations."""
    uses = [{arm.name: _uses(experiment, index, arm) for arm in rung.trained} for index, rung in enumerate(experiment.rungs)]
    arms = Counter(use.stage for of_rung in uses for own in of_rung.values() for use in own if use.part in SHARED)
    return [
        {
            arm.name: ArmTraining(
                signals=tuple(stage.signal for stage in rung.stages_of(arm)),
                after=arm.after or None,
                traces=arm.name != GOLD and arm.select.curates,
                problems=len(prepare.part(range(pool), rung.pool)),
                needs=tuple(_needed(sources, use, arms[use.stage] or 1) for use in uses[index][arm.name]),
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


def _uses(experiment: Experiment, index: int, arm: Arm) -> list[_Use]:
    """The stages that an arm needs, each once, for the first reason there is."""
    by_name: dict[str, _Use] = {}
    for use in _of_student(experiment, models.student(experiment, index, arm.name), index, arm.name):
        by_name.setdefault(use.stage, use)
    return list(by_name.values())


def _of_student(experiment: Experiment, model: Model, index: int, arm: str) -> Iterator[_Use]:
    """What a student of a rung needs, as one of its arms has it. Another rung's is a teacher."""
    if model.rung != index:
        yield from _of_teacher(experiment, model)
    elif model.arm != BASE:
        yield _Use("own" if model.arm == arm else "before", model.stage)
        source = _source(experiment, model)
        if source is not None:
            yield from _of_student(experiment, source, index, arm)
        yield from _learned(experiment, model)
        for other in _looked_at(experiment, model):
            yield from _of_student(experiment, other, index, arm)


def _of_teacher(experiment: Experiment, model: Model) -> Iterator[_Use]:
    """What a teacher, or another model that a loss looks at, needs, from its beginning on."""
    recipe = examples.recipe_of(experiment, model)
    later = isinstance(recipe, TrainingStage) and (model.rung is None or recipe.signal != "traces")
    yield _Use("teacher stages" if later else "teacher", model.stage)
    source = _source(experiment, model)
    for one in (*([source] if source is not None else []), *_looked_at(experiment, model)):
        yield from _of_teacher(experiment, one)
    yield from _learned(experiment, model)


def _learned(experiment: Experiment, model: Model) -> Iterator[_Use]:
    """The traces that a student's arm learned from, and who wrote them."""
    if model.rung is None or model.arm in (BASE, GOLD):
        return
    rung = experiment.rungs[model.rung]
    for name in rung.teachers if rung.arm(str(model.arm)).select.curates else ():
        yield _Use("traces", layout.traces_stage(models.rung_directory(experiment, model.rung), name))
        writer = models.writer(experiment, model.rung, experiment.teacher(name))
        if writer is not None:
            yield from _of_teacher(experiment, writer)


def _source(experiment: Experiment, model: Model) -> Model | None:
    """The model whose parameters a training went on from; None where there was none."""
    if model.rung is None:
        chain = models.teacher_chain(experiment.teachers[models.teacher_of(experiment, model)])
        number = [one.name for one in chain].index(model.name)
        return chain[number - 1] if number else None
    rung = experiment.rungs[model.rung]
    if model.arm == BASE:
        parent = rung.start.parent
        return None if parent is None else models.student(experiment, model.rung - 1, parent)
    arm = rung.arm(str(model.arm))
    chain = models.students(experiment, model.rung, arm)
    number = [one.name for one in chain].index(model.name)
    return chain[number - 1] if number else models.student(experiment, model.rung, arm.after or BASE)


def _looked_at(experiment: Experiment, model: Model) -> list[Model]:
    """The models that the loss of a student's training looks at, besides itself."""
    if model.rung is None or examples.start_of(experiment, model) is not None:
        return []
    chains = [models.teacher_chain(teacher) for teacher in experiment.teachers_of(model.rung)]
    known = {one.name: one for teacher in experiment.teachers for one in models.teacher_chain(teacher)}
    for index, rung in enumerate(experiment.rungs[: model.rung + 1]):
        made = [model for arm in rung.trained for model in models.students(experiment, index, arm)]
        known |= {one.name: one for one in (models.student(experiment, index, BASE), *made)}
    others = []
    for name in models_of(examples.objective_of(experiment, model).loss):
        if name in (TEACHER, models.TEACHER_BASE):
            others += [chain[-1 if name == TEACHER else 0] for chain in chains if chain]
        elif name != INITIAL and name in known:
            others.append(known[name])
    return others


def _needed(sources: Sources, use: _Use, arms: int) -> Needed:
    measures = []
    for run in sources.runs:
        manifest = run.manifest(use.stage)
        measures.append({} if manifest is None else manifest.measures)
    return Needed(
        part=use.part,
        stages=tuple(sources.prefix(run) + use.stage for run in sources.runs),
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
