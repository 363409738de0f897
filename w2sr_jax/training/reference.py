"""The most probable tokens of a frozen model, on disk: computed once for a data set and a set of parameters, read by every
training of both.

A folder holds a piece for every few rows of the packed data (`training.pieces`), with the supervised tokens alone.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from w2sr_jax.batches.packing import Packed
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.inputs import INITIAL
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import RULES, batch_sharding
from w2sr_jax.parallel.processes import gather, put
from w2sr_jax.training.pieces import every, fill, settings_of, why_not_finite

_STORED = ("ids", "logprobs", "rest")
PIECE = 65_536
"""Positions in a piece, about: a few megabytes, and few files."""


@dataclasses.dataclass(frozen=True)
class References:
    """The folder of one model's distributions for one packed data set: `count` tokens at each supervised position."""

    folder: Path
    packed: Packed
    count: int
    rows: int
    """Rows in a piece."""

    @property
    def pieces(self) -> int:
        return math.ceil(self.total / self.rows)

    @property
    def total(self) -> int:
        return len(self.packed.tokens)

    def path(self, piece: int) -> Path:
        return self.folder / f"piece-{piece:05d}.npy"

    def write(self, piece: int, whole: TopK) -> None:
        """`whole` holds all positions of the piece's rows, [R, L, …], and rows of padding after them, perhaps."""
        chosen = self._supervised[piece * self.rows : (piece + 1) * self.rows]
        values = np.empty(self._tokens(piece), self._type)
        for name in _STORED:
            values[name] = getattr(whole, name)[: len(chosen)][chosen]
        with files.replacing(self.path(piece)) as temporary, open(temporary, "wb") as file:
            np.save(file, values, allow_pickle=False)

    def read(self, piece: int) -> np.ndarray | None:
        """A piece's values, left on the disk; None where they are missing or not such as `write` writes."""
        try:
            # What has no bytes cannot be mapped.
            values = np.load(self.path(piece), mmap_mode="r" if self._tokens(piece) else None, allow_pickle=False)
        except (OSError, ValueError):
            return None
        return values if values.shape == (self._tokens(piece),) and values.dtype == self._type else None

    def at(self, rows: Int[np.ndarray, " R"]) -> TopK:
        """What is stored of the positions of some rows, [R, L, …]; zeros where nothing is supervised."""
        values = np.zeros((len(rows), self.packed.tokens.shape[1]), self._type)
        for position, row in enumerate(rows):
            start, stop = self._before[[row, row + 1]] - self._before[int(row) // self.rows * self.rows]
            values[position, self._supervised[row]] = self._opened[int(row) // self.rows][start:stop]
        return TopK(*(np.ascontiguousarray(values[name]) for name in _STORED))

    def mass(self) -> float:
        """The mean mass of the tokens that are stored."""
        rest = sum(float(np.exp(each["rest"].astype(np.float64)).sum()) for each in self._opened)
        return 1.0 - rest / max(int(self._before[-1]), 1)

    @cached_property
    def _type(self) -> np.dtype:
        return np.dtype([("ids", "<i4", (self.count,)), ("logprobs", "<f4", (self.count,)), ("rest", "<f4")])

    @cached_property
    def _supervised(self) -> Bool[np.ndarray, "N L"]:
        return self.packed.weight > 0

    @cached_property
    def _before(self) -> Int[np.ndarray, " N+1"]:
        """Supervised tokens before each row."""
        return np.concatenate([[0], np.cumsum(self._supervised.sum(axis=1))])

    def _tokens(self, piece: int) -> int:
        """Supervised tokens of a piece."""
        return int(self._before[min((piece + 1) * self.rows, len(self.packed.tokens))] - self._before[piece * self.rows])

    @cached_property
    def _opened(self) -> list[np.ndarray]:
        return every(self)


def references(
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
    name: str = INITIAL,
    sharing: Sharing = ON_ONE_DISK,
) -> References:
    """The distributions of a model for `packed`, read from a folder below `parent` or computed and stored there. `parameters()`
    gives its parameters, on the mesh; it is only called where something has to be computed.

    `owner` names data and parameters. `rows` are computed at a time, in blocks of `block` tokens; they must divide over the mesh.
    What has an influence on the values' bits names the folder. `on_progress` gets rows done and rows in all. With several
    processes all call this alike, on a disk they share or as `sharing` says; any of them may be told to `stop`. `UserError` where
    the vocabulary is smaller than `count`; `Stopped`: the pieces made until then stay. `name` is what a loss calls the model.
    """
    if count > model.vocab_size:
        raise UserError(f"training.reference_top is {count}; the vocabulary has {model.vocab_size} tokens")
    calls = max(1, PIECE // (rows * packed.tokens.shape[1]))
    settings = settings_of(owner, model, rows, calls, mesh) | {"count": count}
    stored = References(parent / files.digest_json(settings)[:16], packed, count, rows * calls)

    def values(params: Any, first: int) -> TopK:
        some = put(rows_of(packed, first, rows), batch_sharding(mesh))
        part: TopK = gather(values_at(model, count, block, mesh, params, *some))
        _check_finite(name, params, packed, first, part)
        return part

    fill(stored, settings, rows, parameters, values, stop, on_progress, on_warning, sharing)
    return stored


def _check_finite(name: str, params: Any, packed: Packed, first: int, values: TopK) -> None:
    """`UserError` where a supervised token's log-probabilities are no numbers: nothing of them is kept."""
    supervised = packed.weight[first : first + len(values.logprobs)] > 0
    if np.isnan(values.logprobs[: len(supervised)][supervised]).any():
        raise UserError(f"the logits of the frozen model {name!r} are not finite numbers: {why_not_finite(params)}")


def rows_of(packed: Packed, first: int, rows: int) -> list[np.ndarray]:
    """Tokens, positions and segments of some rows, those past the end empty."""
    some = [array[first : first + rows] for array in (packed.tokens, packed.positions, packed.segments)]
    return [np.pad(array, [(0, rows - len(array)), (0, 0)]) for array in some]


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def values_at(
    model: ModelConfig,
    count: int,
    block: int,
    mesh: Mesh,
    params: Any,
    tokens: Int[Array, "R L"],
    positions: Int[Array, "R L"],
    segments: Int[Array, "R L"],
) -> TopK:
    """The most probable tokens at every position, [R, L, …]: logits exist for about `block` tokens at a time."""
    rows, length = tokens.shape
    lay = NamedSharding(mesh, PartitionSpec(RULES["batch"], None, None))
    hidden = transformer.forward(model, params, tokens, positions, segments, sharding=lay)
    output = transformer.output_matrix(model, params).astype(hidden.dtype)
    columns = max(1, min(length, block // rows))
    parts = math.ceil(length / columns)
    padded = jnp.pad(hidden, [(0, 0), (0, parts * columns - length), (0, 0)])

    # Each device ranks the logits of its own rows; the partitioner would gather those of all rows for it.
    @partial(jax.shard_map, mesh=mesh, in_specs=lay.spec, out_specs=PartitionSpec(RULES["batch"]), check_vma=False)
    def ranked(logits: Array) -> TopK:
        best = topk.of_logits(logits.reshape(-1, logits.shape[-1]), count)
        return jax.tree.map(lambda leaf: leaf.reshape(*logits.shape[:2], *leaf.shape[1:]), best)

    def one(part: Array) -> TopK:
        logits = jnp.einsum("rcd,dv->rcv", part, output, preferred_element_type=jnp.float32)
        logits = jax.lax.with_sharding_constraint(
            logits, NamedSharding(mesh, PartitionSpec(RULES["batch"], None, RULES["vocab"]))
        )
        if model.logit_softcap is not None:
            logits = model.logit_softcap * jnp.tanh(logits / model.logit_softcap)
        return ranked(logits)

    # Columns of all rows at a time, so that every device works on its own rows.
    parts_of_rows = jax.lax.map(one, jnp.moveaxis(padded.reshape(rows, parts, columns, -1), 1, 0))
    return jax.tree.map(
        lambda leaf: jnp.moveaxis(leaf, 0, 1).reshape(rows, parts * columns, *leaf.shape[3:])[:, :length], parts_of_rows
    )
