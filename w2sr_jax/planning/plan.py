"""An experiment on a topology: its programs with their memory, its stages with their time."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.core import hub
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.accelerators import GIB
from w2sr_jax.parallel.mesh import make_mesh, resolved
from w2sr_jax.parallel.placement import Placement, resolve
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.planning import compile as compiling
from w2sr_jax.planning import fitting, memory, rates
from w2sr_jax.planning import uses as uses_of
from w2sr_jax.planning.compile import Figures, Refused, Targets
from w2sr_jax.planning.fitting import Fit
from w2sr_jax.planning.hardware import Topology
from w2sr_jax.planning.memory import Memory
from w2sr_jax.planning.programs import Engine, TrainStep
from w2sr_jax.planning.rates import Decoding, Measured
from w2sr_jax.planning.uses import Ids, Use
from w2sr_jax.planning.work import Assumed, Counted, Work
from w2sr_jax.preflight import checks
from w2sr_jax.preflight.meshes import Shape, refusals
from w2sr_jax.stages import models
from w2sr_jax.stages.execute import seed_stores
from w2sr_jax.stages.plan import ExperimentPlan, stages
from w2sr_jax.stages.weights import check as check_weights
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.render import Renderer

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a plan is asked for: the fraction of peak rates that is counted on, the price of a device for an hour (None: none),
    what is assumed of data, and whether programs are compiled."""

    fraction: float = 0.4
    price: float | None = None
    assumed: Assumed = Assumed()
    compile: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise UserError(f"--mfu is {self.fraction:g}; it must be a fraction of the peak, above 0 and at most 1")
        if self.price is not None and not self.price >= 0:
            raise UserError(f"--price is {self.price:g}; it must be 0 or more for a device and an hour")
        for name in ("prompt", "completion", "problems", "test"):
            value = getattr(self.assumed, name)
            if value is not None and value < 1:
                option = "--test-problems" if name == "test" else f"--{name}"
                raise UserError(f"{option} is {value}; it must be at least 1")


@dataclasses.dataclass(frozen=True)
class Planned:
    """A program: its memory by arithmetic, what the compiler says of it (None: it was not asked), and of a train step what would
    fit."""

    use: Use
    shape: Shape
    memory: Memory
    compiled: Figures | Refused | None
    fits: Sequence[Fit] = ()

    @property
    def needed(self) -> int:
        """Bytes on one device; 0 where the compiler gave no program."""
        if isinstance(self.compiled, Refused):
            return 0
        return self.memory.total if self.compiled is None else self.compiled.total + self.memory.beside

    def refused(self, topology: Topology) -> str | None:
        """Why the program cannot run there, in words; None where it can."""
        if isinstance(self.compiled, Refused):
            return self.compiled.why
        limit = topology.accelerator.memory
        if self.needed <= limit:
            return None
        return f"it needs {self.needed / GIB:.1f} GiB of {limit / GIB:.1f} GiB"


@dataclasses.dataclass(frozen=True)
class Timed:
    """A stage's work, its mesh, how many seconds it takes, and the part of them, 0 to 1, in which decoding waits for memory."""

    work: Work
    shape: Shape
    seconds: float
    waits: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """All of it. `remarks` are sentences about what is assumed or not known."""

    experiment: Experiment
    topology: Topology
    asked: Asked
    programs: Sequence[Planned]
    stages: Sequence[Timed]
    measured: Measured
    remarks: Sequence[str]
    targets: Targets


