"""Programs compiled for devices that need not be here, and what the compiler says of them."""

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import topologies as slices
from w2sr_jax.parallel.accelerators import kind_of
from w2sr_jax.parallel.collectives import collectives
from w2sr_jax.planning.hardware import Topology

QUIET = {
    "TPU_SKIP_MDS_QUERY": "1",  # no slice of a cloud is looked for
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # the device is only described, so another process may do so too
}


@dataclass(frozen=True)
class Targets:
    """Devices to compile for; `devices` is None where there are none, for the reason `why`."""

    devices: Sequence[Any] | None
    why: str = ""


@dataclass(frozen=True)
class Figures:
    """What the compiler says of a program, in bytes on one device."""

    arguments: int
    results: int
    """That do not take the memory of arguments."""
    temporaries: int
    code: int
    exchanged: Mapping[str, int]
    """What one device receives in one run of the program, by the kind of the collective operation."""

    @property
    def total(self) -> int:
        return self.arguments + self.results + self.temporaries + self.code


@dataclass(frozen=True)
class Refused:
    """The compiler gave no program, for this reason."""

    why: str


def targets(topology: Topology) -> Targets:
    """The devices of a topology: a TPU's from libtpu where it is installed, a GPU's where they are in this machine."""
    if topology.accelerator.platform == "gpu":
        return _local(topology)
    if importlib.util.find_spec("libtpu") is None:
        return Targets(None, "libtpu is not installed (the extra tpu has it)")
    os.environ.update(QUIET, TPU_ACCELERATOR_TYPE=slices.named(topology.name).accelerator_type)
    from jax.experimental import topologies

    try:
        return Targets(topologies.get_topology_desc(platform="tpu", topology_name=topology.name).devices)
    except Exception as error:  # libtpu's own words, of a version that does not have it, or another process that holds it
        return Targets(None, f"libtpu does not describe {topology.name}: {sentences.cause(error)}")


def _local(topology: Topology) -> Targets:
    devices = jax.devices() if jax.default_backend() == "gpu" else []
    there = [device for device in devices if kind_of(device.device_kind) == topology.accelerator]
    if len(there) < topology.devices:
        return Targets(None, f"this machine has {len(there) or 'none'} of its {topology.devices} GPUs")
    return Targets(there[: topology.devices])


def figures(compiled: Any) -> Figures:
    """What a compiled program (`jax.stages.Compiled`) takes and exchanges."""
    stats = compiled.memory_analysis()
    return Figures(
        arguments=stats.argument_size_in_bytes,
        results=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        code=stats.generated_code_size_in_bytes,
        exchanged=exchanged(compiled.as_text()),
    )


def exchanged(hlo: str) -> dict[str, int]:
    """Bytes that one device receives in one run of a compiled program, its own parts included, by kind of collective operation;
    loops count as often as they run, as far as the text says."""
    total = Counter[str]()
    for each in collectives(hlo):
        total[each.kind] += each.bytes * each.times
    return dict(sorted(total.items()))


def refusal(error: Exception) -> Refused:
    """Why the compiler gave no program: for want of memory, or by a fault of its own. Other errors are raised."""
    words = " ".join(str(error).split())
    if isinstance(error, UserError):
        return Refused(str(error))
    if "RESOURCE_EXHAUSTED" not in words and "Ran out of memory" not in words:
        if not isinstance(error, jax.errors.JaxRuntimeError):
            raise error
        return Refused(f"the compiler failed by a fault of its own: {sentences.shown(words, 200)}")
    used = re.search(r"Used ([\d.]+[KMGT]?) of ([\d.]+[KMGT]?) hbm", words)
    if used:
        return Refused(f"it needs {used[1]}iB of {used[2]}iB")
    return Refused(sentences.shown(words, 200))
