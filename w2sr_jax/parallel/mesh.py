"""The (data, fsdp, tensor) mesh and the one table that says which logical axis is split over which of its axes."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from math import gcd, prod
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import Mesh as DeviceMesh
from jax.sharding import PartitionSpec as P

from w2sr_jax.core.axes import free_axes
from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import processes
from w2sr_jax.parallel.settings import Mesh

AXES = ("data", "fsdp", "tensor")
_FLAG = "xla_force_host_platform_device_count"

BATCH_AXES = ("data", "fsdp")
"""Mesh axes that rows are split over."""

RULES: Mapping[str, str | tuple[str, ...] | None] = {
    "batch": BATCH_AXES,
    "vocab": "tensor",
    "embed": "fsdp",
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_dim": None,
    "mlp": "tensor",
    "layers": None,
}
"""Logical axis → mesh axis (None: every device holds all of it)."""


def make_mesh(settings: Mesh, devices: Sequence[jax.Device] | None = None) -> DeviceMesh:
    """The mesh over `devices` (default: all); a smaller mesh takes the first ones. Raises UserError where they do not suffice.

    Within a TPU slice, any shape is laid over the physical links, the later axes over the closer ones. Several slices are split
    over data as far as it goes, since it exchanges the least, then over fsdp.
    """
    available = list(jax.devices()) if devices is None else list(devices)
    sizes = resolved(settings, len(available), _kind(available))
    if prod(sizes) < len(available) and jax.process_count() > 1:
        raise UserError(f"the mesh uses {prod(sizes)} of {len(available)} devices; with several processes it must use them all")
    return DeviceMesh(_arranged(sizes, available[: prod(sizes)]), AXES, axis_types=(AxisType.Auto,) * 3)


def resolved(settings: Mesh, count: int, kind: str) -> tuple[int, int, int]:
    """The sizes of a mesh over `count` devices of a kind; what is left open (0) is 1. `UserError` where they do not suffice, or
    where data is to be the rest and there is none."""
    sizes = [settings.data, settings.fsdp or 1, settings.tensor or 1]
    for name, size in zip(AXES, sizes, strict=True):
        if size < 1 and not (name == "data" and size == -1):
            raise UserError(f"mesh.{name} is {size}; it must be at least 1" + (" or -1 (the rest)" if name == "data" else ""))
    if sizes[0] == -1:
        sizes[0], rest = divmod(count, sizes[1] * sizes[2])
        if rest or not sizes[0]:
            raise UserError(f"mesh.fsdp × mesh.tensor = {sizes[1]} × {sizes[2]} does not divide the {count} {kind} devices")
    if prod(sizes) > count:
        shape = " × ".join(map(str, sizes))
        raise UserError(f"the mesh {shape} (data × fsdp × tensor) needs {prod(sizes)} devices; there are {count} ({kind})")
    return sizes[0], sizes[1], sizes[2]


def virtual_devices(mesh: Mesh) -> int:
    """Let jax see as many CPU devices as a mesh needs, in all processes together; the number of devices that there are then. It
    has no effect once a device is in use, where the user's XLA_FLAGS say how many, and on accelerators."""
    count = -(-prod(max(1, size) for size in (mesh.data, mesh.fsdp, mesh.tensor)) // processes.count())
    if count > 1 and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # devices are in use already
            jax.config.update("jax_num_cpu_devices", count)
    return jax.device_count()


def shardings(mesh: DeviceMesh, logical_axes: Any, shapes: Any) -> Any:
    """A NamedSharding for each array: `logical_axes` is the pytree of `shapes` with a tuple of axis names for each leaf.

    Raises UserError naming the array and the dimension where a dimension does not divide, and ValueError for a name without a
    rule or two axes of one array on the same mesh axis.
    """

    def one(path: Any, axes: tuple[str | None, ...], leaf: Any) -> NamedSharding:
        return _sharding(mesh, _name(path), axes, tuple(leaf.shape))

    return jax.tree_util.tree_map_with_path(one, logical_axes, shapes, is_leaf=lambda node: isinstance(node, tuple))


def resting(mesh: DeviceMesh, logical_axes: Any, shapes: Any) -> Any:
    """Where parameters lie that nothing is multiplied with as they are: as `shardings` says and, along the width, over data too
    where that divides it, so that no device holds a whole copy for nothing."""
    axes = dict(mesh.shape)

    def one(sharding: NamedSharding, leaf: Any) -> NamedSharding:
        spec = [
            ("fsdp", "data") if part == RULES["embed"] and size % (axes["fsdp"] * axes["data"]) == 0 else part
            for part, size in zip(sharding.spec, leaf.shape, strict=True)
        ]
        return NamedSharding(mesh, P(*spec))

    return jax.tree.map(one, shardings(mesh, logical_axes, shapes), shapes)


def here(mesh: DeviceMesh) -> DeviceMesh | AbstractMesh:
    """`mesh`; where a function is traced inside a `jax.shard_map` over some of its axes, the mesh of that context."""
    context = jax.sharding.get_abstract_mesh()
    return context if context.manual_axes else mesh


def batch_sharding(mesh: DeviceMesh | AbstractMesh) -> NamedSharding:
    """Rows split over data × fsdp, as far as no `jax.shard_map` around has split them; all later dimensions whole."""
    free = free_axes(mesh)
    return NamedSharding(mesh, P(tuple(axis for axis in BATCH_AXES if axis in free)))


def replicated(mesh: DeviceMesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def batch_divisor(mesh: DeviceMesh) -> int:
    """What the number of rows in a batch must be a multiple of."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def describe(shapes: Any, shardings: Any) -> str:
    """A plain table of every array: name, shape, type, how it is split, bytes per device; the total last. Allocates nothing."""
    rows = [("parameter", "shape", "type", "split over", "bytes/device")]
    total = 0
    for (path, leaf), sharding in zip(jax.tree_util.tree_leaves_with_path(shapes), jax.tree.leaves(shardings), strict=True):
        size = prod(sharding.shard_shape(tuple(leaf.shape))) * np.dtype(leaf.dtype).itemsize
        total += size
        split = ", ".join("+".join(part) if isinstance(part, tuple) else part or "–" for part in sharding.spec) or "–"
        rows.append((_name(path), "×".join(map(str, leaf.shape)) or "scalar", str(leaf.dtype), split, f"{size:,}"))
    rows.append(("total", "", "", "", f"{total:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths[:4], strict=True)), row[4].rjust(widths[4])])
        for row in rows
    )


def _arranged(sizes: Sequence[int], devices: Sequence[jax.Device]) -> np.ndarray:
    """[data, fsdp, tensor] devices."""
    slices: dict[Any, int] = {}
    for device in devices:
        index = getattr(device, "slice_index", 0)
        slices[index] = slices.get(index, 0) + 1
    # A part of a slice need be no box of devices, nor hold as many of each slice; what has no better order is taken as it comes.
    with contextlib.suppress(ValueError, AssertionError, NotImplementedError, TypeError):
        if len(slices) == 1:
            return mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
        if len(set(slices.values())) == 1:
            inner, outer, left = [], [], len(slices)
            for size in sizes:
                outer.append(gcd(size, left))
                inner.append(size // outer[-1])
                left //= outer[-1]
            return mesh_utils.create_hybrid_device_mesh(inner, outer, devices, allow_split_physical_axes=True)
    return np.asarray(devices).reshape(sizes)


def _sharding(mesh: DeviceMesh, name: str, axes: tuple[str | None, ...], shape: tuple[int, ...]) -> NamedSharding:
    if len(axes) != len(shape):
        raise ValueError(f"{name} has {len(shape)} dimensions, but {len(axes)} axis names: {axes}")
    spec: list[str | tuple[str, ...] | None] = []
    used: dict[str, str] = {}
    for axis, size in zip(axes, shape, strict=True):
        if axis is not None and axis not in RULES:
            raise ValueError(f"{name}: no sharding rule for the axis {axis!r}; there are rules for {', '.join(RULES)}")
        rule = None if axis is None else RULES[axis]
        parts = (rule,) if isinstance(rule, str) else rule or ()
        for part in parts:
            if part in used:
                raise ValueError(f"{name}: the axes {used[part]!r} and {axis!r} are both split over {part!r}")
            used[part] = str(axis)
        ways = prod(mesh.shape[part] for part in parts)
        if size % ways:
            over = " × ".join(f"mesh.{part} = {mesh.shape[part]}" for part in parts)
            raise UserError(f"{name}: its dimension {axis!r} of size {size} does not divide over {over}")
        spec.append(rule)
    return NamedSharding(mesh, P(*spec))


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _kind(devices: Sequence[jax.Device]) -> str:
    return devices[0].platform if devices else "no"
