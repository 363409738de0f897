"""The miniature of the quickstart with batches that divide over eight devices, laid over a mesh of them."""

import dataclasses
import sys
from pathlib import Path

from w2sr_jax.batches.settings import Batching
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.settings import Training

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "configs"))

import quickstart

ROWS = 8


def experiment() -> Experiment:
    small = quickstart.miniature()
    teachers = tuple(
        dataclasses.replace(each, training=_wider(each.training)) if isinstance(each, ModelTeacher) else each
        for each in small.teachers
    )
    return dataclasses.replace(
        small, name="ladder", teachers=teachers, rungs=tuple(map(_rung, small.rungs)), mesh=Mesh(data=2, fsdp=4)
    )


def _rung(rung: Rung) -> Rung:
    start = rung.start
    if start.training is not None:
        start = dataclasses.replace(start, training=_wider(start.training))  # type: ignore[call-arg]
    return dataclasses.replace(rung, start=start, training=_wider(rung.training))


def _wider(training: Training) -> Training:
    return dataclasses.replace(training, batching=Batching(length=training.batching.length, rows=ROWS), log_every=1)
