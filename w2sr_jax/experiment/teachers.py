"""Teachers that are models of the run."""

import dataclasses
from typing import NamedTuple

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import WHERE_SET
from w2sr_jax.curation.arms import All
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment.arms import TrainingStage
from w2sr_jax.experiment.starts import FromCheckpoint, Solutions, check_trains_all
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Meshes
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.teacher import Described, Small, Teacher, Writer
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces
from w2sr_jax.training.settings import Training


class _LeftOpen(NamedTuple):
    """What training stages of a teacher leave open is taken from."""

    training: Training
    objective: Objective = Objective()
    probe: Probe = Probe()


class _ModelOfTheRun(Teacher):
    """What teachers that are models of the run have in common."""

    samples: int
    decoding: Decoding
    token_budget: int | None = None
    origin = "model"

    def write(self, work: TeacherWork) -> WrittenTraces:
        from w2sr_jax.teachers.written import draw

        return draw(work, self.name, self.samples, self.decoding, self.token_budget)

    def most_tokens(self, problems: int) -> int:
        tokens = problems * self.samples * self.decoding.max_tokens
        return min(tokens, self.token_budget or tokens)

    def rehearsed(self, small: Small) -> Teacher:
        return dataclasses.replace(self, samples=small.samples(self.samples), decoding=small.decoding(self.decoding))  # type: ignore[type-var]

    def check(self, where: str) -> None:
        self.decoding.check()
        if self.samples < 1:
            raise UserError(f"{where}: samples is {self.samples}; it must be at least 1 trace per problem")
        if self.token_budget is not None and self.token_budget < 1:
            raise UserError(f"{where}: token_budget is {self.token_budget}; it must be at least 1 token, or None for no limit")
        if self.weight < 0:
            raise UserError(f"{where}: weight is {self.weight}; it must be 0 or more")


@dataclasses.dataclass(frozen=True)
class ModelTeacher(_ModelOfTheRun):
    """A model of ours as teacher: trained in the run on gold solutions of the teacher split, or taken from a checkpoint."""

    name: str = "teacher"
    """Name of the teacher in tables, files and keys."""
    model: ModelConfig = ModelConfig(width=64, layers=2, heads=2, kv_heads=2)
    """Its architecture."""
    training: Training = Training()
    """How it is trained (unused with a checkpoint)."""
    checkpoint: str | None = None
    """A parameter checkpoint to use instead of training."""
    samples: int = 4
    """Traces per problem."""
    decoding: Decoding = Decoding(temperature=0.7)
    """How its traces are drawn."""
    token_budget: int | None = None
    """Most tokens of all its traces for a rung; the problems that it does not reach get none."""
    weight: float = 1.0
    """How much its traces count in the mix."""
    meshes: Meshes = Meshes()
    """How devices are arranged for each use of its model, where not as the experiment's `mesh` says."""
    train: tuple[TrainingStage, ...] = dataclasses.field(default=(), metadata=WHERE_SET)
    """Training stages that its model goes through after that, one after the other, on the problems of the teacher split, as the
    weak reasoners of W2SR are trained by reinforcement: (Policy(DrGrpo(), steps=100),). A loss finds the model before them under
    the name teacher-base."""

    @property
    def described(self) -> Described:
        more = "".join(f", then {type(stage).__name__}" for stage in self.train)
        return Described(("from a checkpoint" if self.checkpoint else "trained in the run on gold solutions") + more)

    @property
    def writer(self) -> Writer:
        start = Solutions(self.training) if self.checkpoint is None else FromCheckpoint(self.checkpoint)
        left_open = _LeftOpen(self.training)
        return Writer(config=self.model, start=start, train=tuple(stage.resolved(left_open) for stage in self.train))

    @property
    def steering(self) -> tuple[object, ...]:
        return (self.name, self.samples, self.decoding, self.token_budget)

    def rehearsed(self, small: Small) -> Teacher:
        tiny = small.model(self.model, loaded=self.checkpoint is not None)
        start = {"training": small.training(self.training)} if self.checkpoint is None else {}
        path = None if self.checkpoint is None else small.checkpoint(self.checkpoint, tiny)
        train = tuple(stage.rehearsed(small) for stage in self.train)
        return dataclasses.replace(super().rehearsed(small), model=tiny, checkpoint=path, train=train, **start)  # type: ignore[type-var]

    def check(self, where: str) -> None:
        super().check(where)
        check_trains_all(f"{where}: training", self.training)
        for stage in self.train:
            stage.check(where, All())  # what it may imitate are worked solutions


@dataclasses.dataclass(frozen=True)
class Graduate(_ModelOfTheRun):
    """The previous rung's student as teacher."""

    name: str = "graduate"
    """Name of the teacher in tables, files and keys."""
    arm: str = "correct"
    """Which of the previous rung's students, by its arm's name."""
    samples: int = 4
    """Traces per problem."""
    decoding: Decoding = Decoding(temperature=0.7)
    """How its traces are drawn."""
    token_budget: int | None = None
    """Most tokens of all its traces for a rung; the problems that it does not reach get none."""
    weight: float = 1.0
    """How much its traces count in the mix."""

    @property
    def described(self) -> Described:
        return Described(f"the previous rung's student, arm {self.arm}")

    @property
    def writer(self) -> Writer:
        return Writer(arm=self.arm)

    @property
    def steering(self) -> tuple[object, ...]:
        return (self.name, self.samples, self.decoding, self.token_budget)
