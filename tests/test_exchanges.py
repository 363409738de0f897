"""What devices exchange in the programs that a run compiles for a mesh. Each may be given what belongs to its own rows, and a
matrix at a time: never the rows of all devices, the stack of all layers, or a table that moves about.

Sizes tell what an array is: only what holds tokens has a size that 19 divides, only a stack of layers an axis of 5.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.collectives import Collective, collectives
from w2sr_jax.parallel.mesh import batch_sharding, make_mesh, shardings
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.programs import programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training import reference
from w2sr_jax.training.likelihood import sums
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training

ROWS, LENGTH, LAYERS, WIDTH, VOCABULARY = 32, 19, 5, 16, 64
APART = ModelConfig(vocab_size=VOCABULARY, width=WIDTH, layers=LAYERS, heads=4, kv_heads=2, mlp=24, tied_embeddings=False)
TIED = ModelConfig(vocab_size=VOCABULARY, width=WIDTH, layers=LAYERS, heads=4, kv_heads=2, mlp=24, tied_embeddings=True)
NLL, REFERENCED = Objective(Nll(), block=64), Objective(Nll() + 0.1 * ReverseKL(), block=64)
MESHES = [(2, 4, 1), (4, 2, 1), (2, 2, 2), (1, 8, 1), (8, 1, 1), (1, 4, 2)]
ONCE = "jit(step)/shard_map/psum"
MIXED = [(2, 4, 1), (2, 2, 2)]


def exchanged(lowered: Any) -> list[Collective]:
    return collectives(lowered.compile().as_text())


def check(found: list[Collective], shape: tuple[int, int, int], rows: int = ROWS) -> None:
    """`rows` are those of a micro-batch, over all devices."""
    data, fsdp, tensor = shape
    for each in found:
        if rows != ROWS and each.name == ONCE:  # the gradients of several micro-batches, of the parameters that a device holds
            assert (each.times, len(each.groups[0])) == (1, data)
            continue
        assert LAYERS not in each.shape, f"the layers' parameters are exchanged at once: {each}"
        if each.size % LENGTH == 0:
            whole = each.dtype == "s32"  # ids go to all devices that hold columns of the embedding
            most = rows * LENGTH // data if whole else rows * LENGTH * WIDTH // (data * fsdp)
            assert each.size <= most, f"a device is given more than its own {most} numbers: {each}"
        else:
            assert each.size <= VOCABULARY * WIDTH // tensor, f"more than a matrix is exchanged at once: {each}"
        moved = each.kind == "collective-permute" and each.size >= VOCABULARY * WIDTH // (fsdp * tensor)
        assert not moved, f"a table only changes its place: {each}"
    assert any(each.kind == "all-to-all" for each in found) == (fsdp > 1)


def step(
    shape: tuple[int, int, int], config: ModelConfig, objective: Objective = NLL, frozen: bool = False, **training: Any
) -> list[Collective]:
    program: Any = make_program(config, objective, Training(**training), 10, make_mesh(Mesh(*shape)))
    whole, real = (jax.ShapeDtypeStruct((ROWS, LENGTH), kind) for kind in (jnp.int32, jnp.float32))
    batch = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    return exchanged(program.step.lower(program.like, batch, {"initial": transformer.shapes(config)} if frozen else None))


@pytest.mark.parametrize("shape", MESHES, ids=str)
def test_a_training_step_gives_no_device_the_rows_of_others(shape: tuple[int, int, int]) -> None:
    found = step(shape, APART)
    check(found, shape)
    tables = [each for each in found if each.kind == "all-gather" and each.size == VOCABULARY * WIDTH // shape[2]]
    assert len(tables) == (shape[1] > 1), "the output matrix alone is gathered whole, for the loss"


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("accumulation", (2, 4, 1)),
        ("accumulation", (2, 2, 2)),
        ("adapters", (2, 2, 2)),
        ("reference", (2, 2, 2)),
    ],
)
def test_neither_does_any_other_kind_of_step(kind: str, shape: tuple[int, int, int]) -> None:
    if kind == "accumulation":
        check(step(shape, TIED, accumulation=2), shape, ROWS // 2)
    elif kind == "adapters":
        check(step(shape, APART, frozen=True, lora=Lora(rank=2)), shape)
    else:
        check(step(shape, TIED, REFERENCED, frozen=True), shape)


def placed(tree: Any, places: Any) -> Any:
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree, places)


@pytest.mark.parametrize("shape", MIXED, ids=str)
def test_nor_does_what_only_reads(shape: tuple[int, int, int]) -> None:
    mesh, config = make_mesh(Mesh(*shape)), TIED
    params = placed(transformer.shapes(config), shardings(mesh, transformer.logical_axes(config), transformer.shapes(config)))
    whole, real = (jax.ShapeDtypeStruct((ROWS, LENGTH), kind, sharding=batch_sharding(mesh)) for kind in (jnp.int32, jnp.float32))
    read = jax.jit(sums, static_argnums=(0, 1, 2, 3))
    check(exchanged(read.lower(config, Nll(), 64, mesh, params, whole, whole, whole, whole, real)), shape)
    check(exchanged(reference.values_at.lower(config, 4, ROWS, mesh, params, whole, whole, whole)), shape)


def weights_of(model: ModelConfig) -> set[tuple[int, ...]]:
    """The shapes of a layer's weights, and of the table, either way round."""
    shapes = {leaf.shape for leaf in jax.tree.leaves(transformer.shapes(model))}
    layer = {shape[1:] if shape[0] == LAYERS else shape for shape in shapes}
    return layer | {shape[::-1] for shape in layer}


@pytest.mark.parametrize("shape", MIXED, ids=str)
def test_a_device_draws_from_the_logits_of_its_own_rows(shape: tuple[int, int, int]) -> None:
    mesh, own = make_mesh(Mesh(*shape)), ROWS // (shape[0] * shape[1])
    made: Any = programs(
        TIED, Decoding(batch=ROWS, top_k=4, top_p=0.9, repetition_penalty=1.1, record_top=3), (1,), mesh, sampled=True
    )
    weights = made.weights(transformer.init(TIED, jax.random.key(0)), 128)
    prompts = jax.device_put(np.zeros((ROWS, LENGTH), np.int32), batch_sharding(mesh))
    for lowered in (
        made.decode.lower(weights, made.empty(128), np.int32(1)),
        made.prefill.lower(weights, prompts, prompts[:, 0]),
    ):
        for each in exchanged(lowered):
            if each.shape in weights_of(TIED):
                continue  # of which a device at rest holds a part
            most = own * (LENGTH * WIDTH if each.size % LENGTH == 0 else VOCABULARY)
            assert each.size <= most, f"a device is given more than its own {most} numbers: {each}"
