"""Virtual devices: one CPU as several devices, so that a rehearsal of an experiment has a mesh of the same shape."""

import contextlib
import os
from math import prod

from w2sr_jax.parallel.settings import Mesh

_FLAG = "xla_force_host_platform_device_count"


def devices(mesh: Mesh) -> int:
    """Let jax see as many CPU devices as a mesh needs; the number of devices that there are then. It has no effect once a device
    is in use, where the user's XLA_FLAGS say how many, and on accelerators."""
    import jax

    count = prod(max(1, size) for size in (mesh.data, mesh.fsdp, mesh.tensor))
    if count > 1 and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # devices are in use already
            jax.config.update("jax_num_cpu_devices", count)
    return jax.device_count()
