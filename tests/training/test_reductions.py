"""What devices add up in a training step: gradients once a step and parameter, however many micro-batches there are and however
often a parameter is used. Counted in bytes that a device sends, as rings send them, against the number of parameters."""

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.collectives import Collective, collectives
from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.planning import memory
from w2sr_jax.training.program import make_program, parameter_shardings

ROWS, LENGTH = 32, 16
MODEL = ModelConfig(vocab_size=512, width=32, layers=3, heads=4, kv_heads=2, mlp=64)
LOOSE = 1.2
"""How much more may be sent: sums of the loss and the like."""


def step(mesh: jax.sharding.Mesh, accumulation: int, tied: bool) -> list[Collective]:
    training = replace(toy.SETTINGS, accumulation=accumulation)
    program: Any = make_program(replace(MODEL, tied_embeddings=tied), Objective(block=64), training, 10, mesh)
    whole, real = (jax.ShapeDtypeStruct((ROWS, LENGTH), kind) for kind in (jnp.int32, jnp.float32))
    batch = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    return collectives(program.step.lower(program.like, batch, None).compile().as_text())


def over(mesh: jax.sharding.Mesh, axis: str) -> set[frozenset[int]]:
    """The groups of devices along an axis."""
    ids = np.vectorize(lambda device: device.id)(mesh.devices)
    along = np.moveaxis(ids, mesh.axis_names.index(axis), -1).reshape(-1, mesh.shape[axis])
    return {frozenset(group) for group in along.tolist()}


def added(each: Collective) -> float:
    """Bytes that a device sends for a sum that all keep."""
    ways = len(each.groups[0])
    return 2 * each.bytes * each.times * (ways - 1) / ways


@pytest.mark.parametrize(
    ("shape", "accumulation", "tied"),
    [((8, 1, 1), 1, True), ((8, 1, 1), 4, True), ((2, 2, 2), 1, True), ((2, 2, 2), 4, True), ((4, 2, 1), 4, False)],
)
def test_gradients_are_added_up_over_data_once(shape: tuple[int, int, int], accumulation: int, tied: bool) -> None:
    mesh, config = make_mesh(Mesh(*shape)), replace(MODEL, tied_embeddings=tied)
    groups = over(mesh, "data")
    sums = [each for each in step(mesh, accumulation, tied) if each.kind == "all-reduce"]
    data = sum(added(each) for each in sums if set(map(frozenset, each.groups)) == groups)
    held = memory.split_bytes(transformer.shapes(config), parameter_shardings(config, mesh))
    needed = 2 * held * (shape[0] - 1) / shape[0]
    assert 0.95 * needed <= data <= LOOSE * needed


@pytest.mark.parametrize(("shape", "accumulation"), [((1, 8, 1), 1), ((2, 2, 2), 4)])
def test_no_device_is_given_the_whole_gradient_of_the_output_matrix(shape: tuple[int, int, int], accumulation: int) -> None:
    _, fsdp, tensor = shape
    found = step(make_mesh(Mesh(*shape)), accumulation, tied=False)
    rows, columns = MODEL.width // fsdp, MODEL.vocab_size // tensor
    scattered = [each for each in found if each.kind == "reduce-scatter" and each.shape == (rows, columns)]
    assert sum(each.times for each in scattered) == accumulation
    sums = [each for each in found if each.kind == "all-reduce" and columns in each.shape]
    assert all(each.size <= rows * columns for each in sums)


@pytest.mark.parametrize(
    ("mesh", "accumulation", "tied"),
    [(Mesh(data=8), 1, True), (Mesh(data=4), 2, True), (Mesh(2, 2, 2), 2, True), (Mesh(2, 4, 1), 1, False)],
    ids=str,
)
def test_the_sums_are_those_of_one_device(mesh: Mesh, accumulation: int, tied: bool) -> None:
    model = replace(toy.MODEL, tied_embeddings=tied)
    initial = transformer.init(model, jax.random.key(3))
    losses: list[list[float]] = []
    for shape, count in ((Mesh(data=1), 1), (mesh, accumulation)):
        training = replace(toy.SETTINGS, accumulation=count)
        program = make_program(model, Objective(), training, 6, make_mesh(shape))
        state, feed = program.fresh(put(initial, program.params)), toy.batches()
        losses.append([])
        for number in range(4):
            state, metrics = program.step(state, put(feed.batch_at(number), batch_sharding(make_mesh(shape))), None)
            losses[-1].append(float(metrics["loss"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_the_partitioner_copies_nothing_for_want_of_a_better_way() -> None:
    """It says so, on the standard error stream, where it does; a lookup that is left to it shows that this would be seen."""
    code = f"""
        import sys
        from w2sr_jax.models import transformer
        import test_reductions as tests
        for shape, accumulation in {[((1, 8, 1), 4), ((2, 2, 2), 1), ((2, 2, 2), 4), ((8, 1, 1), 4)]}:
            tests.step(tests.make_mesh(tests.Mesh(*shape)), accumulation, tied=True)
        print("END OF STEPS", file=sys.stderr, flush=True)
        def plain(table, tokens, dtype, sharding):
            looked_up = table[tokens]
            return looked_up if sharding is None else tests.jax.lax.with_sharding_constraint(looked_up, sharding)
        transformer.lookup = plain
        tests.step(tests.make_mesh(tests.Mesh(2, 2, 2)), 1, tied=False)
    """
    here = Path(__file__).parent
    environment = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "0", "TF_CPP_MIN_LOG_LEVEL": "0"}
    environment["PYTHONPATH"] = os.pathsep.join([str(here), str(here.parent), str(here.parents[1])])
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert child.returncode == 0, child.stderr[-2000:]
    steps, plain = child.stderr.split("END OF STEPS")
    assert "nvoluntary full rematerialization" in plain
    assert "nvoluntary full rematerialization" not in steps
