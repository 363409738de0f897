"""Which mesh a use of a model gets: what the settings say and, where they leave it open, what follows from the model's size and
the devices.

A mesh is a matter of placement, as the kind and number of devices are: it is no part of what a stage is, and stages keep it in a
field that does not count (see `graph.stage`).
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax
from jax.sharding import Mesh as DeviceMesh

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel.accelerators import GIB, kind_of
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh

ROOM = 0.5
"""The part of a device's memory that a model may take by itself, where its mesh is derived."""


class Split(NamedTuple):
    """An axis of a mesh that a model may be split over, and the sizes of the model that it must divide."""

    axis: Literal["fsdp", "tensor"]
    sizes: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Need:
    """What a use of a model takes: bytes that lie on the devices all the while, were they one device, and the axes that they are
    split over, the better one first."""

    bytes: int
    splits: tuple[Split, ...]


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a use of a model is computed. `asked` is what the settings say at `where`; of the devices it takes those that `among`
    takes, all by default."""

    use: str
    asked: Mesh
    where: str
    need: Need
    among: Mesh = Mesh()


def resolve(placement: Placement, devices: int, memory: int) -> Mesh:
    """The mesh of a use on so many devices of `memory` bytes (0: not known), with no size left open but `data`, where that is -1.

    What is asked for stays. An axis that is left open (0) is 1 where the model, with what else is split over devices, takes at
    most half of a device's memory, or where that is not known. Where it does not, the first axis of `need.splits` that is left
    open gets the smallest size that is enough, among those that divide the devices and the model; where none is, the largest of
    them, and the next axis likewise. The devices that are left are copies of the model.
    """
    asked, among = placement.asked, placement.among
    if among.data != -1:
        devices = min(devices, max(1, among.data) * max(1, among.fsdp) * max(1, among.tensor))
    sizes = {"fsdp": asked.fsdp or 1, "tensor": asked.tensor or 1}
    each = devices if asked.data == -1 else devices // max(1, asked.data)
    limit = memory * ROOM if memory else float("inf")
    for split in placement.need.splits:
        others = sizes["fsdp"] * sizes["tensor"]
        if getattr(asked, split.axis) or placement.need.bytes <= limit * others:
            continue
        ways = list(_ways(split.sizes, each, others, asked.data == -1))
        sizes[split.axis] = next((one for one in ways if placement.need.bytes <= limit * one * others), ways[-1] if ways else 1)
    data = asked.data
    if data == -1 and among.data != -1:
        data = max(1, devices // (sizes["fsdp"] * sizes["tensor"]))
    return Mesh(data, **sizes)


def _ways(sizes: Sequence[int], devices: int, others: int, every: bool) -> Iterator[int]:
    """The sizes that an axis may have beside `others` devices: what divides the model and, where `every` device takes part, the
    devices."""
    for ways in range(1, devices // max(1, others) + 1):
        if not any(size % ways for size in sizes) and (not every or devices % (ways * others) == 0):
            yield ways


def mesh_of(placed: Placement | Mesh, devices: Sequence[jax.Device] | None = None) -> DeviceMesh:
    """The mesh of a use on these devices (default: all). `UserError` where it does not fit them, saying whose mesh it is."""
    if isinstance(placed, Mesh):
        return make_mesh(placed, devices)
    every = jax.devices() if devices is None else devices
    try:
        return make_mesh(resolve(placed, len(every), device_memory(every[0])), every)
    except UserError as error:
        raise UserError(f"{placed.where}: {error}" if placed.where else str(error)) from None


def device_memory(device: jax.Device) -> int:
    """Bytes of one device, the same number on every process: the maker's where the kind is in the list, else what it says of
    itself, in whole GiB; 0 for CPUs, which share their host's memory, and where nothing is known."""
    listed = kind_of(device.device_kind)
    if listed is not None:
        return listed.memory
    try:
        stats = jax.local_devices()[0].memory_stats() or {} if device.platform != "cpu" else {}
    except (RuntimeError, NotImplementedError, AttributeError):
        stats = {}
    return int(stats.get("bytes_limit", 0)) // GIB * GIB
