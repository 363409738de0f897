"""What a teacher is: who writes the traces that students learn from.

A teacher is a frozen dataclass that extends `Teacher`. The least it needs is a `name` and `traces`; everything else has an answer
that holds for any teacher.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from w2sr_jax.core.extendable import Extendable
from w2sr_jax.parallel.settings import Meshes
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces

if TYPE_CHECKING:
    from w2sr_jax.core.records import Problem, Trace
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.teachers.recorded import Loaded
    from w2sr_jax.teachers.settings import Recorded


@dataclasses.dataclass(frozen=True)
class Writer:
    """The model of the run that writes a teacher's traces: the previous rung's student of an `arm`, or one of the teacher's own,
    of architecture `config`, whose parameters `start` makes (see `experiment.starts`) and which then goes through the training
    stages `train` (`experiment.arms.TrainingStage`)."""

    arm: str = ""
    config: "ModelConfig | None" = None
    start: Any = None
    train: tuple[Any, ...] = ()


class Described(NamedTuple):
    """A description of a teacher, and a name from the user's settings that follows it."""

    words: str
    name: str = ""


class Findings(NamedTuple):
    """Functions by which a check reports what it sees, what is odd, and what cannot work."""

    see: Callable[[str], None]
    remark: Callable[[str], None]
    refuse: Callable[[str], None]


class Small(Protocol):
    """How a rehearsal makes settings small, with stand-ins for what would be downloaded."""

    def recorded(self, teacher: "Recorded") -> "Recorded":
        """A teacher that is a file, with stand-ins in the file."""

    def stand_in(self, name: str, weight: float) -> "Recorded":
        """A file of stand-ins for a teacher of this name."""

    def samples(self, count: int) -> int: ...
    def decoding(self, decoding: Decoding) -> Decoding: ...
    def training(self, training: Any) -> Any: ...
    def steps(self, count: int) -> int:
        """Steps of a training."""

    def model(self, config: "ModelConfig", loaded: bool = False) -> "ModelConfig":
        """A tiny model. `loaded`: its parameters are read from a stand-in, which has the stand-in tokenizer's vocabulary."""

    def checkpoint(self, reference: str, config: "ModelConfig") -> str: ...


class Teacher(Extendable):
    """Who writes traces. Extend it as a frozen dataclass with a field `name`, and define `traces`.

    Traces may depend on the teacher's fields, the problems, the seed and the grader alone.
    """

    must_define = ("traces", "write")

    name: str = "teacher"
    """Name of the teacher in tables, files and keys."""
    weight: float = 1.0
    """How much its traces count in the mix."""
    samples: int | None = None
    """Traces per problem; None where it is not known before they are read."""
    decoding: Decoding | None = None
    """How a model of the run behind it decodes."""
    meshes: Meshes = Meshes()
    """How devices are arranged for each use of a model of its own."""
    path: str = ""
    """The file or data set that it reads."""
    is_file: ClassVar[bool] = False
    """Whether its traces lie in a file, which may bring problems and answer test problems (`load`)."""

    origin: ClassVar[str] = "code"
    """The source of its traces, in a word for tables: "model", "file", "server" or "code"."""

    def traces(self, work: TeacherWork) -> "Iterable[Trace]":
        """Ungraded traces for the problems, in any order."""
        raise NotImplementedError(f"{type(self).__name__} must define traces(work)")

    def write(self, work: TeacherWork) -> WrittenTraces:
        """Write the graded traces of a rung. It may continue what an interrupted call has written."""
        from w2sr_jax.teachers.written import checked, write

        return write(work, list(checked(self, self.traces(work))))

    @property
    def reads_tokenizer(self) -> bool:
        """Whether its traces depend on the run's tokenizer (`TeacherWork.tokenizer`)."""
        return self.writer is not None

    @property
    def writer(self) -> Writer | None:
        """The model of the run that writes its traces; None where none does."""
        return None

    @property
    def steering(self) -> Any:
        """All of its settings that its traces depend on."""
        return dataclasses.replace(self, weight=1.0) if "weight" in _names(self) else self  # type: ignore[type-var]

    @property
    def records(self) -> bool:
        """Whether its traces come with the most probable tokens beside each of theirs, for losses on the teacher."""
        return self.decoding is not None and self.decoding.record_top > 0

    @property
    def described(self) -> Described:
        """What it is, for a model card."""
        return Described("code of the run's own")

    @property
    def foreign(self) -> bool:
        """Whether no model of the run writes its traces, so that it cannot be evaluated on test problems by sampling."""
        return self.writer is None

    def load(self, problems: "Sequence[Problem] | None", tested: "Sequence[Problem]" = (), most: int | None = None) -> "Loaded":
        """What the file of a teacher that `is_file` holds; see `teachers.recorded.load`."""
        raise NotImplementedError(f"{type(self).__name__} is no file")

    def head(self, rows: int) -> "Teacher":
        """The teacher with only the first rows of its file."""
        return self

    def rehearsed(self, small: "Small") -> "Teacher":
        """The teacher of a rehearsal: tiny, and with nothing that is downloaded or asked of a server. Its traces are
        stand-ins."""
        return small.stand_in(self.name, self.weight)

    def check(self, where: str) -> None:
        """`UserError` where its settings cannot work; `where` names them."""

    def inspect(self, where: str, findings: Findings, questions: Callable[[], "set[str] | None"]) -> None:
        """Check quickly, before a run, whether the teacher can work: is its file readable, does its server answer? `questions`
        returns the questions of all problems, as `copies.matching.written` writes them; None where they cannot be read yet."""

    def most_tokens(self, problems: int) -> int:
        """The most tokens of its traces for so many problems; 0 where there is no bound."""
        return 0


def _names(value: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(value)} if dataclasses.is_dataclass(value) else set()