def plan(experiment: Experiment, topology: Topology, asked: Asked, run: Path, say: Say) -> Plan:
    """The plan of an experiment whose run lies, or would lie, in `run`. `say` is told of programs as they are compiled.
    `UserError` for a mesh that the topology or the models do not fit."""
    built = stages(dataclasses.replace(experiment, seeds=experiment.seeds[:1]))
    tokenizer = _tokenizer(experiment)
    sized = _sizing(experiment, tokenizer)
    counted = Counted(experiment, asked.assumed, sized)
    ids = Ids() if tokenizer is None else Ids(tokenizer.end_tokens, tokenizer.vocab_size)

    def placed(placement: Placement) -> Mesh:
        return _placed(placement, topology)

    listed = uses_of.uses(built, counted, asked.assumed, sized, ids, placed)
    computing = {stage.name: placed(stage.computes_on) for stage in built if isinstance(stage.computes_on, Placement)}
    shapes = {mesh: fitted(mesh, topology) for mesh in dict.fromkeys([*(use.mesh for use in listed), *computing.values()])}
    shapes |= {use.during[1]: fitted(use.during[1], topology) for use in listed if use.during is not None}
    refused = refusals(experiment, lambda placement: fitted(placed(placement), topology))
    if refused:
        raise UserError(checks.summary(refused))
    targets = compiling.targets(topology) if asked.compile else Targets(None, "it was not asked for")
    arithmetic = [_memory(use, shapes) for use in listed]
    compiled = _compiled(listed, targets, say) if targets.devices is not None else [None] * len(listed)
    programs = [
        Planned(use, shapes[use.mesh], bytes_, figures, _fits(use, shapes[use.mesh], bytes_, figures, topology))
        for use, bytes_, figures in zip(listed, arithmetic, compiled, strict=True)
    ]
    rates_of = rates.measured(_manifests(experiment, built, run), topology.accelerator)
    works = [work for stage in built if (work := counted.work(stage)) is not None]
    timed = [_timed(work, shapes[computing[work.stage]], topology, asked, rates_of) for work in works]
    remarks = [*_about_weights(built), *_about_tokenizer(experiment, tokenizer), *_about_counts(counted, asked)]
    return Plan(experiment, topology, asked, programs, timed, rates_of, remarks, targets)


def fitted(mesh: Mesh, topology: Topology) -> Shape:
    """The sizes of a mesh on a topology. `UserError` where it does not fit, or leaves devices of several hosts without work."""
    shape = Shape(*resolved(mesh, topology.devices, topology.name))
    if shape.devices < topology.devices and topology.hosts > 1:
        raise UserError(
            f"the mesh {shape} (data × fsdp × tensor) uses {shape.devices} of the {topology.devices} devices of {topology.name}; "
            "on several hosts it must use them all, which mesh.data -1 does"
        )
    return shape


def _placed(placement: Placement, topology: Topology) -> Mesh:
    """The mesh of a use on a topology. `UserError` where it does not fit, saying where it is set."""
    mesh = resolve(placement, topology.devices, topology.accelerator.memory)
    try:
        fitted(mesh, topology)
    except UserError as error:
        raise UserError(f"{placement.where}: {error}" if placement.where else str(error)) from None
    return mesh


def _memory(use: Use, shapes: Mapping[Mesh, Shape]) -> Memory:
    state = None if use.during is None else use.during[0].memory(shapes[use.during[1]], 0)
    beside = 0 if state is None else state.parameters + state.optimizer + state.frozen
    return use.program.memory(shapes[use.mesh], beside)


def _compiled(listed: Sequence[Use], targets: Targets, say: Say) -> list[Figures | Refused | None]:
    """Programs of one engine after each other, since they share what they are made of; others side by side."""
    groups: dict[Any, list[int]] = {}
    for index, use in enumerate(listed):
        engine = getattr(use.program, "engine", None)
        groups.setdefault((engine, use.mesh) if isinstance(engine, Engine) else index, []).append(index)

    def work(indices: Sequence[int]) -> list[tuple[int, Figures | Refused]]:
        return [(index, _one(listed[index], targets, say)) for index in indices]

    with ThreadPoolExecutor(max_workers=max(1, min(len(groups), os.cpu_count() or 1))) as pool:
        results = dict(pair for pairs in pool.map(work, groups.values()) for pair in pairs)
    return [results[index] for index in range(len(listed))]


