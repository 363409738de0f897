"""Arrays that lie on the devices of all processes, copied onto each process's own devices: from device to device, never by way of
a host's memory."""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding

from w2sr_jax.parallel import mesh as meshes
from w2sr_jax.parallel.settings import Mesh


def copies_apart(mesh: jax.sharding.Mesh) -> bool:
    """Whether the devices of each process can hold copies of a model as `mesh` splits it: not where one copy spans processes."""
    return len(jax.local_devices()) % (mesh.shape["fsdp"] * mesh.shape["tensor"]) == 0


def own_mesh(mesh: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """The mesh of this process's devices alone, each copy split as on `mesh`."""
    return meshes.make_mesh(Mesh(fsdp=mesh.shape["fsdp"], tensor=mesh.shape["tensor"]), jax.local_devices())


def onto_own_devices(tree: Any, logical_axes: Any, own: jax.sharding.Mesh) -> Any:
    """Arrays of a mesh that spans all processes, on this process's mesh `own`. Every process holds a whole copy then, spread over
    its devices (`mesh.resting`). All processes must call it, with meshes of one shape."""
    mine = meshes.resting(own, logical_axes, tree)
    every = _every_process(own)
    spread = jax.device_put(tree, jax.tree.map(lambda sharding: NamedSharding(every, sharding.spec), mine))
    return jax.tree.map(_local, spread, mine)


def _every_process(own: jax.sharding.Mesh) -> jax.sharding.Mesh:
    """A mesh of all devices whose first axis goes over the processes, each with a mesh as `own`."""
    order = [device.id for device in jax.local_devices()]
    slots = [order.index(device.id) for device in own.devices.flat]
    devices = []
    for process in range(jax.process_count()):
        local = [device for device in jax.devices() if device.process_index == process]
        devices.append(np.asarray([local[slot] for slot in slots], dtype=object).reshape(own.devices.shape))
    axes = ("process", *own.axis_names)
    return jax.sharding.Mesh(np.stack(devices), axes, axis_types=(AxisType.Auto,) * len(axes))


def _local(array: jax.Array, sharding: NamedSharding) -> jax.Array:
    by_device = {shard.device: shard.data for shard in array.addressable_shards}
    parts = [by_device[device] for device in sharding.addressable_devices_indices_map(array.shape)]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, parts)
