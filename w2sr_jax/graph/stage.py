"""A task: one stage of a run with the work that finishes it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest

Kind = Literal["prepare", "train", "sample", "curate", "evaluate", "report"]


class Watcher(Protocol):
    """Who is told how the run goes on. The command line draws it; tests are silent."""

    def begin(self, task: str, index: int, total: int) -> None: ...

    def progress(self, done: float, total: float, detail: str) -> None: ...

    def end(self, task: str, note: str, seconds: float | None) -> None:
        """`seconds` is None where the task's work already stood."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Silent:
    """A watcher that watches nothing."""

    def begin(self, task: str, index: int, total: int) -> None: ...

    def progress(self, done: float, total: float, detail: str) -> None: ...

    def end(self, task: str, note: str, seconds: float | None) -> None: ...

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...


class Made(NamedTuple):
    """What a task made: files, sealed directories with a digest of their content, counts and costs, a line for people, and files
    that show times and so need not reproduce."""

    outputs: Sequence[Path] = ()
    artifacts: Mapping[str, str] = {}
    measures: Mapping[str, Any] = {}
    note: str = ""
    seals: Sequence[Path] = ()


@dataclasses.dataclass(frozen=True)
class Context:
    """What every task's work is given: the run's directory, the experiment, this run's one seed, the watcher, and whether it is
    asked to stop."""

    run: Path
    experiment: Experiment
    seed: int
    watcher: Watcher
    stop: Stop = dataclasses.field(default_factory=Stop)


@dataclasses.dataclass(frozen=True)
class Task:
    """`settings` is all that steers the work, besides what it reads; `rung` is None for what serves all rungs.

    A task that `may_skip` is a student: where nothing is left to train it on, the run goes on without it. `parents` are tasks of
    the rung before without which this one makes no sense, whether or not it reads what they made.
    """

    name: str
    kind: Kind
    settings: tuple[Any, ...]
    needs: tuple[str, ...]
    work: Callable[[Context], Made]
    reads: tuple[Path, ...] = ()
    rung: int | None = None
    given: tuple[manifest.Given, ...] = ()
    parents: tuple[str, ...] = ()
    may_skip: bool = False

    def wanted(self, kind: Kind | None, rung: int | None) -> bool:
        """Whether it is among the tasks of a kind and a rung (None: any); what all rungs rest on always is."""
        return self.kind == "prepare" or (kind in (None, self.kind) and (rung is None or self.rung in (None, rung)))

    def stage(self, run: Path) -> manifest.Stage:
        settings = files.digest_json(encode(self.settings))
        return manifest.Stage(run, self.name, self.kind, settings, self.needs, self.reads, self.given)