def _one(use: Use, targets: Targets, say: Say) -> Figures | Refused:
    began = time.monotonic()
    try:
        made = compiling.figures(use.program.compile(make_mesh(use.mesh, targets.devices)))
    except (UserError, jax.errors.JaxRuntimeError, ValueError) as error:
        return compiling.refusal(error)
    say(f"compiled in {time.monotonic() - began:.0f} s: {use.program.what} of {', '.join(use.models)}")
    return made


def _fits(use: Use, shape: Shape, bytes_: Memory, figures: Figures | Refused | None, topology: Topology) -> list[Fit]:
    if not isinstance(use.program, TrainStep):
        return []
    surplus = figures.total + bytes_.beside - bytes_.total if isinstance(figures, Figures) else 0
    return fitting.fits(use.program, shape, topology.accelerator.memory * fitting.LIMIT, bytes_.beside, surplus)


def _timed(work: Work, shape: Shape, topology: Topology, asked: Asked, measured: Measured) -> Timed:
    rate = measured.rates.get(work.kind)
    if rate is not None:
        return Timed(work, shape, work.counted / rate / shape.devices, 0.0)
    moved = [
        Decoding(
            memory.weight_bytes(each.config, each.decoding, shape, 1),
            memory.cache_bytes(each.config, each.decoding.batch, shape),
        )
        for each in work.sampled
    ]
    accelerator, devices = topology.accelerator, shape.devices
    took = rates.seconds(work, accelerator, devices, asked.fraction, moved)
    return Timed(work, shape, took, rates.waiting(work, accelerator, devices, moved))


def _tokenizer(experiment: Experiment) -> Renderer | None:
    """The tokenizer, where it can be opened without a download."""
    source = experiment.tokenizer.opened_from()
    with contextlib.suppress(UserError):
        if source is not None and hub.at_hand(source, "tokenizer") is not None:
            return Renderer(tokenizers.build(experiment.tokenizer))
    return None


def _sizing(experiment: Experiment, tokenizer: Renderer | None) -> Callable[[ModelConfig], ModelConfig]:
    def sized(config: ModelConfig) -> ModelConfig:
        if config.vocab_size:
            return config
        if tokenizer is not None:
            return models.sized(config, tokenizer)
        likely = -(-experiment.tokenizer.likely_vocabulary() // 8) * 8
        return dataclasses.replace(config, vocab_size=likely)

    return sized


def _manifests(experiment: Experiment, built: ExperimentPlan, run: Path) -> list[Manifest]:
    stores = seed_stores(experiment, run) if run.is_dir() else []
    return [manifest for store in stores for stage in built if (manifest := store.peek(stage.name)) is not None]


def _about_weights(built: ExperimentPlan) -> list[str]:
    """What is said of parameters that are given by name: that their sizes are the configuration's, or that they are others."""
    absent: list[str] = []
    for stage in built.trainings.values():
        for item in stage.weights:
            if hub.at_hand(item.name, "weights") is None:
                absent.append(item.name)
            else:
                check_weights(item.name, stage.model.config)
    names = ", ".join(dict.fromkeys(absent))
    return [f"{names}: not on this disk; the sizes are those of the configuration's models"] if names else []


def _about_tokenizer(experiment: Experiment, tokenizer: Renderer | None) -> list[str]:
    source = experiment.tokenizer.opened_from()
    if tokenizer is not None:
        return []
    if source is None:
        return [
            f"the vocabulary is made in the run; a likely {experiment.tokenizer.likely_vocabulary():,} tokens are taken where a "
            "model's vocab_size is 0"
        ]
    return [f"the tokenizer {source} is not on this disk: all ids of a model's vocabulary are taken as tokens"]


def _about_counts(counted: Counted, asked: Asked) -> list[str]:
    completion = asked.assumed.completion
    drawn = "as many tokens as they may have (--completion says fewer)" if completion is None else f"{completion:,} tokens"
    test = f"; {counted.test:,} test problems, whose data is not on this disk (--test-problems)" if counted.test_assumed else ""
    return [
        f"prompts have {asked.assumed.prompt:,} tokens (--prompt), completions {drawn}{test}; every problem yields the examples "
        "that curation allows; files, grading and compiling take no time here"
    ]
