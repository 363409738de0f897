"""What a bit-exact claim is conditional on, besides versions: the machine as a program sees it."""

import os
import platform

import jax

from w2sr_jax.experiment import Experiment
from w2sr_jax.ladder import models


def environment(experiment: Experiment) -> dict[str, str]:
    """Device kind and count, cores that this process may use, mesh, platform, flags: all as text."""
    devices = jax.devices()
    mesh = models.device_mesh(experiment)
    return {
        "device": devices[0].device_kind,
        "devices": str(len(devices)),
        "processes": str(jax.process_count()),
        "mesh": ", ".join(f"{axis} {size}" for axis, size in mesh.shape.items()),
        "cores": str(_cores()),
        "platform": f"{platform.system()} {platform.machine()}",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "precision": f"{jax.config.jax_default_matmul_precision or 'default'}, x64 {bool(jax.config.jax_enable_x64)}",  # type: ignore[attr-defined]
    }


def _cores() -> int:
    """XLA's CPU programs split sums by the number of threads, which follows from this."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
