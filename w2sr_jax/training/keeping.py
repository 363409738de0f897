"""Where a training's checkpoints are kept, and what is done beside every save for machines that do not see this one's disk."""

from collections.abc import Callable
from typing import NamedTuple

from w2sr_jax.core.trees import Location


def _nothing() -> None:
    """On one disk nothing is to be done."""


class Keeping(NamedTuple):
    """`folder` is where checkpoints are written, None for `checkpoints/` in the training's directory. The first process calls
    `before` for every save, in a thread, before the step counts: what a training reads to go on from it must then be where it is
    kept; and `after` once the step is sealed and older ones are removed."""

    folder: Location | None = None
    before: Callable[[], None] = _nothing
    after: Callable[[], None] = _nothing


KEPT_HERE = Keeping()
