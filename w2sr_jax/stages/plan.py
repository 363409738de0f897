"""The stages of an experiment: what its settings ask for, as values that refer to each other."""

import dataclasses
from collections.abc import Iterator, Mapping

from w2sr_jax.core.code import returned, usercode
from w2sr_jax.experiment import BASE, GOLD, Experiment, Rung, Teacher, TrainingStage
from w2sr_jax.experiment.policy import OwnAnswers
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.stage import Stage
from w2sr_jax.losses.objective import Objective
from w2sr_jax.parallel.placement import Placement
from w2sr_jax.stages import external, layout, models, placing
from w2sr_jax.stages.beside import Wrote, beside
from w2sr_jax.stages.curate import Curate, Selected
from w2sr_jax.stages.evaluate import Evaluate, EvaluateFile
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.placing import Owner
from w2sr_jax.stages.problems import Problems
from w2sr_jax.stages.report.stage import Report
from w2sr_jax.stages.tokenizer import Tokenizer
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Sampling, Train

_RIGHT = "return a list of stages (w2sr_jax.graph.stage.Stage), which may be empty"


@dataclasses.dataclass(frozen=True)
class ExperimentPlan:
    """The stages of an experiment with one seed, by what they make."""

    experiment: Experiment
    problems: Problems
    tokenizer: Tokenizer
    trainings: Mapping[str, Train]
    """By the model's name."""
    traces: Mapping[tuple[int, str], Traces]
    """By rung and teacher."""
    curations: Mapping[int, Curate]
    """By rung; none for one that learns from neither traces nor worked solutions."""
    evaluations: Mapping[str, Evaluate | EvaluateFile]
    """By the model's or the teacher's name."""
    extra: tuple[Stage, ...]
    report: Report

    def __iter__(self) -> Iterator[Stage]:
        yield from (self.problems, self.tokenizer)
        yield from (stage for stage in (*self.trainings.values(), *self.evaluations.values()) if stage.serves is None)
        for index in range(len(self.experiment.rungs)):
            trained = [stage for stage in self.trainings.values() if stage.serves == index]
            yield from (stage for stage in trained if stage.model.arm == BASE)
            yield from (stage for (rung, _), stage in self.traces.items() if rung == index)
            yield from (stage for rung, stage in self.curations.items() if rung == index)
            yield from (stage for stage in trained if stage.model.arm != BASE)
            yield from (stage for stage in self.evaluations.values() if stage.serves == index)
        yield from (*self.extra, self.report)


def plan(experiment: Experiment) -> Plan:
    """The stages of an experiment with one seed, each after what it reads. `UserError` where a user's own stages do not fit."""
    return Plan(list(stages(experiment)))


def stages(experiment: Experiment) -> ExperimentPlan:
    """The stages of an experiment with one seed."""
    return _Builder(experiment).built()


