"""Teachers whose traces lie in a file. Dataclasses only."""

import dataclasses
import math

from w2sr_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Recorded:
    """Traces recorded in a file, JSON Lines (`.jsonl`, also `.gz`) or Parquet, one trace per row."""

    name: str = "recorded"
    """Name of the teacher in tables, files and keys."""
    path: str = ""
    """The file."""
    question: str = "question"
    """Field with the question."""
    trace: str = "trace"
    """Field with the chain of thought."""
    gold: str | None = "gold"
    """Field with the gold answer; None: the file has none."""
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

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise UserError(f"teacher {self.name!r} has the weight {self.weight}; weights are finite and not negative")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"teacher {self.name!r} has the limit {self.limit}; it must be 1 or more, or None for all rows")
