"""Whether models, batches and devices fit each other: on shapes alone, nothing is compiled and no parameter is made."""

import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import jax
import numpy as np

from w2sr_jax.core import hub, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import BASE
from w2sr_jax.experiment.policy import OwnAnswers
from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.models import attention, grow, lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import shardings
from w2sr_jax.preflight import meshes
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.meshes import Shape, shape
from w2sr_jax.preflight.subject import Subject, Trained, where_of
from w2sr_jax.stages import models
from w2sr_jax.stages import weights as stored

_MOMENTS = 2  # of AdamW


def architectures(subject: Subject, findings: Findings) -> None:
    """Do the models' dimensions divide over their meshes? Is there a row for every token?"""
    wheres: dict[str, list[str]] = {}
    for where, config in _all(subject):
        about = f"{config.parameters():,} parameters (width {config.width}, {config.layers} layers, {config.vocab_size:,} tokens)"
        wheres.setdefault(about, []).append(where)
        with findings.refusing(where):
            if subject.renderer is not None:
                subject.renderer.check_vocabulary(config.vocab_size)
            elif config.vocab_size < subject.experiment.tokenizer.least_vocabulary():
                kind, least = type(subject.experiment.tokenizer).__name__, subject.experiment.tokenizer.least_vocabulary()
                raise UserError(
                    f"model.vocab_size is {config.vocab_size}, but a {kind} has at least {least} tokens; leave it 0, "
                    "and it is the tokenizer's"
                )
    for use in meshes.due(subject):
        meshes.divide(findings, use, subject.sized(use.config), shape(use.placed))
    for about, names in wheres.items():
        findings.see(f"{', '.join(names)}: {about}")


def memory(subject: Subject, findings: Findings) -> None:
    """What parameters, gradients and the optimizer take on each device, without what a step computes between them."""
    limit = _device_memory()
    for words in meshes.weights(meshes.due(subject), limit):
        findings.refuse(words)
    largest: tuple[int, str] = (0, "")
    for trained in subject.trainings:
        stage = subject.stages.trainings[trained.model.name]
        others = [subject.sized(other.model.config) for other in stage.others]
        try:
            size = training_bytes(trained, subject.sized(trained.model.config), shape(stage.mesh), others)
        except UserError:  # said of the models
            continue
        largest = max(largest, (size, trained.model.name))
    if not largest[1]:
        return
    size, name = largest
    room = f" of {sentences.size(limit)}" if limit else ""
    findings.see(
        f"{sentences.size(size)}{room} on each device for parameters, gradients and optimizer of "
        f"{name}, the largest; a step needs more"
    )
    if limit and size > limit:
        findings.refuse(
            f"{name} needs {sentences.size(size)} on each device for parameters, gradients and optimizer alone, and one has "
            f"{sentences.size(limit)}; split it over more devices (mesh.fsdp), train adapters (training.lora.rank), or keep the "
            "moments in bfloat16 (training.moments)"
        )
    elif limit and size > 0.8 * limit:
        findings.remark(
            f"parameters, gradients and optimizer of {name} leave only {sentences.size(limit - size)} for what a step computes"
        )


def batches(subject: Subject, findings: Findings) -> None:
    """Do batches divide over the devices?"""
    for use in meshes.due(subject):
        meshes.rows(findings, use, shape(use.placed))
    paces = dict.fromkeys((t.training.learning_rate, t.training.steps, t.training.epochs) for t in subject.trainings)
    if paces:
        words = (
            f"{steps:,} steps at {rate:g}" if epochs is None else f"{epochs:g} epochs at {rate:g}"
            for rate, steps, epochs in paces
        )
        findings.see(", ".join(words))
    platform = attention.platform_of(None)
    for trained in subject.trainings:
        with findings.refusing(f"{trained.where}: model"):
            attention.check(trained.model.config, trained.training.batching.length, platform)
    for (rows, length, wanted), least in sorted({_stepped(subject, trained) for trained in subject.trainings}):
        each = f", {rows // wanted.ways or 1} on each of {wanted.ways} groups of devices" if wanted.ways > 1 else ""
        findings.see(f"{'at least ' if least else ''}{rows} rows of {length:,} tokens a step{each}")


def weights(subject: Subject, findings: Findings) -> None:
    """Are given parameters there, and of the same architecture? Headers alone are read."""
    for where, stage, ref, config in _given(subject):
        if stage in subject.settled:
            continue
        with findings.refusing(where):
            path = hub.at_hand(ref, "weights")
            if path is None:
                hub.check_reachable(ref, "weights")
                findings.see(f"{ref}: on the Hub, to be downloaded when the run comes to it")
                continue
            stored.check(str(path), config)
            findings.see(f"{ref}: {path}, the same architecture")


