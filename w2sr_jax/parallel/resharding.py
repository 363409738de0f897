"""Arrays that lie on the devices of all processes, copied onto each process's own devices: from device to device, never by way of
a host's memory."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding

from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.settings import Mesh


def own_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """The mesh of this process's devices alone, split over tensor as `mesh` is, and over fsdp where it is at all; what is left
    are copies."""
    local, tensor = jax.local_devices(), mesh.shape["tensor"]
    ways = len(local) // tensor
    return meshes.make_mesh(Mesh(fsdp=ways if mesh.shape["fsdp"] > 1 else 1, tensor=tensor), local)


def onto_own_devices(tree: Any, logical_axes: Any, own: jax.sharding.Mesh) -> Any:
    """Arrays of a mesh that spans all processes, on this process's mesh `own`. Every process holds a whole copy then, split over
    its devices as `logical_axes` says. All processes must call it, with meshes of one shape."""
    every = _every_process(own)
    spread = jax.device_put(tree, meshes.shardings(every, logical_axes, tree))
    return jax.tree.map(_local, spread, meshes.shardings(own, logical_axes, tree))


def _every_process(own: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """A mesh of all devices whose data axis goes over the processes first, each with a mesh as `own`."""
    order = [device.id for device in jax.local_devices()]
    slots = [order.index(device.id) for device in own.devices.flat]
    devices = []
    for process in range(jax.process_count()):
        local = [device for device in jax.devices() if device.process_index == process]
        devices.append(np.asarray([local[slot] for slot in slots], dtype=object).reshape(own.devices.shape))
    return jax.sharding.Mesh(np.concatenate(devices), own.axis_names, axis_types=(AxisType.Auto,) * len(own.axis_names))


def _local(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    by_device = {shard.device: shard.data for shard in array.addressable_shards}
    parts = [by_device[device] for device in sharding.addressable_devices_indices_map(array.shape)]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)
