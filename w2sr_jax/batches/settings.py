"""The shape of a training batch."""

import dataclasses

from w2sr_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Batching:
    """Rows of a fixed length, several examples to a row."""

    length: int = 128
    """Positions in a row; an example of n tokens takes n - 1, since its last token is only predicted."""
    rows: int = 16
    """Rows in the global batch of a step."""
    pack: bool = True
    """Put several examples into a row where they fit (they never see each other); otherwise one example per row."""

    def __post_init__(self) -> None:
        if self.length < 1 or self.rows < 1:
            raise UserError(f"batching.length is {self.length} and batching.rows {self.rows}; both must be at least 1")
