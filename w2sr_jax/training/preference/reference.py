"""The log-probabilities of whole sequences under the student before training, on disk: computed once for a data set and a set of
parameters, read by every training of both."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from w2sr_jax.batches.packing import Packed
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import gather, put
from w2sr_jax.training.pieces import every, fill, settings_of, why_not_finite
from w2sr_jax.training.reference import PIECE
from w2sr_jax.training.sequence_step import Texts, sequence_logprobs


@dataclasses.dataclass(frozen=True)
class SequenceReferences:
    """The folder of one model's values for one packed data set: `count` sums for each row, float32."""

    folder: Path
    total: int
    count: int
    rows: int
    """Rows in a piece."""

    @property
    def pieces(self) -> int:
        return math.ceil(self.total / self.rows)

    def path(self, piece: int) -> Path:
        return self.folder / f"piece-{piece:05d}.npy"

    def write(self, piece: int, whole: Float[np.ndarray, "R S"]) -> None:
        with files.replacing(self.path(piece)) as temporary, open(temporary, "wb") as file:
            np.save(file, np.asarray(whole[: self._rows_of(piece)], np.float32), allow_pickle=False)

    def read(self, piece: int) -> np.ndarray | None:
        try:
            values = np.load(self.path(piece), allow_pickle=False)
        except (OSError, ValueError):
            return None
        return values if values.shape == (self._rows_of(piece), self.count) and values.dtype == np.float32 else None

    def at(self, rows: Int[np.ndarray, " R"]) -> Float[np.ndarray, "R S"]:
        """Of some rows of the packed data."""
        values: Float[np.ndarray, "R S"] = self._all[rows]
        return values

    @cached_property
    def _all(self) -> Float[np.ndarray, "N S"]:
        return np.concatenate(every(self))

    def _rows_of(self, piece: int) -> int:
        return min(self.rows, self.total - piece * self.rows)


def sequence_references(
    parent: Path,
    model: ModelConfig,
    parameters: Callable[[], Any],
    packed: Packed,
    count: int,
    rows: int,
    block: int,
    mesh: Mesh,
    owner: Mapping[str, str],
    stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_warning: Callable[[str], None] = lambda words: None,
    sharing: Sharing = ON_ONE_DISK,
) -> SequenceReferences:
    """What a model makes of the sequences of `packed`, read from a folder below `parent` or computed and stored there.

    Arguments, errors and what happens with several processes are as in `training.reference.references`; `count` is the most
    sequences of a row.
    """
    calls = max(1, PIECE // (rows * packed.tokens.shape[1]))
    settings = settings_of(owner, model, rows, calls, mesh) | {"sequences": count, "block": block}
    stored = SequenceReferences(parent / files.digest_json(settings)[:16], len(packed.tokens), count, rows * calls)

    def values(params: Any, first: int) -> Float[np.ndarray, "R S"]:
        some = put(_rows(packed, first, rows), batch_sharding(mesh))
        part = np.asarray(gather(sequence_logprobs(model, block, count, mesh, params, some)))
        if not np.isfinite(part).all():
            raise UserError(f"the frozen reference's log-probabilities are not finite numbers: {why_not_finite(params)}")
        return part

    fill(stored, settings, rows, parameters, values, stop, on_progress, on_warning, sharing)
    return stored


def _rows(packed: Packed, first: int, rows: int) -> Texts:
    """Some rows, those past the end empty."""

    def some(values: np.ndarray) -> np.ndarray:
        part = values[first : first + rows]
        return np.pad(part, [(0, rows - len(part)), (0, 0)])

    supervised = packed.weight[first : first + rows] != 0
    padded = np.pad(supervised, [(0, rows - len(supervised)), (0, 0)])
    return Texts(some(packed.tokens), some(packed.positions), some(packed.segments), some(packed.target), padded)


def described(rows: int, length: int, sharding: Any) -> Texts:
    """What `sequence_logprobs` reads, without values."""
    kinds = [jnp.int32] * 4 + [jnp.bool_]
    return Texts(*(jax.ShapeDtypeStruct((rows, length), kind, sharding=sharding) for kind in kinds))
