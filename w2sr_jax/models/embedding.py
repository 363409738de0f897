"""Rows of an embedding table that is split over a mesh.

Index names: B rows, V vocabulary, D width.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int

from w2sr_jax.core.axes import free_axes

VOCABULARY_AXIS, WIDTH_AXIS = "tensor", "fsdp"
"""Mesh axes that the table is split over."""

COPY_AXIS = "data"
"""Mesh axis whose parts hold a copy of the table each."""


def copies(table: Float[Array, "V D"], sharding: NamedSharding | None) -> Float[Array, "*S V D"]:
    """A copy of the table for each part of the mesh's `COPY_AXIS`, which hold one anyway: S of them, or the table itself where
    there is one. What is done with copies has gradients in each; they add up over the devices once, however much is done."""
    free = {} if sharding is None else free_axes(sharding.mesh)
    if sharding is None or free.get(COPY_AXIS, 1) == 1:
        return table
    spread = jnp.broadcast_to(table, (free[COPY_AXIS], *table.shape))
    width, vocabulary = (
        axis if axis in free and size % free[axis] == 0 else None
        for axis, size in zip((WIDTH_AXIS, VOCABULARY_AXIS), reversed(table.shape), strict=True)
    )
    return jax.lax.with_sharding_constraint(spread, NamedSharding(sharding.mesh, P(COPY_AXIS, vocabulary, width)))


def lookup(
    table: Float[Array, "*S V D"],
    tokens: Int[Array, "B *L"],
    dtype: Any,
    sharding: NamedSharding | None = None,
) -> Float[Array, "B *L D"]:
    """The tokens' rows of the table, or of its `copies`, in `dtype`. Differentiable in the table.

    `sharding` says over which mesh and axes the rows B are split, of the tokens and of the result alike; None is one device. The
    table is split over `VOCABULARY_AXIS` and `WIDTH_AXIS`. Left to itself the partitioner may gather the rows of all devices on
    every one, or move the table. Here the devices of one `WIDTH_AXIS` exchange ids, each looks up its own columns for all of
    them, and the columns go back to the rows' devices: no device ever receives more than the embeddings of its own rows. Inside
    a `jax.shard_map` the mesh is that of the context.
    """
    free = {} if sharding is None else free_axes(sharding.mesh)
    split = {axis: ways for axis, ways in free.items() if ways > 1}
    if sharding is None or not split:
        return table[tokens].astype(dtype)
    axes = sharding.spec[0] if isinstance(sharding.spec[0], tuple) else (sharding.spec[0],)
    rows = tuple(axis for axis in axes if axis in split)
    vocabulary, width = (
        axis if axis in split and size % split[axis] == 0 else None
        for axis, size in zip((VOCABULARY_AXIS, WIDTH_AXIS), table.shape[-2:], strict=True)
    )
    if width not in rows:
        width = None

    copied = table.ndim == 3

    def local(table: Float[Array, "*s v d"], tokens: Int[Array, "b *L"]) -> Float[Array, "b *L D"]:
        table = table[0] if copied else table
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

    specs = (P(*[COPY_AXIS] * copied, vocabulary, width), P(rows))
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=specs, out_specs=P(rows), axis_names=set(free))(table, tokens)
