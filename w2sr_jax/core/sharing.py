"""How processes see each other's files while a stage is under way: on one disk they do; otherwise who writes publishes, and who
reads obtains."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple


def _nothing(_: object) -> None:
    """On one disk nothing is to be done."""


class Sharing(NamedTuple):
    """`publish` lets other processes, and later ones on other machines, see files. `obtain` has here what others published of a
    file or folder. `one_disk` says that neither does anything, since all see one disk."""

    publish: Callable[[Iterable[Path]], None] = _nothing
    obtain: Callable[[Path], None] = _nothing
    one_disk: bool = True


ON_ONE_DISK = Sharing()
