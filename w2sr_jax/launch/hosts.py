"""How many hosts a job has, and what is in each: a TPU slice or several, or nodes with GPUs or without."""

import dataclasses

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import topologies
from w2sr_jax.parallel.topologies import Slice

MOST = 100_000


@dataclasses.dataclass(frozen=True)
class Hosts:
    """`nodes` hosts in all. Of TPU slices, `slices` equal ones, each with `nodes / slices` hosts; `gpus` are those of a host."""

    nodes: int
    gpus: int = 0
    tpu: Slice | None = None
    slices: int = 1

    @property
    def per_slice(self) -> int:
        return self.nodes // self.slices

    @property
    def chips(self) -> int:
        """TPU chips of a host; 0 without TPUs."""
        return self.tpu.chips // self.per_slice if self.tpu else 0

    @property
    def devices(self) -> int:
        """Accelerators of all hosts, as jax counts them; 0 without any."""
        return self.nodes * (self.chips or self.gpus)

    @property
    def kind(self) -> str:
        """Of the devices, in words."""
        return f"TPU {self.tpu.chip.name}" if self.tpu else "GPU" if self.gpus else "CPU"

    @property
    def extra(self) -> str:
        """The extra of the package that brings the accelerator's jax; "" for CPUs."""
        return "tpu" if self.tpu else "cuda" if self.gpus else ""


def resolved(nodes: int | None, topology: str | None, slices: int, gpus: int) -> Hosts:
    """The hosts that options ask for. `UserError` where they contradict each other, or nothing says how many there are."""
    for option, value, least in (("--nodes", nodes, 1), ("--slices", slices, 1), ("--gpus", gpus, 0)):
        if value is not None and not least <= value <= MOST:
            raise UserError(f"{option} is {value:,}; it must lie in {least} … {MOST:,}")
    if topology is None:
        if nodes is None:
            raise UserError("how many hosts? Give --nodes N (with --gpus N per host), or --topology such as v5p:2x2x4 for TPUs")
        if slices > 1:
            raise UserError(f"--slices {slices} counts TPU slices; say which with --topology")
        return Hosts(nodes, gpus)
    if gpus:
        raise UserError(f"--gpus {gpus} and --topology {topology} ask for GPUs and for TPUs; leave one of them out")
    tpu = _slice(topology)
    return Hosts(_nodes(nodes, tpu, slices), 0, tpu, slices)


def _slice(topology: str) -> Slice:
    try:
        return topologies.named(topology)
    except UserError as error:
        raise UserError(f"{error}; GPUs are asked for with --nodes N --gpus N") from None


def _nodes(nodes: int | None, tpu: Slice, slices: int) -> int:
    """The number of hosts of TPU slices: the fewest, or those that were asked for where the slices may have them."""
    possible = [hosts * slices for hosts in tpu.hosts]
    if nodes is None or nodes in possible:
        return possible[0] if nodes is None else nodes
    what = f"{tpu} has" if slices == 1 else f"{slices} slices of {tpu} have"
    right = " or ".join(f"{count:,} host{'s'[: count > 1]}" for count in possible)
    if nodes < possible[0]:
        part = "the head host only" if nodes == 1 else f"{nodes:,} of them"
        raise UserError(f"{what} {right}, and --nodes {nodes:,} would run on {part}; leave --nodes out, or give {possible[0]:,}")
    raise UserError(f"{what} {right}, not {nodes:,}; leave --nodes out, or give another --topology or --slices")
