"""What checks look at, and where they put what they find."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.experiment import GOLD, Experiment, ModelTeacher, Pretraining, Teacher
from w2sr_jax.graph import manifest
from w2sr_jax.graph.stage import Kind
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems import files as problem_files
from w2sr_jax.problems import generated, hf_data, reference
from w2sr_jax.problems.rows import Quarantine
from w2sr_jax.problems.settings import Files, Generated
from w2sr_jax.stages import models
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.plan import tasks
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.recorded import Loaded
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

HEAD = 1000
"""Rows of a file that are looked at."""
_SCANNED = 50_000  # rows that are gone through to find as many


class Findings:
    """What one check finds, in words: what it `seen`, what is odd (`remarks`), what cannot work (`refused`)."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.remarks: list[str] = []
        self.refused: list[str] = []

    def see(self, words: str) -> None:
        self.seen.append(words)

    def remark(self, words: str) -> None:
        self.remarks.append(words)

    def refuse(self, words: str) -> None:
        self.refused.append(words)

    @contextlib.contextmanager
    def refusing(self, where: str = "") -> Iterator[None]:
        """A `UserError` inside is found, and the check goes on behind; `where` comes before its words."""
        try:
            yield
        except UserError as error:
            self.refuse(f"{where}: {error}" if where else str(error))


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training of the run: where its settings stand, the model, how it is trained."""

    where: str
    model: Model
    training: Training
    objective: Objective


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
    kind: Kind | None = None
    rung: int | None = None

    @functools.cached_property
    def settled(self) -> frozenset[str]:
        """The stages that need no look: those that are not to be done now, and those that have finished with the same settings in
        the runs of all seeds."""
        found = None
        for seed in self.experiment.seeds:
            directory = self.run if len(self.experiment.seeds) == 1 else self.run / f"seed-{seed}"
            own = frozenset(
                task.name
                for task in tasks(dataclasses.replace(self.experiment, seeds=(seed,)))
                if not task.wanted(self.kind, self.rung)
                or ((made := manifest.load(directory, task.name)) and made.settings == task.stage(directory).settings)
            )
            found = own if found is None else found & own
        return found or frozenset()

    @functools.cached_property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return all(task.name in self.settled for task in tasks(self.experiment))

    @property
    def first(self) -> Path:
        """The directory of the first seed's run."""
        seeds = self.experiment.seeds
        return self.run if len(seeds) == 1 else self.run / f"seed-{seeds[0]}"

    @functools.cached_property
    def opened(self) -> Renderer | UserError | None:
        """The run's tokenizer: the one that it made, or a pretrained one, or why that cannot be opened. None where it is made of
        the run's own texts and is not made yet."""
        try:
            if manifest.load(self.first, "tokenizer") is not None:
                return prepare.renderer(self.first)
            if isinstance(self.experiment.tokenizer, PretrainedTokenizer):
                found = Renderer(tokenizers.build(self.experiment.tokenizer))
                found.prompt("?")  # a template is first run here
                return found
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
        try:
            found = self.sample
        except UserError:
            found = None
        if found is not None:
            return models.sized(config, found)
        return dataclasses.replace(config, vocab_size=getattr(self.experiment.tokenizer, "vocab_size", 1024))

    @functools.cached_property
    def trainings(self) -> tuple[Trained, ...]:
        """All trainings that are still to be done, in order."""
        experiment = self.experiment
        found = []
        for index, teacher in enumerate(experiment.teachers):
            if isinstance(teacher, ModelTeacher) and teacher.checkpoint is None:
                where = f"teachers.{index} ({teacher.name})"
                found.append(Trained(where, models.teacher(teacher), teacher.training, Objective()))
        for index, rung in enumerate(experiment.rungs):
            where = f"rungs.{index} ({rung.name})"
            if isinstance(rung.start, Pretraining):
                base = models.student(experiment, index, "base")
                found.append(Trained(f"{where}: start", base, rung.start.training, Objective()))
            for arm in (*rung.arms, *((GOLD,) if rung.gold else ())):
                found.append(Trained(where, models.student(experiment, index, arm), rung.training, rung.objective))
        return tuple(trained for trained in found if trained.model.task not in self.settled)

    def teachers_of(self, index: int) -> list[Teacher]:
        """The teachers of a rung."""
        known = {teacher.name: teacher for teacher in self.experiment.teachers}
        return [known[name] for name in self.experiment.rungs[index].teachers]

    @property
    def recorded(self) -> tuple[Recorded, ...]:
        return tuple(teacher for teacher in self.experiment.teachers if isinstance(teacher, Recorded))

    @functools.cached_property
    def some(self) -> Sequence[Problem]:
        """The first problems; none where they cannot be read."""
        if isinstance(self.experiment.problems, Generated):
            try:
                return generated.generate(self.experiment.problems, 64)
            except UserError:
                return []
        found = self.rows.get(self.experiment.problems.path)
        return found.problems if isinstance(found, Rows) else []

    @functools.cached_property
    def rows(self) -> dict[str, "Rows | UserError | None"]:
        """By path, the first rows of every source of problems, why they cannot be had, or None where they are downloaded when the
        run begins."""
        sources = (self.experiment.problems, self.experiment.test_problems)
        return {source.path: _rows(source) for source in sources if isinstance(source, Files)}

    @functools.cached_property
    def loaded(self) -> dict[str, Loaded]:
        """By teacher, the first rows of its file; nothing for those that cannot be read."""
        found = {}
        for teacher in self.recorded:
            with contextlib.suppress(UserError):
                if here(teacher.path):
                    found[teacher.name] = recorded.load(head(teacher), most=_SCANNED)
        return found


def head(teacher: Recorded) -> Recorded:
    """The teacher with as many rows as are looked at."""
    return dataclasses.replace(teacher, limit=min(teacher.limit or HEAD, HEAD))


def here(path: str) -> bool:
    """Whether rows can be read without a download. `UserError` where one would be refused."""
    named = reference.parse(path)
    return named.kind != "hf" or hf_data.at_hand(named)


def _rows(source: Files) -> "Rows | UserError | None":
    try:
        if not here(source.path):
            return None
        limit = min(source.limit or HEAD, HEAD)
        problems, quarantine = problem_files.load(dataclasses.replace(source, limit=limit))
    except UserError as error:
        return error
    return Rows(problems, quarantine, len(problems) + len(quarantine) < limit or source.limit == limit)


def chunks(names: Sequence[str], most: int = 4) -> str:
    """Some names in words."""
    shown = list(itertools.islice(names, most))
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
