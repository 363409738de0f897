"""Stages that add numbers, in place of stages that train models."""

import dataclasses
from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.graph.manifest import file_digest
from w2sr_jax.graph.stage import NOT_READ, Context, ExternalInput, Stage, StageResult


@dataclasses.dataclass(frozen=True)
class TextFile(ExternalInput):
    """A file with a number."""

    def digest(self) -> str:
        return file_digest(Path(self.name))


@dataclasses.dataclass(frozen=True)
class Sum(Stage):
    """Adds what other stages and a file hold to a number of its own. `log` notes who worked, which nobody reads."""

    number: int = 0
    parts: tuple[Stage, ...] = ()
    file: TextFile | None = None
    log: list[str] = dataclasses.field(default_factory=list, metadata=NOT_READ, compare=False)
    rung: int | None = None

    kind = "add"

    @property
    def serves(self) -> int | None:
        return self.rung

    def run(self, context: Context) -> StageResult:
        self.log.append(self.name)
        total = self.number + sum(value(context.store, part.name) for part in self.parts)
        if self.file is not None:
            total += int(Path(self.file.name).read_text())
        path = context.store.path(f"{self.name}/sum.json")
        files.write_json(path, total)
        sealed = context.store.path(f"{self.name}/sealed")
        files.write_json(sealed / "twice.json", 2 * total)
        files.seal(sealed)
        return StageResult([path], {f"{self.name}/sealed": str(2 * total)}, note=f"{total}")


@dataclasses.dataclass(frozen=True)
class Fails(Sum):
    """Writes a part of its work, and fails."""

    def run(self, context: Context) -> StageResult:
        files.write_json(context.store.path(f"{self.name}/sum.json"), -1)
        raise UserError("it failed half way")


@dataclasses.dataclass(frozen=True)
class Student(Sum):
    may_skip = True


@dataclasses.dataclass(frozen=True)
class Untaught(Student):
    """A student without anything to learn from."""

    def run(self, context: Context) -> StageResult:
        raise NothingToTrain("no answer was right")


@dataclasses.dataclass(frozen=True)
class Later(Sum):
    """Comes after stages that it does not read."""

    earlier: tuple[Stage, ...] = dataclasses.field(default=(), metadata=NOT_READ)

    @property
    def after(self) -> tuple[Stage, ...]:
        return self.earlier


def value(store, name: str) -> int:
    return int(files.read_json(store.file(f"{name}/sum.json")))
