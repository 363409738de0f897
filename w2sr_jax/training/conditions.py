"""What a training is computed on, in words."""

from typing import Any

import jax


def conditions(params: Any) -> str:
    """Processes, devices and mesh of parameters, which its last bits depend on; a sitting may have others than the last."""
    leaf = next((leaf for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array)), None)
    mesh = getattr(getattr(leaf, "sharding", None), "mesh", None)
    axes = "" if mesh is None else ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    count, devices = jax.process_count(), jax.devices()
    some = f"{count} process{'es' if count > 1 else ''}, {len(devices)} × {devices[0].device_kind}"
    return f"{some}, mesh {axes}" if axes else some
