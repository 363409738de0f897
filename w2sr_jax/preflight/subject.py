"""What checks look at: an experiment, the directory of its run, and what several checks need of them, read once."""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.experiment import BASE, Experiment, Teacher, TrainingStage
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.runner import wanted
from w2sr_jax.graph.stage import settings, stages_of
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.datasets import at_hand
from w2sr_jax.problems.rows import Quarantine
from w2sr_jax.problems.source import ProblemSource, load
from w2sr_jax.stages import examples, layout, models, problems, tokenizer
from w2sr_jax.stages.execute import seed_runs, seed_stores
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.plan import ExperimentPlan, stages
from w2sr_jax.teachers.recorded import Loaded
from w2sr_jax.teachers.recorded_traces import HEAD, SCANNED
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.render import Renderer
from w2sr_jax.training.settings import Training

SOME = 64
"""Problems of an endless source, or of a split, that are looked at."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training of the run: where its settings stand, the model, how it is trained, and the training stage, where it is one."""

    where: str
    model: Model
    training: Training
    objective: Objective
    stage: TrainingStage | None = None


@dataclasses.dataclass(frozen=True)
class Rows:
    """The first rows of a file: problems, rows set aside, and how many rows there were; `whole` where that was all of it."""

    problems: list[Problem]
    quarantine: Quarantine
    whole: bool

    @property
    def count(self) -> int:
        return len(self.problems) + len(self.quarantine)


