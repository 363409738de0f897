"""What a bit-exact claim is conditional on, besides versions: the machine as a program sees it."""

import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import w2sr_jax
from w2sr_jax.core import files
from w2sr_jax.graph import manifest
from w2sr_jax.graph.stage import Stage


def environment(stage: Stage) -> dict[str, str]:
    """This package's code, device kind and count, cores that this process may use, mesh, platform, flags: all as text."""
    import jax

    from w2sr_jax.parallel.placement import mesh_of

    devices = jax.devices()
    mesh = {} if stage.computes_on is None else mesh_of(stage.computes_on).shape
    return {
        "code": code(),
        "device": devices[0].device_kind,
        "devices": str(len(devices)),
        "processes": str(jax.process_count()),
        "mesh": ", ".join(f"{axis} {size}" for axis, size in mesh.items()),
        "cores": str(_cores()),
        "platform": f"{platform.system()} {platform.machine()}",
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "precision": f"{jax.config.jax_default_matmul_precision or 'default'}, x64 {bool(jax.config.jax_enable_x64)}",  # type: ignore[attr-defined]
    }


def conditions(stage: Stage) -> Mapping[str, str]:
    """All that must be the same for a stage's work to be the same to the bit."""
    return {**manifest.versions(), **environment(stage)}


@functools.cache
def code() -> str:
    """A digest of this package's own files."""
    root = Path(w2sr_jax.__file__).parent
    sources = sorted(path for path in root.rglob("*") if path.suffix in (".py", ".j2", ".css"))
    return files.digest_json({path.relative_to(root).as_posix(): files.digest_file(path) for path in sources})[:16]


def _cores() -> int:
    """XLA's CPU programs split sums by the number of threads, which follows from this."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
