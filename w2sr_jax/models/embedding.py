"""Rows of an embedding table that is split over a mesh.

Index names: B rows, V vocabulary, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

VOCABULARY_AXIS, WIDTH_AXIS = "tensor", "fsdp"
"""Mesh axes that the table is split over."""


def lookup(
    table: Float[Array, "V D"],
    tokens: Int[Array, "B *L"],
    dtype: Any,
    sharding: NamedSharding | None = None,
) -> Float[Array, "B *L D"]:
    """The tokens' rows of the table, in `dtype`. Differentiable in the table.

    `sharding` says over which mesh and axes the rows B are split, of the tokens and of the result alike; None is one device. The
    table is split over `VOCABULARY_AXIS` and `WIDTH_AXIS`. Left to itself the partitioner may gather the rows of all devices on
    every one, or move the table. Here the devices of one `WIDTH_AXIS` exchange ids, each looks up its own columns for all of
    them, and the columns go back to the rows' devices: no device ever receives more than the embeddings of its own rows.
    """
    if sharding is None or sharding.mesh.size == 1:
        return table[tokens].astype(dtype)
    axes = sharding.spec[0] if isinstance(sharding.spec[0], tuple) else (sharding.spec[0],)
    split = {axis: ways for axis, ways in sharding.mesh.shape.items() if ways > 1}
    rows = tuple(axis for axis in axes if axis in split)
    vocabulary, width = (
        axis if axis in split and size % split[axis] == 0 else None
        for axis, size in zip((VOCABULARY_AXIS, WIDTH_AXIS), table.shape, strict=True)
    )
    if width not in rows:
        width = None

    def local(table: Float[Array, "v d"], tokens: Int[Array, "b *L"]) -> Float[Array, "b *L D"]:
        if width is not None:
            tokens = jax.lax.all_gather(tokens, width, tiled=True)
        if vocabulary is None:
            embedded = table[tokens].astype(dtype)
        else:
            own = tokens - jax.lax.axis_index(vocabulary) * len(table)
            held = (own >= 0) & (own < len(table))
            embedded = jnp.where(held[..., None], table[jnp.where(held, own, 0)].astype(dtype), 0)
            embedded = jax.lax.psum(embedded, vocabulary)
        return embedded if width is None else jax.lax.all_to_all(embedded, width, 0, embedded.ndim - 1, tiled=True)

    return jax.shard_map(local, mesh=sharding.mesh, in_specs=(P(vocabulary, width), P(rows)), out_specs=P(rows))(table, tokens)
