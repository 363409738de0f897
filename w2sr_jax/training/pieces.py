"""Values of a frozen model for every row of packed data, in a folder: computed once, piece by piece, and sealed when all are
there.

An interrupted computation goes on where it was; what has changed since it was sealed is computed anew.
"""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from w2sr_jax.core import files
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.models import finite
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training.agreement import any_process

OWNER = "reference.json"


class Pieces(Protocol):
    """A folder with the values of so many rows in each piece."""

    @property
    def folder(self) -> Path: ...
    @property
    def rows(self) -> int: ...
    @property
    def pieces(self) -> int: ...
    @property
    def total(self) -> int:
        """Rows in all."""

    def path(self, piece: int) -> Path: ...
    def read(self, piece: int) -> np.ndarray | None:
        """A piece's values; None where they are missing or damaged."""

    def write(self, piece: int, whole: Any) -> None:
        """`whole` is a pytree of arrays with the piece's rows, and rows of padding after them, perhaps."""


def settings_of(owner: Mapping[str, str], model: ModelConfig, rows: int, calls: int, mesh: Mesh) -> dict[str, Any]:
    """What has an influence on the bits of any values of a model: `owner` names data and parameters, `rows` are computed at a
    time, `calls` times for a piece."""
    return {
        **owner,
        "model": dataclasses.asdict(dataclasses.replace(model, remat="none")),
        "rows": rows,
        "calls": calls,
        "mesh": dict(mesh.shape),
        "jax": jax.__version__,
        "device": mesh.devices.flat[0].device_kind,
    }


def every(stored: Pieces) -> list[np.ndarray]:
    """The values of all pieces. `UserError` where one is missing or damaged."""
    values = [piece for number in range(stored.pieces) if (piece := stored.read(number)) is not None]
    if len(values) < stored.pieces:
        raise UserError(f"{stored.folder} does not hold the model's values for every row; remove it, and they are computed anew")
    return values


def why_not_finite(params: Any) -> str:
    """Why values that were computed with some parameters are not finite numbers, in words, and what to do."""
    broken = finite.not_finite(params)
    why = finite.words(broken) if broken else "its parameters are finite, so that its computation overflows"
    return f"{why}; take another checkpoint"


def fill(
    stored: Pieces,
    settings: Mapping[str, Any],
    rows: int,
    parameters: Callable[[], Any],
    values: Callable[[Any, int], Any],
    stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda words: None,
    sharing: Sharing = ON_ONE_DISK,
) -> None:
    """Compute what is not there. `values(parameters(), first)` gives those of `rows` rows from `first` on, in every process
    alike; `parameters` is only called where something has to be computed. `settings` are written beside the values.

    With several processes all call this alike, on a disk they share or as `sharing` says; any of them may be told to `stop`.
    `Stopped`: the pieces made until then stay.
    """
    folder = stored.folder
    sharing.obtain(folder)
    if not any_process(not _complete(stored, on_warning)):
        return
    barrier(f"reference {folder.name}: looked at")
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        files.sweep(folder)
        files.write_json(folder / OWNER, settings)
    barrier(f"reference {folder.name}: begun")
    lacking = [piece for piece in range(stored.pieces) if any_process(stored.read(piece) is None)]
    params = parameters() if lacking else None
    for piece in lacking:
        parts = []
        for first in range(piece * stored.rows, min((piece + 1) * stored.rows, stored.total), rows):
            if stop is not None and any_process(stop()):
                raise Stopped(f"training was asked to stop while it computed the reference's values; those done are in {folder}")
            if on_progress is not None:
                on_progress(first, stored.total)
            parts.append(values(params, first))
        if jax.process_index() == 0:
            stored.write(piece, jax.tree.map(lambda *each: np.concatenate(each), *parts))
            sharing.publish([stored.path(piece)])
    if jax.process_index() == 0:
        files.seal(folder)
        sharing.publish([folder / OWNER, folder / files.SEAL])
    barrier(f"reference {folder.name}: done")
    sharing.obtain(folder)


def _complete(stored: Pieces, warn: Callable[[str], None]) -> bool:
    """Whether all pieces are there and sound. Damaged ones are removed, so that they are made anew."""
    if not files.sealed(stored.folder):
        return False
    damage = files.damage(stored.folder)
    if damage is None and all(stored.path(piece).exists() for piece in range(stored.pieces)):
        return True
    warn(f"the reference's values are computed anew: {damage or f'{stored.folder} lacks some'}")
    if jax.process_index() == 0:
        files.remove(stored.folder)
    return False
