"""Which micro-batches and which rematerialisation fit, by arithmetic that one compiled step corrects."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from w2sr_jax.models.config import RematKind
from w2sr_jax.planning import memory
from w2sr_jax.planning.programs import TrainStep
from w2sr_jax.preflight.meshes import Shape

LIMIT = 0.95
"""The part of a device's memory that a program may take."""


@dataclass(frozen=True)
class Fit:
    """`rows`: most rows of a micro-batch, over all devices, with this rematerialisation; 0: not even one for each group of
    devices."""

    remat: RematKind
    rows: int


def fits(step: TrainStep, shape: Shape, room: float, beside: int, surplus: int = 0) -> list[Fit]:
    """For every rematerialisation, the least computation first, how many rows fit into `room` bytes. `surplus` is what a compiled
    step takes more than the arithmetic says."""
    return [Fit(remat, _most(step, remat, shape, room - surplus, beside)) for remat in memory.remats()]


def cheapest(listed: Sequence[Fit], rows: int) -> RematKind | None:
    """The rematerialisation with the least computation that `rows` fit with; None: none."""
    return next((fit.remat for fit in listed if fit.rows >= rows), None)


def taken(step: TrainStep, remat: RematKind, rows: int, shape: Shape, beside: int) -> int:
    """Bytes on one device with a micro-batch of `rows` over all devices."""
    batching = dataclasses.replace(step.training.batching, rows=rows * step.training.accumulation)
    model = dataclasses.replace(step.model, remat=remat)
    how = dataclasses.replace(step.training, batching=batching)
    return dataclasses.replace(step, model=model, training=how).memory(shape, beside).total


def _most(step: TrainStep, remat: RematKind, shape: Shape, room: float, beside: int) -> int:
    """Bytes are a line in the rows once a block of the loss is full, so two points give the rest."""
    ways = shape.ways
    full = max(1, -(-step.objective.block // step.training.batching.length))  # rows of one device that fill a block
    first = taken(step, remat, full * ways, shape, beside)
    slope = taken(step, remat, (full + 1) * ways, shape, beside) - first
    each = full + int((room - first) // max(slope, 1))
    while each > 0 and taken(step, remat, each * ways, shape, beside) > room:
        each -= 1
    return max(0, each) * ways
