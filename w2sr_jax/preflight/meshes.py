"""Every use of a model that a run has, with the mesh that it is placed on: is it there, do models and batches divide over it?"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import AbstractMesh

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment, TrainingStage
from w2sr_jax.graph.stage import Stage
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import AXES, shardings
from w2sr_jax.parallel.placement import Placement, mesh_of
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject, where_of
from w2sr_jax.stages.evaluate import Evaluate
from w2sr_jax.stages.plan import ExperimentPlan
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Train
from w2sr_jax.training.settings import Training


class Shape(NamedTuple):
    """The sizes of a mesh that need not exist here."""

    data: int
    fsdp: int
    tensor: int

    @property
    def ways(self) -> int:
        """What the number of rows in a batch must be a multiple of."""
        return self.data * self.fsdp

    @property
    def devices(self) -> int:
        return prod(self)

    def abstract(self) -> Any:
        return AbstractMesh(tuple(self), AXES)

    def __str__(self) -> str:
        return " × ".join(map(str, self))


def shape(placed: Placement | Mesh) -> Shape:
    """The mesh as it will be here or, where it cannot be, as small as its settings allow."""
    try:
        return Shape(*(mesh_of(placed).shape[axis] for axis in AXES))
    except UserError:
        asked = placed if isinstance(placed, Mesh) else placed.asked
        return Shape(*(max(1, size) for size in (asked.data, asked.fsdp, asked.tensor)))


class Use(NamedTuple):
    """A use of a model: the stage, where the model's settings stand, its architecture, and where it is placed. `training` is
    there where it reads batches of that training, of as many rows as that says, `batch`, with where it is set, where it decodes
    so many rows."""

    stage: Stage
    where: str
    config: ModelConfig
    placed: Placement
    training: Training | None = None
    batch: tuple[str, int] | None = None


def uses(plan: ExperimentPlan) -> Iterator[Use]:
    """All uses of models."""
    experiment = plan.experiment
    general = ("decoding", experiment.decoding.batch)
    for stage in plan:
        if isinstance(stage, Train):
            where, training = where_of(experiment, stage.model), stage.recipe.training
            draws_own = isinstance(stage.recipe, TrainingStage) and stage.recipe.draws_own  # whose rows are rounded up
            yield Use(stage, where, stage.model.config, stage.mesh, None if draws_own else training)
            if training is not None and training.reference_top and stage.reference_mesh is not None:
                yield Use(stage, where, stage.model.config, stage.reference_mesh, training)
            if stage.sampling is not None and stage.probe_mesh is not None:
                yield Use(stage, where, stage.model.config, stage.probe_mesh, None, general)
        elif isinstance(stage, Traces) and stage.writer is not None and stage.mesh is not None:
            where, decoding = where_of(experiment, stage.writer.model), stage.teacher.decoding
            index = experiment.teachers.index(stage.teacher)
            named = None if decoding is None else (f"teachers.{index} ({stage.teacher.name}): decoding", decoding.batch)
            yield Use(stage, where, stage.writer.model.config, stage.mesh, None, named)
        elif isinstance(stage, Evaluate):
            yield Use(stage, where_of(experiment, stage.training.model), stage.model.config, stage.mesh, None, general)


def due(subject: Subject) -> list[Use]:
    """Those that are still to be computed."""
    return [use for use in uses(subject.stages) if use.stage.name not in subject.settled]


def mesh(subject: Subject, findings: Findings) -> None:
    """Are there devices enough for every use of a model?"""
    devices = jax.devices()
    sizes: dict[Shape, list[str]] = {}
    for use in due(subject):
        with findings.refusing("mesh"):
            mesh_of(use.placed)
        sizes.setdefault(shape(use.placed), []).append(f"{use.placed.use} of {use.where}")
    for wanted, names in sizes.items():
        whose = "" if len(sizes) == 1 else f": {', '.join(dict.fromkeys(names))}"
        findings.see(f"{wanted} (data × fsdp × tensor) of {len(devices)} × {devices[0].device_kind}{whose}")
        if wanted.devices < len(devices):
            about = "" if len(sizes) == 1 else f" on {wanted}"
            findings.remark(
                f"{len(devices) - wanted.devices} of {len(devices)} devices stay idle{about}; with mesh.data -1 all are used"
            )


def refusals(experiment: Experiment, placed: Callable[[Placement], Shape]) -> list[str]:
    """Why the models and batches of an experiment do not divide over meshes that need not be here. A vocabulary that is the
    tokenizer's is left out of account."""
    subject, findings = Subject(experiment, Path()), Findings()
    for use in uses(subject.stages):
        wanted = placed(use.placed)
        divide(findings, use, dataclasses.replace(use.config, vocab_size=_vocabulary(use.config, wanted)), wanted)
        rows(findings, use, wanted)
    return list(dict.fromkeys(findings.refused))


def divide(findings: Findings, use: Use, config: ModelConfig, wanted: Shape) -> None:
    """Do the model's dimensions divide?"""
    with findings.refusing(f"{use.placed.where or use.where}: model"):
        shardings(wanted.abstract(), transformer.logical_axes(config), transformer.shapes(config))


def rows(findings: Findings, use: Use, wanted: Shape) -> None:
    """Do its batches divide?"""
    where = f"{use.placed.where}: " if use.placed.where else ""
    if use.training is not None:
        count, accumulation = use.training.batching.rows, use.training.accumulation
        if count % (accumulation * wanted.ways):
            findings.refuse(
                f"{where or f'{use.where}: '}training.batching.rows is {count}; it must be a multiple of training.accumulation × "
                f"mesh.data × mesh.fsdp = {accumulation} × {wanted.data} × {wanted.fsdp} = {accumulation * wanted.ways}"
            )
    if use.batch is not None and use.batch[1] % wanted.ways:
        findings.refuse(
            f"{where}{use.batch[0]}.batch is {use.batch[1]}; it must be a multiple of mesh.data × mesh.fsdp = {wanted.data} × "
            f"{wanted.fsdp} = {wanted.ways}"
        )


def weights(uses: Sequence[Use], limit: int) -> Iterator[str]:
    """Why models that decode do not fit into devices of so many bytes, their weights alone."""
    for use in uses:
        if use.batch is None:
            continue
        wanted = shape(use.placed)
        size = use.placed.need.bytes // (wanted.fsdp * wanted.tensor)
        if limit and size > limit:
            yield (
                f"{use.stage.name} needs {sentences.size(size)} on each device for the weights that it decodes with alone, and "
                f"one has {sentences.size(limit)}; split them over more devices (meshes.decoding.tensor of "
                f"{use.where}, or fsdp where heads do not divide further)"
            )


def _vocabulary(config: ModelConfig, wanted: Shape) -> int:
    return config.vocab_size or math.lcm(8, wanted.tensor)
