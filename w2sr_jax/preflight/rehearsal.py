"""The same experiment in minutes on a CPU: every model tiny and random, every data set a stand-in, every count small.

It is a rehearsal, and its report says so. What remains is the path that data takes: safetensors directories are imported, the
tokenizer's chat template renders, data sets are read through their field mapping, adapters stay adapters, and everything is split
over a mesh of the same shape, on virtual devices where there are no others. Its numbers mean nothing; that it ends in a report
does.
"""

import contextlib
import dataclasses
import logging
import os
from math import prod
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.preflight import checks, models, stand_ins
from w2sr_jax.preflight.models import Shape
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded, Served
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

SUFFIX = "-shrunk"
FOLDER = "stand-ins"
WIDTH, HEADS, WINDOW = 64, 4, 32
POOL, PROBE, TEST, SPLIT = 96, 8, 16, 64
TOKENS, LENGTH, STEPS = 64, 320, 8
SAMPLES = 4
DEVICES = 8
"""Most devices that a rehearsal takes."""
_VIRTUAL = "xla_force_host_platform_device_count"

log = logging.getLogger(__name__)


def shrink(experiment: Experiment, root: Path) -> Experiment:
    """The experiment in small, called NAME-shrunk; its stand-ins are made in ROOT/NAME-shrunk/stand-ins. `UserError` where the
    experiment itself would not divide over its mesh."""
    real = experiment.mesh
    refused = models.refusals(experiment, Shape(max(1, real.data), real.fsdp, real.tensor))
    if refused:
        raise UserError(checks.summary(refused))
    mesh = _mesh(real)
    shape = models.shape(mesh)
    name = f"{experiment.name}{SUFFIX}"
    place = stand_ins.Place(root / name / FOLDER)
    splits = _splits(experiment.splits)
    tokenizer = experiment.tokenizer
    if isinstance(tokenizer, PretrainedTokenizer):
        tokenizer = dataclasses.replace(tokenizer, path=str(place.tokenizer()), pad=None)
    problems = experiment.problems
    if isinstance(problems, Files):
        problems = _files(
            place, problems, "problems", splits.pretrain + splits.teacher + splits.pool + splits.probe + splits.test
        )
    test = experiment.test_problems
    return dataclasses.replace(
        experiment,
        name=name,
        problems=problems,
        test_problems=None if test is None else _files(place, test, "test", TEST),
        splits=splits,
        tokenizer=tokenizer,
        teachers=tuple(_teacher(place, teacher, shape) for teacher in experiment.teachers),
        rungs=tuple(_rung(place, rung, shape) for rung in experiment.rungs),
        evaluation=_evaluation(experiment.evaluation),
        decoding=_decoding(experiment.decoding, shape),
        mesh=mesh,
        rehearsal=True,
    )


def ready(experiment: Experiment) -> None:
    """Let a CPU be as many devices as the mesh of a rehearsal has; called before anything asks for one. Flags of the user's, and
    accelerators, win."""
    if experiment.rehearsal:
        _virtual(experiment.mesh)


