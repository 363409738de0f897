"""The same experiment in minutes on a CPU: every model tiny and random, every data set a stand-in, every count small.

It is a rehearsal, and its report says so. What remains is the path that data takes: safetensors directories are imported, the
tokenizer's chat template renders, data sets are read through their field mapping, adapters stay adapters, and everything is split
over a mesh of the same shape, on virtual devices where there are no others. Its numbers mean nothing; that it ends in a report
does.
"""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from math import gcd, lcm, prod
from pathlib import Path

import jax

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Arm, Experiment, ModelTeacher, Rung, Teacher
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import virtual_devices
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.preflight import checks, meshes
from w2sr_jax.preflight.meshes import Shape
from w2sr_jax.preflight.stand_ins import VOCABULARY, StandIns
from w2sr_jax.problems.settings import Splits
from w2sr_jax.problems.source import ProblemSource, load
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import placing
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.training.settings import Training

SUFFIX = "-shrunk"
FOLDER = "stand-ins"
WIDTH, HEADS, WINDOW = 64, 4, 32
POOL, PROBE, TEST, SPLIT = 96, 8, 16, 64
TOKENS, LENGTH, STEPS = 64, 320, 8
SAMPLES = 4
DEVICES = 8
"""Most devices that a rehearsal takes."""

log = logging.getLogger(__name__)


def shrink(experiment: Experiment, root: Path) -> Experiment:
    """The experiment in small, called NAME-shrunk; its stand-ins are made in ROOT/NAME-shrunk/stand-ins. `UserError` where the
    experiment itself would not divide over its mesh."""
    refused = meshes.refusals(experiment, lambda placed: _least(placed.asked))
    if refused:
        raise UserError(checks.summary(refused))
    smaller = _meshes(experiment)
    shape = _joint([meshes.shape(mesh) for mesh in smaller.values()])
    name = f"{experiment.name}{SUFFIX}"
    stand_ins = StandIns(root / name / FOLDER)
    splits = _splits(experiment.splits)
    tokenizer = experiment.tokenizer
    if tokenizer.opened_from() is not None:
        tokenizer = tokenizer.stand_in(str(stand_ins.tokenizer()))
    count = splits.pretrain + splits.teacher + splits.pool + splits.probe + splits.test
    problems = experiment.problems.rehearsed(lambda source: stand_ins.problems(source, "problems", count))
    test = experiment.test_problems
    small = _Small(stand_ins, shape, problems, count)
    return dataclasses.replace(
        experiment,
        name=name,
        problems=problems,
        test_problems=None if test is None else test.rehearsed(lambda source: stand_ins.problems(source, "test", TEST)),
        splits=splits,
        tokenizer=tokenizer,
        teachers=tuple(_teacher(small, teacher, smaller) for teacher in experiment.teachers),
        rungs=tuple(_rung(small, rung, smaller) for rung in experiment.rungs),
        evaluation=_evaluation(experiment.evaluation),
        decoding=_decoding(experiment.decoding, shape),
        mesh=smaller[experiment.mesh],
        rehearsal=True,
    )


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


def _meshes(experiment: Experiment) -> dict[Mesh, Mesh]:
    """Every mesh that the experiment states, in small; that of the experiment itself also where it says nothing."""
    stated = dict.fromkeys([experiment.mesh, *(mesh for _, mesh in placing.stated(experiment))])
    there = virtual_devices(Mesh(*max((_smaller(_least(mesh), DEVICES) for mesh in stated), key=prod)))
    return {mesh: _mesh(mesh, there) for mesh in stated}


def _mesh(real: Mesh, there: int) -> Mesh:
    """The mesh, with smaller axes where it takes more devices than a rehearsal does, or than there are; an axis that splits still
    splits where that can be."""
    if real == Mesh():
        return real
    wanted = _smaller(_least(real), DEVICES)
    fits = _smaller(wanted, there)
    rest = real.data == -1 and there % (fits.fsdp * fits.tensor) == 0
    mesh = Mesh(-1 if rest else fits.data, fits.fsdp, fits.tensor)
    if fits != _least(real):
        why = f"a rehearsal takes at most {DEVICES} devices" if fits == wanted else f"there are {there} devices"
        more = "" if fits == wanted or jax.default_backend() == "cpu" else "; with JAX_PLATFORMS=cpu it gets virtual ones"
        log.warning("the mesh is rehearsed as %s (data × fsdp × tensor), since %s%s", fits, why, more)
    return mesh