@dataclasses.dataclass(frozen=True)
class Subject:
    """An experiment, its run's directory, and what several checks need of them, read once. With a `kind` or a `rung` only their
    stages are to be done."""

    experiment: Experiment
    run: Path
    kind: str | None = None
    rung: int | None = None

    @functools.cached_property
    def stages(self) -> ExperimentPlan:
        """The stages of the run of the first seed."""
        return stages(dataclasses.replace(self.experiment, seeds=self.experiment.seeds[:1]))

    @functools.cached_property
    def standing(self) -> frozenset[str]:
        """The stages that have finished with the same settings in the runs of all seeds, after others of which that is true."""
        each = (_standing(run.plan, run.store) for run in seed_runs(self.experiment, self.run))
        return functools.reduce(frozenset.intersection, each)

    @functools.cached_property
    def settled(self) -> frozenset[str]:
        """The stages that need no look: those that stand, and those that are not to be done now."""
        asked = wanted(self.kind, self.rung)
        return self.standing | {stage.name for stage in self.stages if not asked(stage)}

    @functools.cached_property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(stage.name in self.settled for stage in self.stages)

    @property
    def first(self) -> RunStore:
        """What the run of the first seed wrote."""
        return seed_stores(self.experiment, self.run)[0]

    @functools.cached_property
    def opened(self) -> Renderer | UserError | None:
        """The run's tokenizer: the one that it made, or a pretrained one, or why that cannot be opened. None where it is made of
        the run's own texts and is not made yet, or is to be made anew."""
        with contextlib.suppress(UserError):  # of a tokenizer that is damaged, which the run makes anew
            if layout.TOKENIZER in self.standing:
                return tokenizer.renderer(self.first)
        try:
            if self.experiment.tokenizer.opened_from() is not None:
                renderer = Renderer(tokenizers.build(self.experiment.tokenizer))
                renderer.prompt("?")  # a template is first run here
                return renderer
        except UserError as error:
            return error
        return None

    @property
    def renderer(self) -> Renderer | None:
        """The run's tokenizer, where it can be opened."""
        return self.opened if isinstance(self.opened, Renderer) else None

    @functools.cached_property
    def sample(self) -> Renderer | None:
        """`renderer`, or one made of the first texts alone, whose vocabulary is not the run's. None without any text.
        `UserError` where none can be made of them."""
        if self.opened is not None:
            return self.renderer
        texts = [text for problem in self.some for text in (problem.question, problem.solution) if text]
        texts += [trace.text for loaded in self.loaded.values() for trace in loaded.traces]
        return Renderer(tokenizers.build(self.experiment.tokenizer, texts)) if texts else None

    def sized(self, config: ModelConfig) -> ModelConfig:
        """The architecture with its vocabulary, or with a likely one where the tokenizer is not made yet."""
        if config.vocab_size:
            return config
        with contextlib.suppress(UserError):  # said of the tokenizer
            if self.sample is not None:
                return models.sized(config, self.sample)
        return dataclasses.replace(config, vocab_size=self.experiment.tokenizer.likely_vocabulary())

    @functools.cached_property
    def trainings(self) -> tuple[Trained, ...]:
        """All trainings that are still to be done, in order."""
        experiment = self.experiment
        trainings = []
        for stage in self.stages.trainings.values():
            training = stage.recipe.training
            if training is not None and stage.name not in self.settled:
                objective = examples.objective_of(experiment, stage.model)
                recipe = stage.recipe if isinstance(stage.recipe, TrainingStage) else None
                trainings.append(Trained(where_of(experiment, stage.model), stage.model, training, objective, recipe))
        return tuple(trainings)

    def teachers_of(self, index: int) -> list[Teacher]:
        """The teachers of a rung."""
        return self.experiment.teachers_of(index)

    @property
    def files(self) -> tuple[Teacher, ...]:
        """The teachers that are files."""
        return tuple(teacher for teacher in self.experiment.teachers if teacher.is_file)

    @functools.cached_property
    def some(self) -> Sequence[Problem]:
        """The first problems, those of the run where it has dealt them; none where they cannot be read."""
        with contextlib.suppress(UserError):  # of splits that are damaged, which the run makes anew
            if layout.PROBLEMS in self.standing:
                splits = (problems.read(self.first, name) for name in (problems.POOL, problems.TEACHER, problems.PRETRAIN))
                return [problem for split in splits for problem in split[:SOME]]
        first = self.rows["problems"]
        return first.problems if isinstance(first, Rows) else []

    @functools.cached_property
    def rows(self) -> dict[str, "Rows | UserError | None"]:
        """The first rows of every source of problems by its field ("problems", "test_problems"), why they cannot be had, or None
        where they are downloaded when the run begins."""
        sources = {"problems": self.experiment.problems, "test_problems": self.experiment.test_problems}
        return {name: _rows(source) for name, source in sources.items() if source is not None}

    @functools.cached_property
    def loaded(self) -> dict[str, Loaded]:
        """By teacher, the first rows of its file; nothing for those that cannot be read."""
        loaded = {}
        for teacher in self.files:
            with contextlib.suppress(UserError):
                if at_hand(teacher.path):
                    loaded[teacher.name] = teacher.head(HEAD).load(None, most=SCANNED)
        return loaded


def _standing(plan: Plan, store: RunStore) -> frozenset[str]:
    """The stages of a run that have finished with these settings, after others of which that is true."""
    standing: set[str] = set()
    for stage in plan:
        manifest = store.peek(stage.name)
        same = manifest is not None and manifest.settings == settings(stage)
        if same and standing.issuperset(need.name for need in stages_of(stage)):
            standing.add(stage.name)
    return frozenset(standing)


def where_of(experiment: Experiment, model: Model) -> str:
    """Where the settings of a model's training stand."""
    if model.rung is None:
        index = models.teacher_of(experiment, model)
        return f"teachers.{index} ({model.name})"
    where = f"rungs.{model.rung} ({experiment.rungs[model.rung].name})"
    return f"{where}: start" if model.arm == BASE else where


def _rows(source: ProblemSource) -> "Rows | UserError | None":
    limit = SOME if source.is_endless() else HEAD
    try:
        if not source.at_hand():
            return None
        usable, quarantine = load(source, limit)
        whole = not source.is_endless() and (len(usable) + len(quarantine) < limit or source.available() == limit)
    except UserError as error:
        return error
    return Rows(usable, quarantine, whole)
