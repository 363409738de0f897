"""Teachers whose traces lie in a file. Dataclasses only."""

import dataclasses
import math
from typing import Literal

from w2sr_jax.errors import UserError

ShapeName = Literal["columns", "messages", "prompt", "instruction"]


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Recorded traces: JSON Lines (`.jsonl`, also `.gz`), Parquet, or a data set of the Hub or of TFDS."""

    name: str = "recorded"
    """Name of the teacher in tables, files and keys."""
    path: str = ""
    """The file; or `hf:NAME[:CONFIG][:SPLIT]`, `tfds:NAME[/CONFIG][:SPLIT]`, where NAME may be a local directory."""
    question: str = "question"
    """Field with the question; another one than the default is taken as it is, as a column unless `shape` says otherwise."""
    trace: str = "trace"
    """Field with the chain of thought, likewise; where rows hold lists of texts, each is one sample."""
    gold: str | None = "gold"
    """Field with the gold answer; None: the file has none. In recognised shapes the default also stands for `answer`,
    `expected_answer` or the marked answer in `solution`, or for none."""
    id: str | None = None
    """Field with the problem's id in the file, kept in the problem's `meta`; rows with one id must have one question."""
    sample: str | None = None
    """Field with the number of the sample; None: rows of one problem are numbered in the order of the file."""
    where: tuple[tuple[str, str], ...] = ()
    """Only rows whose field has this value: pairs (field, value)."""
    meta: tuple[str, ...] = ()
    """Fields to keep in the problem's `meta`, such as a difficulty level."""
    limit: int | None = None
    """Use at most this many rows, from the top (after `where`)."""
    task: str = "recorded"
    """Name of the task that the problems get, shown in reports."""
    weight: float = 1.0
    """How much its traces count in the mix."""
    shape: Literal["auto", "columns", "messages", "prompt", "instruction"] = "auto"
    """How rows hold question and trace: in two columns; as `messages` or `conversations`; as `prompt` and `completion`; as
    LLaMA-Factory's `instruction`, `input` and `output`. auto: as the fields of the first rows say."""
    strip: tuple[str, ...] = ()
    """Texts that are taken off the beginning or end of questions, such as an instruction to reason step by step, so that they
    match the problems' questions."""
    finish: str | None = None
    """Field that says `stop` or `length` (cut off at a limit); None: all traces count as finished."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise UserError(f"teacher {self.name!r} has the weight {self.weight}; weights are finite and not negative")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"teacher {self.name!r} has the limit {self.limit}; it must be 1 or more, or None for all rows")
        if any(not text.strip() for text in self.strip):
            raise UserError(f"teacher {self.name!r} has an empty text in strip; give what questions begin or end with")
