"""Who gets the scalars of a training besides its own files."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

Values = Mapping[str, float | int | None]
State = Literal["finished", "stopped", "failed"]


class Scalars(Protocol):
    """Who gets the scalars of a training besides its own files, such as trackers. No method raises or waits."""

    def begin(self, owner: str, earlier: Sequence[tuple[str, int, Values]]) -> None:
        """The training begins, or goes on. `owner` is a digest of all that determines it, `earlier` what it has written so far:
        group (`train`, `probe`), step, values."""

    def scalars(self, group: str, step: int, values: Values) -> None:
        """Values of a step; after an interruption steps come again, with the same values."""

    def end(self, state: State) -> None:
        """The training is over for now."""
