"""Where a model's first parameters come from."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from w2sr_jax.core.records import Example, Problem
    from w2sr_jax.experiment.work import TextSource, TrainedModel, TrainingWork
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.teachers.teacher import Small

BASE = "base"
"""The model of a rung that its arms start from."""
ReadsFrom = Literal["none", "teacher", "pretrain"]


class Start(Extendable):
    """Where the parameters of a rung's base, or of a teacher of the run, come from. Extend it as a frozen dataclass and define
    `make`."""

    must_define = ("make",)

    training: Training | None = None
    """How the model is trained, where it is trained on texts of the run."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        raise NotImplementedError(f"{type(self).__name__} must define make(work)")

    @property
    def parent(self) -> str | None:
        """The arm (or "base") of the previous rung's model that it reads; None for none."""
        return None

    @property
    def weights(self) -> str | None:
        """Parameters that the user gives by name: a Hub id, a Hugging Face directory, a checkpoint."""
        return None

    @property
    def facts_wanted(self) -> int:
        """How many lines of arithmetic facts it reads."""
        return 0

    def answers_directly(self, parent: bool) -> bool:
        """Whether the model has learned to answer without reasoning, so that it is also asked that way; `parent` says so of the
        model that it reads."""
        return False

    def texts(self, source: "TextSource") -> "Sequence[Example]":
        """The texts of the run that the model is trained on; none where it is not trained."""
        return ()

    def examples_of(self, problem: "Problem") -> bool:
        """Whether a problem of the split that it reads becomes one of its texts."""
        return False

    @property
    def split(self) -> str | None:
        """The split whose problems it reads; None for none."""
        return None

    def rehearsed(self, small: "Small", config: "ModelConfig") -> "Start":
        """The start of a rehearsal, whose model has the tiny architecture `config`."""
        return self

    def check(self, where: str) -> None:
        """`UserError` where its settings cannot work; `where` names them."""


@dataclasses.dataclass(frozen=True)
class Scratch(Start):
    """The student starts from random weights."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        return work.keep(work.fresh(), {})


@dataclasses.dataclass(frozen=True)
class Pretraining(Start):
    """The student's base is pretrained in the run, on arithmetic facts and on the questions of the pretrain split with their
    answers, every token of them, without reasoning. It has never seen a chain of thought."""

    training: Training = Training()
    """How the base is pretrained."""
    facts: int = 2000
    """Lines of arithmetic facts."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        return work.imitate(self.texts(work), work.fresh(), self.training)

    @property
    def facts_wanted(self) -> int:
        return self.facts

    @property
    def split(self) -> str:
        return "pretrain"

    def answers_directly(self, parent: bool) -> bool:
        return True

    def texts(self, source: "TextSource") -> "Sequence[Example]":
        from w2sr_jax.curation.texts import documents

        return [*source.facts(self.facts), *documents(source.problems(self.split))]

    def examples_of(self, problem: "Problem") -> bool:
        return problem.answer is not None

    def rehearsed(self, small: "Small", config: "ModelConfig") -> "Pretraining":
        return Pretraining(small.training(self.training), min(self.facts, 64))

    def check(self, where: str) -> None:
        if self.facts < 0:
            raise UserError(f"{where}: start.facts is {self.facts}; it must be 0 or more lines")
        check_trains_all(f"{where}: start.training", self.training)


@dataclasses.dataclass(frozen=True)
class FromParent(Start):
    """The student starts from the previous rung's checkpoint; a larger one is grown from it without changing its function."""

    arm: str = "correct"
    """Which of the previous rung's models: an arm's name, or "base"."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        return work.keep(work.grown(), work.parent())

    @property
    def parent(self) -> str:
        return self.arm

    def answers_directly(self, parent: bool) -> bool:
        return parent and self.arm == BASE


@dataclasses.dataclass(frozen=True)
class FromCheckpoint(Start):
    """The student starts from a parameter checkpoint, or a local Hugging Face directory, of the same architecture."""

    path: str = ""
    """Directory of the checkpoint."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        return work.load(self.path)

    @property
    def weights(self) -> str:
        return self.path

    def rehearsed(self, small: "Small", config: "ModelConfig") -> "FromCheckpoint":
        return FromCheckpoint(small.checkpoint(self.path, config))


@dataclasses.dataclass(frozen=True)
class Solutions(Start):
    """A teacher of the run is trained on the worked solutions of the teacher split."""

    training: Training = Training()
    """How it is trained."""

    def make(self, work: "TrainingWork") -> "TrainedModel":
        texts = self.texts(work)
        if not texts:
            raise UserError(
                f"teacher {work.model!r} has nothing to learn from: the teacher split holds no problem with a solution"
            )
        return work.imitate(texts, work.fresh(), self.training)

    @property
    def split(self) -> str:
        return "teacher"

    def texts(self, source: "TextSource") -> "Sequence[Example]":
        from w2sr_jax.curation.texts import gold

        return list(gold(source.problems(self.split)))

    def examples_of(self, problem: "Problem") -> bool:
        return problem.solution is not None


def check_trains_all(where: str, training: Training) -> None:
    """`UserError` where adapters are to be trained beside parameters that nobody has trained."""
    if training.lora.rank:
        raise UserError(f"{where}.lora.rank is {training.lora.rank}; it must be 0, since adapters need a pretrained model")
