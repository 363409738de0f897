"""What a stage is: a value that says what it reads, what steers it, and how its work is done.

A stage is a frozen dataclass that extends `Stage`. Its fields are all that its work may look at: other stages and external inputs
are what it reads, every other field is a setting. Its identity is the digest of both, so nothing has to be listed by hand: a
field that is not there cannot be read, and a field that is there counts.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from w2sr_jax.configuration.encoding import encode, encode_type
from w2sr_jax.core import files
from w2sr_jax.core.fieldtypes import WHERE_SET
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph.store import RunStore
from w2sr_jax.trackers.following import Trackers

NOT_READ = {"read": False}
"""Metadata of a field that a stage does not read: it orders stages and is no part of the identity."""

__all__ = [
    "NOT_READ",
    "WHERE_SET",
    "Context",
    "ExternalInput",
    "Silent",
    "Stage",
    "StageResult",
    "Watcher",
    "external_of",
    "identity",
    "inputs",
    "settings",
    "stages_of",
]


class Watcher(Protocol):
    """Who is told how a run goes on. The command line draws it; tests are silent."""

    def begin(self, stage: str, index: int, total: int) -> None: ...

    def progress(self, done: float, total: float, detail: str) -> None: ...

    def end(self, stage: str, note: str, seconds: float | None) -> None:
        """`seconds` is None where the stage's work already stood."""

    def drop(self) -> None:
        """The stage that was begun last has failed, and others go on."""

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def beside(self) -> "Watcher":
        """A watcher of another stage that is done at the same time."""


class Silent:
    """A watcher that watches nothing."""

    def begin(self, stage: str, index: int, total: int) -> None: ...

    def progress(self, done: float, total: float, detail: str) -> None: ...

    def end(self, stage: str, note: str, seconds: float | None) -> None: ...

    def drop(self) -> None: ...

    def say(self, message: str) -> None: ...

    def warn(self, message: str) -> None: ...

    def beside(self) -> "Silent":
        return self


@dataclasses.dataclass(frozen=True)
class ExternalInput:
    """What a stage reads from outside of the run: a file, a data set, weights. Extend it as a frozen dataclass."""

    name: str
    """How the user named it."""

    def at_hand(self) -> bool:
        """Whether it is here, so that its digest takes no download."""
        return True

    def digest(self) -> str:
        """The digest of what it holds, which is downloaded where it is not at hand. `UserError` where it cannot be had."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class StageResult:
    """What a stage's work made: files, sealed directories with a digest of their content, counts and costs, a line for people,
    and files that show times and so need not reproduce."""

    outputs: Sequence[Path] = ()
    artifacts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""
    seals: Sequence[Path] = ()


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage's work is given besides its own fields: the run's store, who watches, and whether it is asked to stop."""

    store: RunStore
    watcher: Watcher = dataclasses.field(default_factory=Silent)
    stop: Stop = dataclasses.field(default_factory=Stop)
    first: bool = True
    """Whether this is the process that writes what is written once: of several that do a stage together, one."""
    run: str = ""
    """What the run is called by its trackers."""
    trackers: Trackers | None = None
    """Who follows the trainings besides TensorBoard; the first process has them."""


@dataclasses.dataclass(frozen=True)
class Stage:
    """One unit of work of a run. Extend it as a frozen dataclass and define `run`.

    Every field counts: stages and external inputs (also in tuples) are the stage's inputs, everything else its settings, which
    must be such as configurations can hold. A field with the metadata `NOT_READ` is neither; one with `WHERE_SET` is a
    setting where its value is not its default.
    """

    name: str
    """What the stage is called in the run, such as "evaluations/0-small.correct"; also where its manifest lies."""

    kind: ClassVar[str] = "stage"
    """What the stage counts among in tables. `w2sr KIND` does the stages of a kind alone ("sample", "curate", "train",
    "evaluate", "report"), `w2sr run` those of all kinds, also of your own."""

    @property
    def hosts(self) -> Literal["one", "all"]:
        """Whether one process does the work, or all processes of the run together. Of those, the first one's result counts."""
        return "one"

    @property
    def serves(self) -> int | None:
        """The rung that the stage serves; None where it serves all."""
        return None

    @property
    def may_skip(self) -> bool:
        """Whether a run goes on without the stage where there is nothing to train on."""
        return False

    @property
    def survives_skips(self) -> bool:
        """Whether the stage is done although one that it needs was skipped."""
        return False

    @property
    def after(self) -> "tuple[Stage, ...]":
        """Stages without which this one makes no sense, although it does not read what they wrote."""
        return ()

    @property
    def computes_on(self) -> Any:
        """The mesh (a `parallel.settings.Mesh`, or a `parallel.placement.Placement`) that a bit-exact claim about the stage is
        conditional on; None where it computes on no device."""
        return None

    def run(self, context: Context) -> StageResult:
        """Do the work. What an interrupted call left may be continued."""
        raise NotImplementedError


def inputs(stage: Stage) -> "list[Stage | ExternalInput]":
    """All that a stage reads, each once, in the order of its fields."""
    by_name: dict[str, Stage | ExternalInput] = {}
    for field in _fields(stage):
        for item in _inputs_in(getattr(stage, field.name)):
            by_name.setdefault(item.name, item)
    return list(by_name.values())


def stages_of(stage: Stage) -> list[Stage]:
    """The stages that a stage reads."""
    return [item for item in inputs(stage) if isinstance(item, Stage)]


def external_of(stage: Stage) -> list[ExternalInput]:
    """The external inputs that a stage reads."""
    return [item for item in inputs(stage) if not isinstance(item, Stage)]


def settings(stage: Stage) -> dict[str, Any]:
    """A stage's own settings as JSON, by field; stages and external inputs stand there by their names."""
    values = {field.name: (getattr(stage, field.name), field) for field in _fields(stage)}
    return {
        name: _setting(value, name)
        for name, (value, field) in values.items()
        if not (field.metadata.get("where_set") and value == field.default)
    }


def identity(stage: Stage, of: Callable[["Stage | ExternalInput"], str]) -> str:
    """The digest of what a stage is: its type, its settings, and the identities of its inputs, which `of` gives."""
    named = [[item.name, of(item)] for item in inputs(stage)]
    return files.digest_json([stage.kind, encode_type(type(stage)), settings(stage), named])


def _fields(stage: Stage) -> Iterator["dataclasses.Field[Any]"]:
    return (field for field in dataclasses.fields(stage) if field.metadata.get("read", True))


def _inputs_in(value: Any) -> Iterator["Stage | ExternalInput"]:
    if isinstance(value, Stage | ExternalInput):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _inputs_in(item)


def _setting(value: Any, where: str) -> Any:
    if isinstance(value, tuple) and any(True for _ in _inputs_in(value)):
        return [_setting(item, where) for item in value]
    if any(True for _ in _inputs_in(value)):
        return {"input": value.name}
    return encode(value, where)
