"""Virtual devices: a CPU that counts as many, so that a rehearsal of an experiment has a mesh of the same shape."""

import contextlib
import os
from math import prod

from w2sr_jax.parallel.settings import Mesh

_FLAG = "xla_force_host_platform_device_count"


def devices(mesh: Mesh) -> int:
    """How many devices there are, once a CPU has been told to be as many as a mesh needs, if it still can be: before anything has
    asked for a device. Flags of the user's, and accelerators, win."""
    import jax

    count = prod(max(1, size) for size in (mesh.data, mesh.fsdp, mesh.tensor))
    if count > 1 and _FLAG not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # devices are in use already
            jax.config.update("jax_num_cpu_devices", count)
    return jax.device_count()
