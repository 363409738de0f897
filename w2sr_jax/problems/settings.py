"""What can be set about problems. Plain dataclasses; the command line reads its options and help from them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Generated:
    """A family of generated multi-step arithmetic word problems."""

    seed: int = 0
    """Another seed gives other problems of the same family."""
    operations: tuple[int, int] = (2, 4)
    """Fewest and most arithmetic operations a problem takes; each count in between is equally likely."""
    largest: int = 29
    """No number exceeds this, neither in a question nor in a step nor as an answer; the smallest is 0."""
    distractors: float = 0.1
    """Probability that a sentence of the story is followed by one that does not matter."""


@dataclasses.dataclass(frozen=True)
class Fields:
    """Which field of a file's rows holds what. `None`: the file has no such field."""

    question: str = "question"
    """Field with the question."""
    answer: str = "answer"
    """Field with the final answer, or with a worked solution that ends in `#### ANSWER` as in GSM8K."""
    solution: str | None = None
    """Field with a worked solution."""
    id: str | None = None
    """Field with an id of the file's own, kept in `meta`; ids used here are digests of the content."""


@dataclasses.dataclass(frozen=True)
class Files:
    """Problems from a file: JSON Lines (`.jsonl`, also `.gz`) or Parquet."""

    path: str
    """The file."""
    fields: Fields = dataclasses.field(default_factory=Fields)
    """Names of the fields."""
    limit: int | None = None
    """Read at most this many rows, from the top."""
    task: str = "file"
    """Name of the task, shown in reports."""


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