def _least(mesh: Mesh) -> Shape:
    """The fewest devices that a mesh takes, along each axis."""
    return Shape(*(max(1, size) for size in (mesh.data, mesh.fsdp, mesh.tensor)))


def _joint(shapes: Sequence[Shape]) -> Shape:
    """What divides over it divides over each of the shapes: rows over data × fsdp, models over fsdp and over tensor."""
    ways = lcm(*(shape.ways for shape in shapes), *(shape.devices for shape in shapes))
    fsdp, tensor = lcm(*(shape.fsdp for shape in shapes)), lcm(*(shape.tensor for shape in shapes))
    return Shape(ways // gcd(ways, fsdp), fsdp, tensor)


def _own(meshes: Meshes, smaller: Mapping[Mesh, Mesh]) -> Meshes:
    return Meshes(*(smaller.get(getattr(meshes, field.name), Mesh()) for field in dataclasses.fields(Meshes)))


def _teacher(small: "_Small", teacher: Teacher, smaller: Mapping[Mesh, Mesh]) -> Teacher:
    made = teacher.rehearsed(small)
    if not isinstance(made, ModelTeacher):
        return made
    return dataclasses.replace(made, meshes=_own(teacher.meshes, smaller))


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


class _Small:
    """Satisfies `teachers.teacher.Small`."""

    def __init__(self, stand_ins: StandIns, shape: Shape, problems: ProblemSource, count: int) -> None:
        self._stand_ins, self._shape, self._problems, self._count = stand_ins, shape, problems, count

    def recorded(self, teacher: Recorded) -> Recorded:
        return dataclasses.replace(teacher, **self._stand_ins.traces(teacher, POOL)._asdict())

    def stand_in(self, name: str, weight: float) -> Recorded:
        limit = self._count if self._problems.is_endless() else None
        return Recorded(name, self._stand_ins.answers(name, load(self._problems, limit)[0]), gold=None, weight=weight)

    def samples(self, count: int) -> int:
        return min(count, SAMPLES)

    def decoding(self, decoding: Decoding) -> Decoding:
        return _decoding(decoding, self._shape)

    def training(self, training: Training) -> Training:
        return _training(training, self._shape)

    def steps(self, count: int) -> int:
        return min(count, STEPS)

    def model(self, config: ModelConfig, loaded: bool = False) -> ModelConfig:
        return model(config, VOCABULARY if loaded else 0, self._shape.fsdp, self._shape.tensor)

    def checkpoint(self, reference: str, config: ModelConfig) -> str:
        return str(self._stand_ins.checkpoint(reference, config))


def _rung(small: _Small, rung: Rung, smaller: Mapping[Mesh, Mesh]) -> Rung:
    tiny = small.model(rung.model, loaded=rung.start.weights is not None)
    probe = dataclasses.replace(rung.probe, every=min(rung.probe.every, STEPS // 2), problems=PROBE)
    # Random models rarely stop, and what they write may well repeat itself.
    curation = dataclasses.replace(rung.curation, limit=min(rung.curation.limit, POOL), keep_unfinished=True, keep_loops=True)
    return dataclasses.replace(
        rung,
        model=tiny,
        start=rung.start.rehearsed(small, tiny),
        training=small.training(rung.training),
        probe=probe,
        meshes=_own(rung.meshes, smaller),
        curation=curation,
        arms=tuple(arm if isinstance(arm, str) else _arm(small, arm) for arm in rung.arms),
    )


def _arm(small: _Small, arm: Arm) -> Arm:
    return dataclasses.replace(arm, train=tuple(stage.rehearsed(small) for stage in arm.train))


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
