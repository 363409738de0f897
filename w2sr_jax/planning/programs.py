"""The programs that a run compiles, described by the settings that they are made of. Arguments are shapes alone, so that nothing
is allocated; the functions are those that stages call.

A program is a frozen value: equal ones are compiled once, whichever stages have them.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh as DeviceMesh

from w2sr_jax.batches.batch import Batch, RolloutData
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor, batch_sharding, resting
from w2sr_jax.planning import memory
from w2sr_jax.planning.memory import Memory
from w2sr_jax.preflight.meshes import Shape
from w2sr_jax.sampling.lengths import PREFILL, cache_class, prompt_class
from w2sr_jax.sampling.programs import Programs, Seats, programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.program import Compiled, Learning, make_program, parameter_shardings
from w2sr_jax.training.sequence_step import LearningSequences, SequenceRows
from w2sr_jax.training.settings import Training


class Program(Protocol):
    """A program of a run. Frozen, and comparable."""

    @property
    def what(self) -> str:
        """In a word for tables: train, decode, …"""

    @property
    def size(self) -> str:
        """How large it is, in words for tables: rows and tokens."""

    def compile(self, mesh: DeviceMesh) -> Any:
        """The compiled program (`jax.stages.Compiled`) for devices that need not be here."""

    def memory(self, shape: Shape, beside: int) -> Memory:
        """By arithmetic. `beside` is what else lies on the device."""


@dataclasses.dataclass(frozen=True)
class TrainStep:
    """One optimizer step. `recorded` is how many tokens were recorded of the teacher's distributions (0: none). On pairs,
    `sequences` is the loss, and a row has up to `count` sequences. `own` is what is learned from answers of the student's own."""

    model: ModelConfig
    objective: Objective
    training: Training
    total: int
    others: tuple[tuple[str, ModelConfig], ...] = ()
    recorded: int = 0
    sequences: SequenceLoss | None = None
    count: int = 0
    own: Learning | None = None

    what = "train step"

    @property
    def size(self) -> str:
        how = self.training
        return f"{how.batching.rows // how.accumulation} × {how.batching.length:,} × {how.accumulation}"

    def compile(self, mesh: DeviceMesh) -> Any:
        learns = self.own or (self.objective if self.sequences is None else LearningSequences(self.sequences, self.count))
        split, how = batch_sharding(mesh), self._rounded(batch_divisor(mesh))
        made = make_program(self.model, learns, how, self.total, mesh, dict(self.others))
        whole = (how.batching.rows, how.batching.length)

        def array(dtype: Any, *more: int) -> Any:
            return jax.ShapeDtypeStruct((*whole, *more), dtype, sharding=split)

        ids, real = array(jnp.int32), array(jnp.float32)
        read = {name: self._top(array, how.reference_top) for name in self._stored}
        if self.recorded:
            read[TEACHER] = TopK(*self._top(array, self.recorded)[:3], array(bool))
        batch: Any = Batch(ids, ids, ids, ids, ids, ids, real, real, read)
        if self.own is not None:
            batch = batch._replace(rollout=RolloutData(real, real))
        if isinstance(learns, LearningSequences):
            of_sequences = jax.ShapeDtypeStruct((how.batching.rows, learns.count), jnp.float32, sharding=split)
            batch = SequenceRows(batch, of_sequences, of_sequences)
        return made.step.lower(made.like, batch, self._frozen(made) or None).compile()  # type: ignore[attr-defined]

    def memory(self, shape: Shape, beside: int) -> Memory:
        kept = self.own is not None and INITIAL in self.own.models
        own = memory.training(self.model, self.objective, self._rounded(shape.ways), shape, dict(self.others), kept)
        return dataclasses.replace(own, beside=beside)

    def _rounded(self, ways: int) -> Training:
        """With the rows that a mesh shares evenly: of own answers, some are then empty."""
        how = self.training
        if self.own is None:
            return how
        each = how.accumulation * ways
        batching = dataclasses.replace(how.batching, rows=-(-how.batching.rows // each) * each)
        return dataclasses.replace(how, batching=batching)

    @property
    def _stored(self) -> list[str]:
        """The models whose distributions are read instead of computed."""
        if not self.training.reference_top:
            return []
        own = [INITIAL] if INITIAL in models_of(self.objective.loss) else []
        return [*own, *dict(self.others)]

    def _top(self, array: Any, count: int) -> TopK:
        return TopK(array(jnp.int32, count), array(jnp.float32, count), array(jnp.float32))

    def _frozen(self, made: Compiled) -> Mapping[str, Any]:
        arrays = {name: transformer.shapes(config) for name, config in self.others if name in made.frozen}
        if INITIAL in made.frozen:
            arrays[INITIAL] = jax.eval_shape(made.freeze, transformer.shapes(self.model))
        return {name: described(arrays[name], made.frozen[name]) for name in made.frozen}


@dataclasses.dataclass(frozen=True)
class Engine:
    """What the programs of the decoding engine are made of: prompts of up to `prompt` tokens, rows of up to `longest`, ids below
    `limit` (None: all)."""

    model: ModelConfig
    decoding: Decoding
    prompt: int
    longest: int
    end_tokens: tuple[int, ...] = (1,)
    limit: int | None = None

    @property
    def slots(self) -> int:
        return cache_class(self.longest)

    @property
    def length(self) -> int:
        """Positions of the program that reads the longest prompts."""
        return prompt_class(self.prompt)

    def rows(self, ways: int) -> int:
        """Prompts that are read together."""
        most = max(1, min(self.decoding.batch, PREFILL // self.length))
        return -(-most // ways) * ways


@functools.lru_cache(maxsize=8)
class _Laid:
    """An engine on a mesh. Weights and prompts lie as the programs that make them leave them."""

    def __init__(self, engine: Engine, mesh: DeviceMesh) -> None:
        self.engine, self.mesh = engine, mesh
        self.made: Programs = programs(engine.model, engine.decoding, engine.end_tokens, mesh, engine.limit)

    @functools.cached_property
    def laying(self) -> Any:
        return self.made.weights.lower(parameters(self.engine.model, self.mesh, spread=True), self._positions).compile()  # type: ignore[attr-defined]

    @functools.cached_property
    def weights(self) -> Any:
        arrays = jax.eval_shape(lambda params: self.made.weights(params, self._positions), transformer.shapes(self.engine.model))
        return described(arrays, self.laying.output_shardings)

    @functools.cached_property
    def prefilling(self) -> Any:
        return self.made.prefill.lower(self.weights, *self._prompts).compile()  # type: ignore[attr-defined]

    @functools.cached_property
    def slots(self) -> Any:
        return jax.eval_shape(lambda: self.made.empty(self.engine.slots))

    @property
    def decoded(self) -> Any:
        patience = jax.ShapeDtypeStruct((), jnp.int32)
        return self.made.decode.lower(self.weights, self.slots, patience).compile()  # type: ignore[attr-defined]

    @property
    def seated(self) -> Any:
        prompts = described(jax.eval_shape(self.made.prefill, self.weights, *self._prompts), self.prefilling.output_shardings)
        row = jax.ShapeDtypeStruct((self.engine.decoding.batch,), jnp.int32, sharding=batch_sharding(self.mesh))
        keys = jax.ShapeDtypeStruct((self.engine.decoding.batch, 2), jnp.uint32, sharding=batch_sharding(self.mesh))
        return self.made.seat.lower(self.slots, prompts, Seats(row, keys, row)).compile()  # type: ignore[attr-defined, arg-type]

    @property
    def _positions(self) -> int:
        return max(self.engine.slots, self.engine.length)

    @property
    def _prompts(self) -> tuple[Any, Any]:
        rows, split = self.engine.rows(self.mesh.shape["data"] * self.mesh.shape["fsdp"]), batch_sharding(self.mesh)
        tokens = jax.ShapeDtypeStruct((rows, self.engine.length), jnp.int32, sharding=split)
        return tokens, jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=split)


@dataclasses.dataclass(frozen=True)
class Lay:
    """Parameters laid out for decoding."""

    engine: Engine

    what = "lay out"

    @property
    def model(self) -> ModelConfig:
        return self.engine.model

    @property
    def size(self) -> str:
        return f"{self.engine.decoding.weights} weights"

    def compile(self, mesh: DeviceMesh) -> Any:
        return _Laid(self.engine, mesh).laying

    def memory(self, shape: Shape, beside: int) -> Memory:
        own = memory.sampling(self.model, self.engine.decoding, 1, shape, beside)
        return dataclasses.replace(own, cache=0, activations=0)


@dataclasses.dataclass(frozen=True)
class Prefill:
    """The longest prompts read."""

    engine: Engine

    what = "prefill"

    @property
    def model(self) -> ModelConfig:
        return self.engine.model

    @property
    def size(self) -> str:
        return f"prompts of {self.engine.length:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        return _Laid(self.engine, mesh).prefilling

    def memory(self, shape: Shape, beside: int) -> Memory:
        """The cache of the slots lies beside it."""
        engine, rows = self.engine, self.engine.rows(shape.ways) // shape.ways
        slots = memory.sampling(self.model, engine.decoding, engine.slots, shape, beside)
        layer = memory.forward_bytes(self.model, engine.length, shape)
        prompts = dataclasses.replace(engine.decoding, batch=rows * shape.ways)
        read = memory.sampling(self.model, prompts, engine.length, shape, 0).cache
        return dataclasses.replace(slots, cache=read, activations=rows * layer, beside=slots.beside + slots.cache)


@dataclasses.dataclass(frozen=True)
class Seat:
    """Prompts that were read take their slots."""

    engine: Engine

    what = "seat"

    @property
    def model(self) -> ModelConfig:
        return self.engine.model

    @property
    def size(self) -> str:
        return f"{self.engine.decoding.batch} × {self.engine.slots:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        return _Laid(self.engine, mesh).seated

    def memory(self, shape: Shape, beside: int) -> Memory:
        """The weights lie beside it; the prompts' cache is spread over the slots that take it."""
        own = memory.sampling(self.model, self.engine.decoding, self.engine.slots, shape, beside)
        spread = memory.sampling(self.model, self.engine.decoding, self.engine.length, shape, 0).cache
        return dataclasses.replace(own, parameters=0, activations=spread, beside=own.beside + own.parameters)


@dataclasses.dataclass(frozen=True)
class Decode:
    """Tokens drawn for every slot."""

    engine: Engine

    what = "decode"

    @property
    def model(self) -> ModelConfig:
        return self.engine.model

    @property
    def size(self) -> str:
        return f"{self.engine.decoding.batch} × {self.engine.slots:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        return _Laid(self.engine, mesh).decoded

    def memory(self, shape: Shape, beside: int) -> Memory:
        return memory.sampling(self.model, self.engine.decoding, self.engine.slots, shape, beside)


def parameters(model: ModelConfig, mesh: DeviceMesh, spread: bool = False) -> Any:
    """A model's parameters as they lie when training leaves them, or `spread` as those of a model that decodes."""
    arrays = transformer.shapes(model)
    places = resting(mesh, transformer.logical_axes(model), arrays) if spread else parameter_shardings(model, mesh)
    return described(arrays, places)


def described(arrays: Any, places: Any) -> Any:
    """Shapes and types, with shardings."""
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), arrays, places)