def growth(subject: Subject, findings: Findings) -> None:
    """Can a rung's model be grown from the one before?"""
    experiment = subject.experiment
    for index, rung in enumerate(experiment.rungs):
        if rung.start.parent is None or models.student(experiment, index, BASE).stage in subject.settled:
            continue
        small, large = subject.sized(experiment.rungs[index - 1].model), subject.sized(rung.model)
        with findings.refusing(f"rungs.{index} ({rung.name}): start"):
            if small != large:
                grow.check(small, large)
            findings.see(f"{rung.name} {'grows' if small != large else 'goes on'} from {experiment.rungs[index - 1].name}")


def training_bytes(trained: Trained, config: ModelConfig, wanted: Shape, others: Sequence[ModelConfig] = ()) -> int:
    """Bytes on each device for the parameters, their gradients, AdamW's moments and what stays frozen, with the `others` that the
    loss looks at. `UserError` where a dimension does not divide."""
    training = trained.training
    held = _bytes(transformer.logical_axes(config), transformer.shapes(config), wanted)
    count = _bytes(transformer.logical_axes(config), transformer.shapes(config), wanted, size=1)
    kept = trained.stage is not None and trained.stage.keeps_initial
    computed = (kept or INITIAL in models_of(trained.objective.loss)) and not training.reference_top
    frozen = held if computed and not training.lora.rank else 0
    if training.lora.rank:
        frozen = held if training.lora.quantize == "none" else count  # about a byte each
        count = _bytes(lora.logical_axes(config, training.lora), lora.shapes(config, training.lora), wanted, size=1)
        held = 4 * count
    if not training.reference_top:
        frozen += sum(_bytes(transformer.logical_axes(other), transformer.shapes(other), wanted) for other in others)
    moments = _MOMENTS * (2 if training.moments == "bfloat16" else 4) * count
    return held + frozen + moments + 4 * count


def _bytes(axes: Any, arrays: Any, wanted: Shape, size: int = 0) -> int:
    split = shardings(wanted.abstract(), axes, arrays)
    pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(split), strict=True)
    return sum(prod(each.shard_shape(tuple(leaf.shape))) * (size or np.dtype(leaf.dtype).itemsize) for leaf, each in pairs)


def _stepped(subject: Subject, trained: Trained) -> tuple[tuple[int, int, Shape], bool]:
    """Rows of a step, their length, and the mesh; and whether there may be more rows, since prompts have a length, too."""
    wanted, stage = shape(subject.stages.trainings[trained.model.name].mesh), trained.stage
    batching = trained.training.batching
    if isinstance(stage, OwnAnswers):
        return (stage.rows(subject.experiment.decoding, ways=wanted.ways), batching.length, wanted), True
    return (batching.rows, batching.length, wanted), False


def _all(subject: Subject) -> Iterator[tuple[str, ModelConfig]]:
    """`_settings` with vocabularies."""
    return ((where, subject.sized(config)) for where, config in _settings(subject))


def _settings(subject: Subject) -> Iterator[tuple[str, ModelConfig]]:
    """Every model that is still to be trained or read, where its settings stand, and its architecture."""
    experiment = subject.experiment
    for index, teacher in enumerate(experiment.teachers):
        model = models.teacher(teacher)
        if model is not None and model.stage not in subject.settled:
            yield f"teachers.{index} ({teacher.name})", model.config
    for index, rung in enumerate(experiment.rungs):
        own = [stage for stage in subject.stages.trainings.values() if stage.serves == index]
        if any(stage.name not in subject.settled for stage in own):
            yield f"rungs.{index} ({rung.name})", rung.model


def _given(subject: Subject) -> Iterator[tuple[str, str, str, ModelConfig]]:
    """Parameters that are given by name: where, the stage that reads them, the name, the architecture that they must have."""
    for stage in subject.stages.trainings.values():
        for item in stage.weights:
            where = where_of(subject.experiment, stage.model).removesuffix(": start")
            yield where, stage.name, item.name, _own(subject, stage.model.config)


def _own(subject: Subject, config: ModelConfig) -> ModelConfig:
    """The architecture with the vocabulary that it will have; without one where that is not known yet."""
    return config if subject.renderer is None else models.sized(config, subject.renderer)


def _device_memory() -> int:
    """Bytes of one device: what it says itself, or its share of this machine's."""
    device = jax.local_devices()[0]
    try:
        limit = (device.memory_stats() or {}).get("bytes_limit", 0)
    except (RuntimeError, NotImplementedError, AttributeError):
        limit = 0
    if limit or device.platform != "cpu":
        return int(limit)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // jax.local_device_count()
    except (ValueError, OSError):
        return 0
