"""How the arms of a rung were trained, and which stages each of them could not have been without."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from statistics import fmean
from typing import Any, NamedTuple

from w2sr_jax.curation.arms import Select
from w2sr_jax.evaluation.arms import SHARED, ArmTraining, Needed, Part
from w2sr_jax.experiment import BASE, GOLD, Arm, Experiment, Rung, TrainingStage
from w2sr_jax.stages import examples, layout, models
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.beside import Wrote, beside
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
    needs = _Needs(experiment)
    uses = [{arm.name: needs.of(index, arm.name) for arm in rung.trained} for index, rung in enumerate(experiment.rungs)]
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
    """The arm before another one: of those whose training stages, from the base on and with what was selected for them, are the
    first of its own, the one with the most; None where there is none. The one that it is stated to go on from is one of them."""
    own = _steps(rung, arm)
    counts: dict[str, int] = {}
    for other in rung.trained:
        steps = _steps(rung, other)
        if 0 < len(steps) < len(own) and steps == own[: len(steps)]:
            counts[other.name] = len(steps)
    # Among as many, several arms may have trained alike.
    return max(counts, key=lambda name: (counts[name], name == arm.after), default=None)


def _steps(rung: Rung, arm: Arm) -> list[tuple[bool, Select, TrainingStage]]:
    """The training stages that lead from the base to an arm's student, each with what is selected for it, and whether that is
    from gold solutions."""
    earlier = _steps(rung, rung.arm(arm.after)) if arm.after else []
    return [*earlier, *((arm.name == GOLD, arm.select, stage) for stage in rung.stages_of(arm))]


class _Needs:
    """What each model of an experiment was made from. Each is looked at once for an arm, by whichever of several ways its needs
    lead to it, since their number doubles with every model that looks at two."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.made: dict[str, Model] = {}
        """All models that are trained, by their names."""
        self.sources: dict[str, Model | None] = {}
        """The models that trainings go on from, by the names of those that they make."""
        self._beside: dict[str, tuple[Model, ...]] = {}
        for teacher in experiment.teachers:
            self._chain(None, models.teacher_chain(teacher))
        for index, rung in enumerate(experiment.rungs):
            parent = rung.start.parent
            source = None if parent is None else models.student(experiment, index - 1, parent)
            self._chain(source, [models.student(experiment, index, BASE)])
            for arm in rung.trained:
                source = models.student(experiment, index, arm.after or BASE)
                self._chain(source, models.students(experiment, index, arm))

    def _chain(self, source: Model | None, chain: Iterable[Model]) -> None:
        for model in chain:
            self.made[model.name], self.sources[model.name] = model, source
            source = model

    def of(self, index: int, arm: str) -> list[_Use]:
        """The stages that an arm of a rung needs, each once, for the first reason there is."""
        by_name: dict[str, _Use] = {}
        for use in self._student(models.student(self.experiment, index, arm), index, arm, set()):
            by_name.setdefault(use.stage, use)
        return list(by_name.values())

    def _student(self, model: Model, index: int, arm: str, seen: set[str]) -> Iterator[_Use]:
        """What a student of a rung needs, as one of its arms has it. Another rung's is a teacher."""
        if model.rung != index:
            yield from self._teacher(model, seen)
        elif model.arm != BASE and model.name not in seen:
            seen.add(model.name)
            yield _Use("own" if model.arm == arm else "before", model.stage)
            source = self.sources[model.name]
            if source is not None:
                yield from self._student(source, index, arm, seen)
            yield from self._learned(model, seen)
            for other in self._looked_at(model):
                yield from self._student(other, index, arm, seen)

    def _teacher(self, model: Model, seen: set[str]) -> Iterator[_Use]:
        """What a teacher, or another model that a loss looks at, needs, from its beginning on."""
        if model.name in seen:
            return
        seen.add(model.name)
        recipe = examples.recipe_of(self.experiment, model)
        later = isinstance(recipe, TrainingStage) and (model.rung is None or recipe.signal != "traces")
        yield _Use("teacher stages" if later else "teacher", model.stage)
        source = self.sources[model.name]
        for one in (*([source] if source is not None else []), *self._looked_at(model)):
            yield from self._teacher(one, seen)
        yield from self._learned(model, seen)

    def _learned(self, model: Model, seen: set[str]) -> Iterator[_Use]:
        """The traces that a student's arm learned from, and who wrote them."""
        if model.rung is None or model.arm in (BASE, GOLD):
            return
        rung = self.experiment.rungs[model.rung]
        if rung.arm(str(model.arm)).select.curates:
            for name, one in zip(rung.teachers, self._teachers(model.rung), strict=True):
                yield _Use("traces", layout.traces_stage(models.rung_directory(self.experiment, model.rung), name))
                if one.writer is not None:
                    yield from self._teacher(one.writer, seen)

    def _teachers(self, index: int) -> list[Wrote[Model]]:
        every = self.experiment.teachers_of(index)
        return [Wrote(teacher, models.writer(self.experiment, index, teacher)) for teacher in every]

    def _looked_at(self, model: Model) -> tuple[Model, ...]:
        """The models that the loss of a training looks at, besides the one that it starts from."""
        if model.name not in self._beside:
            recipe = examples.recipe_of(self.experiment, model)
            found: dict[str, Model] = {}
            if isinstance(recipe, TrainingStage):
                loss, teachers = examples.objective_of(self.experiment, model), []
                # A teacher's own stages are in no rung that would have teachers.
                owns = model.rung is None or recipe.draws_own
                if model.rung is not None:
                    teachers = self._teachers(model.rung)
                found = beside(self.made, model.name, loss, str(model.arm), teachers, owns)
            self._beside[model.name] = tuple(found.values())
        return self._beside[model.name]


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