class _Builder:
    """Makes the stages of an experiment, each of what it needs and nothing else."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.seed = experiment, experiment.seeds[0]
        self.trainings: dict[str, Train] = {}
        self.traces: dict[tuple[int, str], Traces] = {}
        self.curations: dict[int, Curate] = {}
        self.evaluations: dict[str, Evaluate | EvaluateFile] = {}
        files = tuple(teacher.steering for teacher in experiment.teachers if teacher.is_file)
        sources = [source for source in (experiment.problems, experiment.test_problems) if source is not None]
        own = [path for source in sources for path in source.paths()]
        brought = [teacher.path for teacher in experiment.teachers if teacher.is_file]
        self.problems = Problems(
            layout.PROBLEMS,
            source=experiment.problems,
            test=experiment.test_problems,
            splits=experiment.splits,
            files=files,
            only_brought=bool(files) and len(files) == len(experiment.teachers),
            data=external.data_sets([*own, *brought]),
        )
        facts = max((rung.start.facts_wanted for rung in experiment.rungs), default=0)
        self.tokenizer = Tokenizer(
            layout.TOKENIZER,
            problems=self.problems,
            settings=experiment.tokenizer,
            facts_of=experiment.problems if facts else None,
            facts=facts,
            files=files,
            data=external.data_sets(brought),
        )

    def built(self) -> ExperimentPlan:
        for teacher in self.experiment.teachers:
            self._teacher(teacher)
        for index in range(len(self.experiment.rungs)):
            self._rung(index)
        report = Report(
            layout.REPORT,
            experiment=self.experiment.untracked,
            measured=(*self.evaluations.values(), *self.curations.values(), *self._uncurated()),
        )
        planned = ExperimentPlan(
            self.experiment,
            self.problems,
            self.tokenizer,
            self.trainings,
            self.traces,
            self.curations,
            self.evaluations,
            (),
            report,
        )
        extra: list[Stage] = []
        for more in self.experiment.extra:
            with usercode.guarded(more):
                added = list(returned.each(more.stages(planned), more, "stages", _RIGHT))
            for stage in added:
                if not isinstance(stage, Stage):
                    raise returned.refusal(more, "stages", stage, _RIGHT, "gave")
                extra.append(stage)
        return dataclasses.replace(planned, extra=tuple(extra))

    def _uncurated(self) -> list[Traces]:
        """The traces of rungs that learn from none, which are there to be compared with."""
        return [stage for (rung, _), stage in self.traces.items() if rung not in self.curations]

    def _teacher(self, teacher: Teacher) -> None:
        chain, writer = models.teacher_chain(teacher), teacher.writer
        if chain and writer is not None:
            first = chain[0]
            self.trainings[first.name] = Train(
                first.stage,
                model=first,
                recipe=writer.start,
                problems=self.problems,
                tokenizer=self.tokenizer,
                mesh=placing.training(self.experiment, self._owner(first), writer.start.training),
                seed=self.seed,
                weights=external.weights(writer.start.weights),
            )
            for model, recipe in zip(chain[1:], writer.train, strict=True):
                self._teacher_stage(teacher, model, recipe)
            for model in models.measured(teacher):
                self._evaluation(model)
        if teacher.is_file:
            self.evaluations[teacher.name] = EvaluateFile(
                layout.evaluation(teacher.name),
                teacher=teacher,
                steering=teacher.steering,
                problems=self.problems,
                evaluation=self.experiment.evaluation,
                grader=self.experiment.grader,
                data=external.data_sets([teacher.path]),
            )

    def _teacher_stage(self, teacher: Teacher, model: Model, recipe: TrainingStage) -> None:
        """A training stage that a teacher's model goes through, from the model before it, which is the latest one."""
        experiment, owner = self.experiment, self._owner(model)
        objective = recipe.objective or Objective()
        others = beside(self.trainings, f"teacher {teacher.name}", objective, model.name, (), owns=True)
        configs = [other.model.config for other in others.values()]
        self.trainings[model.name] = Train(
            model.stage,
            model=model,
            recipe=recipe,
            problems=self.problems,
            tokenizer=self.tokenizer,
            mesh=placing.training(experiment, owner, recipe.training, objective, configs, True, recipe.keeps_initial),
            seed=self.seed,
            source=list(self.trainings.values())[-1],
            sampling=Sampling(experiment.grader, experiment.decoding) if recipe.samples else None,
            others=tuple(others.values()),
            other_names=tuple(others),
            probe_mesh=placing.evaluation(experiment, owner),
        )

    def _rung(self, index: int) -> None:
        experiment, rung = self.experiment, self.experiment.rungs[index]
        base = models.student(experiment, index, BASE)
        source = None
        if rung.start.parent is not None:
            source = self.trainings[models.student(experiment, index - 1, rung.start.parent).name]
        writers = {teacher.name: self._writer(index, teacher) for teacher in experiment.teachers_of(index)}
        graduates = [writer for writer in writers.values() if writer is not None and writer.model.rung is not None]
        parents = tuple({stage.name: stage for stage in (*([source] if source else []), *graduates)}.values())
        self.trainings[base.name] = Train(
            base.stage,
            model=base,
            recipe=rung.start,
            problems=self.problems,
            tokenizer=self.tokenizer,
            mesh=placing.training(experiment, self._owner(base), rung.start.training),
            seed=self.seed,
            source=source,
            facts_of=experiment.problems if rung.start.facts_wanted else None,
            weights=external.weights(rung.start.weights),
            parents=parents,
        )
        traces = tuple(self._traces(index, teacher, writers[teacher.name], parents) for teacher in experiment.teachers_of(index))
        curation = None
        if rung.curated_arms or rung.gold:
            curation = self.curations[index] = Curate(
                layout.curation_stage(models.rung_directory(experiment, index)),
                folder=models.rung_directory(experiment, index),
                rung=index,
                rung_name=rung.name,
                curation=rung.curation,
                arms=tuple(Selected(arm.name, arm.title, arm.select) for arm in rung.curated_arms),
                gold=rung.gold,
                pool=rung.pool,
                weights=tuple(teacher.weight for teacher in experiment.teachers_of(index)),
                problems=self.problems,
                tokenizer=self.tokenizer,
                traces=traces,
                others=len(rung.curated_arms) < len(rung.arms),
                grader=experiment.grader if any(arm.select.regrades for arm in rung.curated_arms) else None,
                parents=parents,
            )
        for arm in rung.trained:
            self._arm(index, rung, arm.name, curation, traces, parents)
        for model in models.evaluated(experiment, index):
            self._evaluation(model, curation, traces)

    def _arm(
        self, index: int, rung: Rung, name: str, curation: Curate | None, traces: tuple[Traces, ...], parents: tuple[Stage, ...]
    ) -> None:
        experiment, arm = self.experiment, rung.arm(name)
        before = self.trainings[models.student(experiment, index, arm.after or BASE).name]
        where = f"rungs.{index} ({rung.name})"
        teachers = [Wrote(stage.teacher, stage.writer) for stage in traces]
        for model, recipe in zip(models.students(experiment, index, arm), rung.stages_of(arm), strict=True):
            style = models.before(experiment, index).style
            samples = recipe.samples or (recipe.probe or rung.probe).every > 0
            sampling = Sampling(experiment.grader, experiment.decoding, style) if samples else None
            objective, owner = recipe.objective or rung.objective, self._owner(model)
            others = beside(self.trainings, where, objective, GOLD if arm.select.untaught else name, teachers, recipe.draws_own)
            configs = [other.model.config for other in others.values()]
            mesh = placing.training(experiment, owner, recipe.training, objective, configs, True, recipe.keeps_initial)
            before = self.trainings[model.name] = Train(
                model.stage,
                model=model,
                recipe=recipe,
                problems=self.problems,
                tokenizer=self.tokenizer,
                mesh=mesh,
                seed=self.seed,
                pool=rung.pool,
                source=before,
                curation=curation if arm.select.curates else None,
                sampling=sampling,
                traces=traces if samples else (),
                others=tuple(others.values()),
                other_names=tuple(others),
                untaught=name == GOLD or arm.select.untaught,
                objective=None if recipe.objective else rung.objective,
                probe=None if recipe.probe else rung.probe,
                reference_mesh=placing.reference(experiment, owner, mesh),
                probe_mesh=placing.evaluation(experiment, owner),
                parents=parents,
            )

    def _owner(self, model: Model) -> Owner:
        """The model as far as its placement goes."""
        if model.rung is not None:
            rung = self.experiment.rungs[model.rung]
            return Owner(model.config, rung.meshes, f"rungs.{model.rung} ({rung.name})")
        index = models.teacher_of(self.experiment, model)
        teacher = self.experiment.teachers[index]
        return Owner(model.config, teacher.meshes, f"teachers.{index} ({teacher.name})")

    def _decodes(self, writer: Train, teacher: Teacher) -> Placement:
        return placing.decoding(self.experiment, self._owner(writer.model), teacher.decoding or self.experiment.decoding)

    def _writer(self, index: int, teacher: Teacher) -> Train | None:
        model = models.writer(self.experiment, index, teacher)
        return None if model is None else self.trainings[model.name]

    def _traces(self, index: int, teacher: Teacher, writer: Train | None, parents: tuple[Stage, ...]) -> Traces:
        directory = models.rung_directory(self.experiment, index)
        stage = self.traces[index, teacher.name] = Traces(
            layout.traces_stage(directory, teacher.name),
            teacher=teacher,
            steering=teacher.steering,
            rung=index,
            pool=self.experiment.rungs[index].pool,
            grader=self.experiment.grader,
            problems=self.problems,
            tokenizer=self.tokenizer if teacher.reads_tokenizer else None,
            writer=writer,
            mesh=None if writer is None else self._decodes(writer, teacher),
            seed=None if teacher.is_file else self.seed,
            data=external.data_sets([teacher.path]),
            parents=parents,
        )
        return stage

    def _evaluation(self, model: Model, curation: Curate | None = None, traces: tuple[Traces, ...] = ()) -> None:
        experiment = self.experiment
        rung = None if model.rung is None else experiment.rungs[model.rung]
        student = model.role in ("student", GOLD)
        learns = student and rung is not None and rung.arm(str(model.arm)).select.curates
        ledger = rung is not None and (student or model == models.before(experiment, model.rung or 0))
        foreign = rung is not None and any(teacher.foreign for teacher in experiment.teachers_of(model.rung or 0))
        trained = model.name if model.role != models.DIRECT else models.student(experiment, model.rung or 0, BASE).name
        batching = None if rung is None or not student else _training(experiment, rung, str(model.arm))
        self.evaluations[model.name] = Evaluate(
            layout.evaluation(model.name),
            model=model,
            training=self.trainings[trained],
            problems=self.problems,
            tokenizer=self.tokenizer,
            evaluation=experiment.evaluation,
            decoding=experiment.decoding,
            grader=experiment.grader,
            mesh=placing.evaluation(experiment, self._owner(model)),
            seed=self.seed,
            curation=curation if learns else None,
            traces=traces if learns else (),
            length=batching[0] if batching else 0,
            rows=batching[1] if batching else 0,
            pool=rung.pool if rung is not None and ledger and experiment.evaluation.pool else None,
            asks_probe=ledger and foreign,
            largest=experiment.tokenizer.largest_number() if experiment.evaluation.faithfulness else None,
        )


def _training(experiment: Experiment, rung: Rung, arm: str) -> tuple[int, int]:
    """Row length, and rows of a micro-batch, in which a student's likelihood of held-out traces is measured: those that it was
    trained with."""
    last = rung.stages_of(rung.arm(arm))[-1]
    training = last.training or rung.training
    rows = last.rows(experiment.decoding) if isinstance(last, OwnAnswers) else training.batching.rows
    return training.batching.length, rows // training.accumulation


def objective_of(rung: Rung, arm: str) -> Objective:
    """The loss that an arm's student was trained with in the end."""
    return rung.stages_of(rung.arm(arm))[-1].objective or rung.objective
