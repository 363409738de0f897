"""How tokens are split into blocks and over devices, and how what the devices have is added up: what everything that goes through
the output matrix block by block shares."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from w2sr_jax.core.axes import free_axes
from w2sr_jax.core.errors import UserError

TOKEN_AXES = ("data", "fsdp")
"""Mesh axes that the tokens are split over."""

WIDTH_AXIS = "fsdp"
"""Mesh axis that the output matrix's gradient is split over, by its rows, as the matrix is."""

COPY_AXIS = "data"
"""Mesh axis whose devices hold a copy of the output matrix each."""


def check(tokens: int, block: int, mesh: Mesh | AbstractMesh | None) -> None:
    """`UserError` where a number of tokens cannot be gone through in such blocks on the mesh."""
    if block < 1:
        raise UserError(f"the loss is evaluated in blocks of {block} tokens; a block has at least 1")
    if tokens % _ways(mesh):
        raise UserError(f"{tokens} tokens cannot be split evenly over the {_ways(mesh)} devices of {TOKEN_AXES}")


def token_axes(mesh: Mesh | AbstractMesh | None) -> tuple[str, ...]:
    """The axes that the tokens here are split over."""
    return () if mesh is None else tuple(axis for axis, ways in free_axes(mesh).items() if axis in TOKEN_AXES and ways > 1)


def on_devices(local: Callable[..., Any], mesh: Mesh | AbstractMesh | None, copied: bool, out_specs: Any) -> Callable[..., Any]:
    """`local(rows, output, common)` on every device's own tokens, with its own copy of the output matrix; the mesh's other axes
    are left to the compiler. `rows` is a pytree of arrays [N, …], `common` is the same on all devices."""
    axes = token_axes(mesh)

    def own(rows: Any, output: Array, common: Any) -> Any:
        return local(rows, output[0] if copied else output, common)

    if not axes:
        return own
    specs = (P(axes), P(COPY_AXIS) if copied else P(), P())
    return jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=out_specs, axis_names=set(axes), check_vma=False)


def summed_matrix(
    output: Float[Array, "*S D V"], mesh: Mesh | AbstractMesh | None, copied: bool
) -> tuple[Callable[[Array], Array], P]:
    """How the gradients of the output matrix of several devices are added up, and how the sum is split: over `WIDTH_AXIS`, where
    it divides the width. Those of its copies are not added up."""
    axes = token_axes(mesh)
    scattered = WIDTH_AXIS in axes and output.shape[-2] % mesh.shape[WIDTH_AXIS] == 0  # type: ignore[union-attr]
    others = tuple(axis for axis in axes if not ((scattered and axis == WIDTH_AXIS) or (copied and axis == COPY_AXIS)))

    def summed(part: Float[Array, "D V"]) -> Array:
        part = _scattered(part) if scattered else part
        part = jax.lax.psum(part, others) if others else part
        # TPU compilers fail on a sum over devices in the loop of micro-batches whose result is converted before it is added up.
        part = jax.lax.optimization_barrier(part) if scattered else part
        return part[None] if copied else part

    width = WIDTH_AXIS if scattered else None
    return summed, P(COPY_AXIS if COPY_AXIS in axes else None, width) if copied else P(width)


def split(rows: Any, block: int, mesh: Mesh | AbstractMesh | None) -> Any:
    """K equal blocks of one device's tokens, as few as can be, of at most `block` tokens over all devices; padded with zeros.
    Every leaf [N, …] becomes [K, T, …]."""
    tokens = jax.tree.leaves(rows)[0].shape[0]
    count = max(1, math.ceil(tokens / max(1, block // _shards(mesh))))
    each = math.ceil(tokens / count)

    def one(leaf: Array) -> Array:
        padded = jnp.pad(leaf, [(0, count * each - tokens)] + [(0, 0)] * (leaf.ndim - 1))
        # Every count-th token: where the compiler splits the tokens (no mesh given), each device has its share of each block.
        return padded.reshape(each, count, *leaf.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(one, rows)


def join(blocks: Float[Array, "K T *C"], tokens: int) -> Float[Array, "N *C"]:
    """The inverse of `split`."""
    return blocks.swapaxes(0, 1).reshape(-1, *blocks.shape[2:])[:tokens]


def _shards(mesh: Mesh | AbstractMesh | None) -> int:
    """Devices that share the tokens, those of a `jax.shard_map` around included."""
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in TOKEN_AXES)


def _ways(mesh: Mesh | AbstractMesh | None) -> int:
    return 1 if mesh is None else math.prod(mesh.shape[axis] for axis in token_axes(mesh))


def _scattered(part: Float[Array, "D V"]) -> Float[Array, "d V"]:
    """The sum over `WIDTH_AXIS` of the own rows. Axes that are left to the compiler split the vocabulary; they are named here,
    or it would gather the whole matrix for this operation."""
    here = jax.sharding.get_abstract_mesh()
    left = {axis: ways for axis, ways in free_axes(here).items() if ways > 1}
    columns = P(None, tuple(left) if part.shape[1] % math.prod(left.values()) == 0 else None)
    scatter = partial(jax.lax.psum_scatter, axis_name=WIDTH_AXIS, scatter_dimension=0, tiled=True)
    if not left:
        return scatter(part)
    return jax.shard_map(scatter, mesh=here, in_specs=columns, out_specs=columns, axis_names=set(left), check_vma=False)(part)
