"""How much disk checkpoints take: what is kept while training and after it, what killed processes left, whether there is room.

A directory that is to go is first renamed to a name that nothing reads, so that a kill leaves whole steps only.
"""

import logging
import math
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import Location, tree
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training import steps
from w2sr_jax.training.agreement import any_process

log = logging.getLogger(__name__)

UNSOUND = ".unsound"
_REMOVED = ".removed"
_ORBAX = ".orbax-checkpoint-tmp"


def prune(directory: Location, keep: int) -> None:
    """Remove all steps but the newest `keep`."""
    for path in steps.listed(directory)[:-keep]:
        remove(path)


def sweep(directory: Location) -> None:
    """Remove what killed or failed saves and removals left; no save may be under way."""
    for name in tree(directory).folders():
        if name.endswith(_REMOVED) or _ORBAX in name:
            tree(directory / name).remove()
    if not tree(directory).atomic:  # saves are written in their place
        for path in steps.listed(directory):
            if steps.unfinished(path) is not None:
                tree(path).remove()


def set_aside(path: Location, reason: str) -> None:
    """Rename an unsound step to STEP.unsound, for someone to look at; of these only the latest is kept. In a bucket it is
    removed."""
    if not tree(path).atomic:
        log.warning("checkpoint %s is removed: %s", path, reason)
        tree(path).remove()
        return
    log.warning("checkpoint %s is ignored and renamed to %s%s: %s", path, path.name, UNSOUND, reason)
    _remove_unsound(path.parent)
    path.rename(path.with_name(f"{path.name}{UNSOUND}"))


def remove(path: Location) -> None:
    """Remove a directory; whoever is killed on the way leaves all of it or nothing that is read."""
    if not tree(path).atomic:
        tree(path).remove()
        return
    gone = path.with_name(f".{path.name}{_REMOVED}")
    tree(gone).remove()
    path.rename(gone)
    tree(gone).remove()


def _remove_unsound(directory: Location) -> None:
    for name in tree(directory).folders():
        if name.endswith(UNSOUND):
            remove(directory / name)


def retire(directory: Location, keep_optimizer: bool) -> Location:
    """What a finished training leaves of its checkpoints: the newest step, without the optimizer's state unless that is kept.

    The step stays sealed and readable at every moment, and a call that was killed is completed by another. With several
    processes, all call this alike.
    """
    newest = steps.resolve(directory)
    if jax.process_index() == 0:
        if not tree(newest).sealed():
            tree(newest).seal()
        if not keep_optimizer:
            _drop_optimizer(newest)
        prune(directory, 1)
        _remove_unsound(directory)
        sweep(directory)
    barrier(f"retired {directory}")
    return newest


def room(directory: Location, state: Any, keep: int) -> None:
    """`UserError` where the disk does not hold the checkpoints of `state` (a pytree of anything with shape and dtype): `keep`,
    and one more while it is written. With several processes, all call this alike."""
    if not isinstance(directory, Path):  # a bucket has room
        return
    each = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(state))
    disk = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    # Checkpoints that are there already make room for those to come.
    free = shutil.disk_usage(disk).free + sum(_size(path) for path in steps.listed(directory))
    if any_process(free < (keep + 1) * each):
        raise UserError(
            f"{directory} has room for {_words(free)}, and the checkpoints of this training need {_words((keep + 1) * each)} "
            f"({keep + 1} of {_words(each)}); free some space, lower training.keep or use another directory"
        )


def _drop_optimizer(step: Location) -> None:
    if steps.has_optimizer(step):
        digests = tree(step).read_json(files.SEAL)
        rest = {name: digest for name, digest in digests.items() if not name.startswith(f"{steps.OPTIMIZER}/")}
        tree(step).write_json(files.SEAL, rest)
    tree(step / steps.OPTIMIZER).remove()


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _words(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size / 1e3:,.1f} kB"
