"""The programs of a run that read rows and train nothing: stored references, and the likelihood of held-out traces."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh as DeviceMesh

from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.planning import memory
from w2sr_jax.planning.memory import Memory
from w2sr_jax.planning.programs import parameters
from w2sr_jax.preflight.meshes import Shape
from w2sr_jax.training import held_out, likelihood, reference
from w2sr_jax.training.preference.reference import described as described_texts
from w2sr_jax.training.sequence_step import BLOCK, sequence_logprobs

HELD_OUT_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Reference:
    """The most probable tokens of a frozen model at every position of some rows, computed once per data set."""

    model: ModelConfig
    count: int
    rows: int
    length: int
    block: int

    what = "reference"

    @property
    def size(self) -> str:
        return f"{self.rows} × {self.length:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        tokens = jax.ShapeDtypeStruct((self.rows, self.length), jnp.int32, sharding=batch_sharding(mesh))
        params = parameters(self.model, mesh)
        return reference.values_at.lower(self.model, self.count, self.block, mesh, params, tokens, tokens, tokens).compile()

    def memory(self, shape: Shape, beside: int) -> Memory:
        own = memory.reading(self.model, self.rows, self.length, self.block, shape)
        return dataclasses.replace(own, beside=beside)


@dataclasses.dataclass(frozen=True)
class SequenceReference:
    """What the frozen reference makes of the up to `count` sequences of each of some rows, computed once per data set."""

    model: ModelConfig
    rows: int
    length: int
    count: int

    what = "reference"

    @property
    def size(self) -> str:
        return f"{self.rows} × {self.length:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        rows = described_texts(self.rows, self.length, batch_sharding(mesh))
        return sequence_logprobs.lower(self.model, BLOCK, self.count, mesh, parameters(self.model, mesh), rows).compile()

    def memory(self, shape: Shape, beside: int) -> Memory:
        own = memory.reading(self.model, self.rows, self.length, BLOCK, shape)
        return dataclasses.replace(own, beside=beside)


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The likelihood of held-out traces, in rows as the model was trained with."""

    model: ModelConfig
    rows: int
    length: int

    what = "held-out"

    @property
    def size(self) -> str:
        return f"{self.rows} × {self.length:,}"

    def compile(self, mesh: DeviceMesh) -> Any:
        ways = mesh.shape["data"] * mesh.shape["fsdp"]
        rows = -(-self.rows // ways) * ways
        ids, real = (
            jax.ShapeDtypeStruct((rows, self.length), dtype, sharding=batch_sharding(mesh)) for dtype in (jnp.int32, jnp.float32)
        )
        read = jax.jit(likelihood.sums, static_argnums=(0, 1, 2, 3))
        params = parameters(self.model, mesh, spread=True)
        return read.lower(self.model, held_out.LOSS, HELD_OUT_BLOCK, mesh, params, ids, ids, ids, ids, real).compile()

    def memory(self, shape: Shape, beside: int) -> Memory:
        own = memory.reading(self.model, self.rows, self.length, HELD_OUT_BLOCK, shape, spread=True)
        return dataclasses.replace(own, beside=beside)
