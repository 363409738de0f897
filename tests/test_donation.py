"""What a program is given to overwrite holds what it gives: no second copy of a state or a cache exists while it runs.

Arguments are described by shape and type alone, as for a device that is not here: what lies where, the program must know itself.
"""

import warnings
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.programs import Seats, programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training

CONFIG = ModelConfig(vocab_size=32, width=16, layers=2, heads=4, kv_heads=2, mlp=32)
SHAPES = [(1, 1, 1), (2, 2, 2)]


def aliased(lowering: Any) -> int:
    """Bytes on one device that arguments and results share."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Some donated buffers were not usable")
        return int(lowering().compile().memory_analysis().alias_size_in_bytes)


def held(tree: Any, places: Any = None) -> int:
    """Bytes on one device."""

    def one(leaf: Any, place: Any) -> int:
        return prod(place.shard_shape(leaf.shape)) * np.dtype(leaf.dtype).itemsize

    return sum(
        jax.tree.leaves(jax.tree.map(one, tree, jax.tree.map(lambda leaf: leaf.sharding, tree) if places is None else places))
    )


def described(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lora", [Lora(), Lora(rank=2)], ids=["whole", "adapters"])
def test_a_training_step_overwrites_its_state(shape: tuple[int, int, int], lora: Lora) -> None:
    program: Any = make_program(CONFIG, Objective(Nll(), block=16), Training(lora=lora), 10, make_mesh(Mesh(*shape)))
    whole, real = (jax.ShapeDtypeStruct((8, 8), kind) for kind in (jnp.int32, jnp.float32))
    batch = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    frozen = {"initial": transformer.shapes(CONFIG)} if lora.rank else None
    assert aliased(lambda: program.step.lower(described(program.like), batch, frozen)) >= held(program.like)


@pytest.mark.parametrize("shape", [None, (2, 2, 2)], ids=str)
def test_the_engine_overwrites_its_slots(shape: tuple[int, int, int] | None) -> None:
    mesh = None if shape is None else make_mesh(Mesh(*shape))
    made: Any = programs(CONFIG, Decoding(batch=8, repetition_penalty=1.1), (1,), mesh)
    weights = jax.eval_shape(lambda params: made.weights(params, 64), transformer.shapes(CONFIG))
    prompts = jax.eval_shape(made.prefill, weights, jnp.zeros((8, 16), jnp.int32), jnp.zeros(8, jnp.int32))
    slots = made.empty(64)
    size, given = held(slots), described(slots)
    row = jax.ShapeDtypeStruct((8,), jnp.int32)
    assert aliased(lambda: made.decode.lower(weights, given, jax.ShapeDtypeStruct((), jnp.int32))) >= size
    assert aliased(lambda: made.seat.lower(given, prompts, Seats(row, given.keys, row))) >= size  # type: ignore[arg-type]
    assert aliased(lambda: made.emptied.lower(given)) >= size
    assert aliased(lambda: made.free.lower(given, jax.ShapeDtypeStruct((8,), bool))) >= size
