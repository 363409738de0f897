"""The shape of a training batch. Dataclasses only."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Batching:
    """Rows of a fixed length, several examples to a row."""

    length: int = 128
    """Positions in a row; an example of n tokens takes n - 1, since its last token is only predicted."""
    rows: int = 16
    """Rows in the global batch of a step."""
    pack: bool = True
    """Put several examples into a row where they fit (they never see each other); otherwise one example per row."""