def model(config: ModelConfig, vocabulary: int = 0, fsdp: int = 1, tensor: int = 1) -> ModelConfig:
    """A tiny model of the same architecture: as many kinds of layers, grouped heads, the same switches; its sizes divide over the
    axes `fsdp` and `tensor` of a mesh."""
    shared = config.heads // config.kv_heads
    few = HEADS if shared == 1 else HEADS // 2 if shared < HEADS else 1
    kv_heads = _multiple(few, tensor)
    return dataclasses.replace(
        config,
        vocab_size=_multiple(vocabulary, tensor),
        width=_multiple(WIDTH, fsdp),
        layers=max(2, min(config.layers, len(config.pattern))),
        heads=kv_heads * (HEADS // few),
        kv_heads=kv_heads,
        head_dim=WIDTH // HEADS,
        mlp=_multiple(2 * WIDTH, tensor),
        window=None if config.window is None else min(config.window, WINDOW),
        query_scale=None if config.query_scale is None else float(WIDTH // HEADS),
    )


def _mesh(real: Mesh) -> Mesh:
    """The mesh, with smaller axes where it takes more devices than a rehearsal does, or than there are; an axis that splits still
    splits where that can be."""
    wanted = _smaller(Shape(max(1, real.data), real.fsdp, real.tensor), DEVICES)
    there = _virtual(Mesh(*wanted))
    fits = _smaller(wanted, there)
    rest = real.data == -1 and there % (fits.fsdp * fits.tensor) == 0
    mesh = Mesh(-1 if rest else fits.data, fits.fsdp, fits.tensor)
    if tuple(fits) != (max(1, real.data), real.fsdp, real.tensor):
        why = f"a rehearsal takes at most {DEVICES} devices" if fits == wanted else f"there are {there} devices"
        more = "" if fits == wanted or jax.default_backend() == "cpu" else "; with JAX_PLATFORMS=cpu it gets virtual ones"
        log.warning("the mesh is rehearsed as %s (data × fsdp × tensor), since %s%s", fits, why, more)
    return mesh


def _virtual(mesh: Mesh) -> int:
    """How many devices there are, once a CPU has been told to be as many as a mesh needs, if it still can be."""
    count = prod(max(1, size) for size in (mesh.data, mesh.fsdp, mesh.tensor))
    if count > 1 and _VIRTUAL not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # devices are in use already
            jax.config.update("jax_num_cpu_devices", count)
    return jax.device_count()


def _smaller(shape: Shape, most: int) -> Shape:
    """A shape of at most so many devices: the largest axes are made smaller first, and one only last."""
    sizes = list(shape)
    while prod(sizes) > most:
        axis = max(range(len(sizes)), key=sizes.__getitem__)
        size = sizes[axis]
        part = next((size // factor for factor in range(2, size) if size % factor == 0), 2)
        sizes[axis] = part if size > 2 else 1
    return Shape(*sizes)


def _multiple(size: int, of: int) -> int:
    return -(-size // of) * of


def _splits(asked: Splits) -> Splits:
    """Each split that an experiment asks for, small. Stand-ins may be alike, so no looser copies are looked for."""
    return Splits(
        pretrain=SPLIT if asked.pretrain else 0,
        teacher=SPLIT if asked.teacher else 0,
        pool=POOL if asked.pool else 0,
        probe=PROBE if asked.probe else 0,
        test=TEST if asked.test else 0,
    )


def _rung(place: stand_ins.Place, rung: Rung, shape: Shape) -> Rung:
    start = rung.start
    small = model(rung.model, 0, shape.fsdp, shape.tensor)
    if isinstance(start, FromCheckpoint):
        small = model(rung.model, stand_ins.VOCABULARY, shape.fsdp, shape.tensor)
        start = dataclasses.replace(start, path=str(place.checkpoint(start.path, small)))
    elif isinstance(start, Pretraining):
        start = dataclasses.replace(start, training=_training(start.training, shape), facts=min(start.facts, SPLIT))
    probe = dataclasses.replace(rung.probe, every=min(rung.probe.every, STEPS // 2), problems=PROBE)
    # Random models rarely stop, and what they write may well repeat itself.
    curation = dataclasses.replace(rung.curation, limit=min(rung.curation.limit, POOL), keep_unfinished=True, keep_loops=True)
    return dataclasses.replace(
        rung, model=small, start=start, training=_training(rung.training, shape), probe=probe, curation=curation
    )


def _teacher(place: stand_ins.Place, teacher: ModelTeacher | Graduate | Recorded | Served, shape: Shape) -> Any:
    if isinstance(teacher, Served):  # no server is asked: its traces are stand-ins
        teacher = Recorded(teacher.name, weight=teacher.weight)
    if isinstance(teacher, Recorded):
        return dataclasses.replace(teacher, **place.traces(teacher, POOL)._asdict())
    samples = min(teacher.samples, SAMPLES)
    shrunk = dataclasses.replace(teacher, samples=samples, decoding=_decoding(teacher.decoding, shape))
    if not isinstance(shrunk, ModelTeacher):
        return shrunk
    if shrunk.checkpoint is None:
        small = model(shrunk.model, 0, shape.fsdp, shape.tensor)
        return dataclasses.replace(shrunk, model=small, training=_training(shrunk.training, shape))
    small = model(shrunk.model, stand_ins.VOCABULARY, shape.fsdp, shape.tensor)
    return dataclasses.replace(shrunk, model=small, checkpoint=str(place.checkpoint(shrunk.checkpoint, small)))


def _files(place: stand_ins.Place, source: Files, name: str, count: int) -> Files:
    return dataclasses.replace(source, path=place.problems(source, name, count), limit=None)


def _training(training: Training, shape: Shape) -> Training:
    accumulation = min(training.accumulation, 2)
    rows = accumulation * (shape.ways if shape.ways > 1 else 2)
    return dataclasses.replace(
        training,
        steps=STEPS,
        epochs=None,
        accumulation=accumulation,
        batching=Batching(length=LENGTH, rows=rows, pack=training.batching.pack),
        save_every=min(training.save_every, STEPS // 2),
        log_every=1,
        lora=dataclasses.replace(training.lora, rank=min(training.lora.rank, 4)),
    )


def _decoding(decoding: Decoding, shape: Shape) -> Decoding:
    batch = _multiple(min(decoding.batch, 32), shape.ways)
    return dataclasses.replace(decoding, max_tokens=min(decoding.max_tokens, TOKENS), batch=batch)


def _evaluation(evaluation: Evaluation) -> Evaluation:
    return dataclasses.replace(
        evaluation,
        samples=min(evaluation.samples, 2),
        resamples=min(evaluation.resamples, 200),
        faithfulness=min(evaluation.faithfulness, 4),
        pool=min(evaluation.pool, 8),
    )
