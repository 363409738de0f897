"""Settings of problems: sources, fields, splits. The command line takes its options and their help from these dataclasses."""

import dataclasses
from collections.abc import Callable
from typing import Literal

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.rows import Quarantine
from w2sr_jax.problems.source import ProblemSource

Transform = Literal["hashes", "boxed", "last_line", "extract", "tidy"]


@dataclasses.dataclass(frozen=True)
class Generated(ProblemSource):
    """A family of generated multi-step arithmetic word problems."""

    seed: int = 0
    """Another seed gives other problems of the same family."""
    operations: tuple[int, int] = (2, 4)
    """Fewest and most arithmetic operations a problem takes; each count in between is equally likely."""
    largest: int = 29
    """No number exceeds this, neither in a question nor in a step nor as an answer; the smallest is 0."""
    distractors: float = 0.1
    """Probability that a sentence of the story is followed by one that does not matter."""

    def is_endless(self) -> bool:
        return True

    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        """The first `limit` problems of the family. Raises UserError where the family has fewer."""
        from w2sr_jax.problems import generated

        if limit is None:
            raise ValueError("generated problems have no end: give a limit")
        return generated.generate(self, limit), Quarantine()

    def facts(self, lines: int) -> list[str]:
        """Lines of arithmetic facts, as in `generated.facts`."""
        from w2sr_jax.problems import generated

        return generated.facts(self, lines)

    def describe(self) -> str:
        return f"generated, {self.operations[0]} to {self.operations[1]} operations, numbers up to {self.largest}"


@dataclasses.dataclass(frozen=True)
class Fields:
    """Which field of a row holds what. `None`: there is no such field. A name may lead into nested fields (`a.b`, `a.0.b`);
    several fields whose texts belong together are joined by ` + `."""

    question: str = "question"
    """Field with the question."""
    answer: str = "answer"
    """Field with the final answer, or with a worked solution that ends in `#### ANSWER` as in GSM8K."""
    solution: str | None = None
    """Field with a worked solution."""
    id: str | None = None
    """Field with an id of the file's own, kept in `meta`; ids used here are digests of the content."""
    answer_by: tuple[Transform, ...] = ()
    """What to take of the answer field, one step after another: the text behind the last `####` (hashes), the content of the last
    `\\boxed{}` (boxed), the last line (last_line), the final answer as graders read it (extract), the text without math
    delimiters and full stop (tidy)."""
    choices: tuple[str, ...] = ()
    """Multiple choice: the field that holds a list of options, or a field for each option. The options are listed below the
    question as `A) …`, and the gold answer is the right one's letter."""
    answer_is: Literal["value", "index", "letter"] = "value"
    """With choices, how the answer field names the right option: by its text (value), its index from 0 (index) or its letter."""
    shuffle: bool = True
    """Put options into an order that depends on the question and the options alone, and is recorded in `meta`. Options that refer
    to others by letter stay as they are, and `… of the above` stays last."""
    meta: tuple[str, ...] | None = None
    """Fields to store in `meta`, however long; None: all other fields that hold short plain values."""


@dataclasses.dataclass(frozen=True)
class Files(ProblemSource):
    """Problems from a file (JSON Lines, also `.gz`, or Parquet), the Hugging Face Hub, or TFDS."""

    path: str
    """A file (PATH or `file:PATH`), `hf:NAME[@REVISION][:CONFIG][:SPLIT]` with a data set of the Hub or a local directory of one,
    or `tfds:NAME[/CONFIG][:SPLIT]` with a prepared data set below TFDS_DATA_DIR or its directory. Splits may be cut and joined:
    `train[:1000]`, `train[10%:]+test`."""
    fields: Fields = dataclasses.field(default_factory=Fields)
    """Names of the fields."""
    limit: int | None = None
    """Read at most this many rows, from the top."""
    task: str = "file"
    """Name of the task, shown in reports."""

    def load(self, limit: int | None = None) -> tuple[list[Problem], Quarantine]:
        """The problems of the file or data set in order, and the rows set aside; see `files.load`."""
        from w2sr_jax.problems import files

        rows = [number for number in (limit, self.limit) if number is not None]
        return files.load(dataclasses.replace(self, limit=min(rows, default=None)))

    def available(self) -> int | None:
        from w2sr_jax.problems import datasets

        try:
            count = datasets.count(self.path)
        except (UserError, OSError, ValueError):
            return None
        return count if self.limit is None or count is None else min(count, self.limit)

    def paths(self) -> tuple[str, ...]:
        return (self.path,)

    def at_hand(self) -> bool:
        from w2sr_jax.problems import datasets

        return datasets.at_hand(self.path)

    def rehearsed(self, stand_ins: Callable[["Files"], str]) -> "Files":
        return dataclasses.replace(self, path=stand_ins(self), limit=None)

    def describe(self) -> str:
        return self.path


@dataclasses.dataclass(frozen=True)
class Copies:
    """What else counts as a copy of a question, besides the same question with other labels, instructions or spelling."""

    other_names: bool = False
    """The same text with other names."""
    other_numbers: bool = False
    """The same text with other numbers."""


@dataclasses.dataclass(frozen=True)
class Splits:
    """How many problems go to each use. No problem serves two uses."""

    pretrain: int = 0
    """For pretraining from-scratch models."""
    teacher: int = 0
    """For training the teacher, with gold solutions."""
    pool: int = 0
    """Questions the teacher answers and the student learns from; -1: all that the other splits leave."""
    probe: int = 0
    """For decisions during development."""
    test: int = 0
    """For the reported numbers; nothing is tuned on it."""
    copies: Copies = Copies()
    """What counts as the same problem."""
