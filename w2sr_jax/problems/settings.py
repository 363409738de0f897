"""What can be set about problems. Plain dataclasses; the command line reads its options and help from them."""

import dataclasses
from typing import Literal

Transform = Literal["hashes", "boxed", "last_line", "extract", "tidy"]


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
    """What to take of the answer field, in order: what follows the last `####` (hashes), the content of the last `\\boxed{}`
    (boxed), the last line (last_line), what a text's final answer would be read as (extract), all but math delimiters and a full
    stop (tidy)."""
    choices: tuple[str, ...] = ()
    """Multiple choice: the field that holds a list of options, or a field for each option. The options are listed below the
    question as `A) …`, and the gold answer is the right one's letter."""
    answer_is: Literal["value", "index", "letter"] = "value"
    """With choices, what the answer field holds of the right option: its text (value), its place from 0 (index) or its letter."""
    shuffle: bool = True
    """Put options into an order that follows from the question and the options alone; `meta` keeps it. Options that refer to
    others by letter stay as they are, and `… of the above` stays last."""
    meta: tuple[str, ...] | None = None
    """Fields to keep in `meta`, however long; None: all others that hold short plain values."""


@dataclasses.dataclass(frozen=True)
class Files:
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


@dataclasses.dataclass(frozen=True)
class Copies:
    """What else counts as a copy of a question, besides the same question in another dress."""

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
