"""What a topology such as `v5p:2x2x4` or `h100:8` has of accelerators. No jax."""

import dataclasses
import difflib

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import topologies
from w2sr_jax.parallel.accelerators import ACCELERATORS, Accelerator

MOST_GPUS = 100_000


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that a run is given."""

    accelerator: Accelerator
    devices: int
    hosts: int
    name: str
    """As the user would write it: `v5p:2x2x4`, `h100:8`."""


def named(text: str) -> Topology:
    """The topology of a name: a TPU slice as CHIP:SHAPE, GPUs as KIND:COUNT. `UserError` where there is none."""
    kind, _, arrangement = text.partition(":")
    accelerator = ACCELERATORS.get(kind)
    if accelerator is None:
        near = difflib.get_close_matches(kind, ACCELERATORS, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"the topology {sentences.value(text)} is of no accelerator in the list; {hint}{listed()}")
    if accelerator.platform == "tpu":
        tpu = topologies.named(text)
        return Topology(accelerator, tpu.chips, tpu.hosts[0], str(tpu))
    if not arrangement.isdecimal() or not 1 <= int(arrangement[:9]) <= MOST_GPUS:
        raise UserError(f"the topology {sentences.value(text)} must say how many GPUs there are, such as {kind}:8")
    count = int(arrangement)
    return Topology(accelerator, count, -(-count // accelerator.per_host), f"{kind}:{count}")


def listed() -> str:
    """The topologies that there are, in words."""
    tpus, gpus = (", ".join(a.name for a in ACCELERATORS.values() if a.platform == kind) for kind in ("tpu", "gpu"))
    return f"there are TPU slices ({tpus}; such as v5p:2x2x4) and GPUs ({gpus}; such as h100:8)"
