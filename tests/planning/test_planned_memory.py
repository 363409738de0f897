"""Memory by arithmetic: against closed forms, and against what the compiler says of the same programs on 8 virtual devices.

The programs are those of a run: their text is that of what training and sampling compile for arrays that exist.
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.batches.batch import Batch
from w2sr_jax.batches.settings import Batching
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import DrGrpo
from w2sr_jax.losses.preference import Dpo
from w2sr_jax.losses.rollout_watch import RolloutWatch
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.planning import fitting, memory
from w2sr_jax.planning.compile import figures
from w2sr_jax.planning.programs import Decode, Engine, Lay, Prefill, Seat, TrainStep
from w2sr_jax.planning.reading import HeldOut, Reference, SequenceReference
from w2sr_jax.preflight.meshes import Shape
from w2sr_jax.sampling.programs import programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.policy.program import learning_from
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(vocab_size=512, width=64, layers=3, heads=8, kv_heads=4, mlp=256, qk_norm=True)
ROWS, LENGTH = 16, 128
HOW = Training(accumulation=2, batching=Batching(length=LENGTH, rows=ROWS))
PLAIN = TrainStep(MODEL, Objective(Nll()), HOW, 10)
ENGINE = Engine(MODEL, Decoding(batch=16, top_k=4), prompt=40, longest=120)
SCALARS = 1024
"""Bytes of steps, counts, flags and metrics, which are nobody's parameters."""


def compiled(program: Any, shape: tuple[int, int, int]) -> Any:
    return program.compile(make_mesh(Mesh(*shape)))


def operations(text: str) -> list[str]:
    """A program's text without where in the code each operation comes from."""
    return [re.sub(r",? ?metadata=\{.*?\}", "", line) for line in text.splitlines() if " = " in line and "op" in line]


def test_closed_forms_on_one_device() -> None:
    alone = Shape(1, 1, 1)
    bytes_ = PLAIN.memory(alone, 0)
    assert bytes_.parameters == 4 * MODEL.parameters()
    assert bytes_.optimizer == 8 * MODEL.parameters()
    assert dataclasses.replace(PLAIN, training=dataclasses.replace(HOW, moments="bfloat16")).memory(alone, 0).optimizer == (
        4 * MODEL.parameters()
    )
    cache = 2 * MODEL.layers * MODEL.kv_heads * MODEL.head_size * 128 * 16 * 4
    assert Decode(ENGINE).memory(alone, 0).cache == cache + 16 * MODEL.vocab_size * 4
    assert Decode(ENGINE).memory(alone, 77).beside == 77 + 4 * MODEL.parameters()


def test_parameters_and_moments_are_split_over_fsdp_and_tensor() -> None:
    whole, split = PLAIN.memory(Shape(8, 1, 1), 0), PLAIN.memory(Shape(1, 8, 1), 0)
    unsplit = 4 * MODEL.layers * 2 * MODEL.head_size  # scales of heads
    assert split.parameters == (whole.parameters - unsplit) // 8 + unsplit
    assert split.optimizer == 2 * split.parameters
    assert Decode(ENGINE).memory(Shape(1, 4, 2), 0).cache < Decode(ENGINE).memory(Shape(1, 4, 1), 0).cache


def test_what_the_backward_pass_keeps_falls_with_what_it_recomputes() -> None:
    kept = [memory.row_bytes(dataclasses.replace(MODEL, remat=remat), LENGTH) for remat in memory.remats()]
    assert kept[0] > kept[1] > kept[2] >= kept[3], "dense attention of short rows is recomputed either way"
    residual = MODEL.layers * LENGTH * MODEL.width * 4
    assert residual <= kept[-1] <= 2 * residual, "a layer's input, and what is kept once for all layers"


@pytest.mark.parametrize("shape", [(2, 2, 2)], ids=str)
def test_a_train_step_takes_what_the_arithmetic_says(shape: tuple[int, int, int]) -> None:
    bytes_, real = PLAIN.memory(Shape(*shape), 0), figures(compiled(PLAIN, shape))
    batch = 8 * 4 * ROWS * LENGTH // (shape[0] * shape[1])
    assert 0 <= real.arguments - bytes_.parameters - bytes_.optimizer <= batch + SCALARS
    assert real.results <= SCALARS, "the state is overwritten"
    assert 0.5 <= real.temporaries / bytes_.activations <= 1.5
    assert real.exchanged["all-reduce"] > 0


@pytest.mark.parametrize(
    ("more", "parts"),
    [
        ({"training": dataclasses.replace(HOW, lora=Lora(rank=2))}, "frozen"),
        ({"objective": Objective(Nll() + 0.1 * ReverseKL()), "training": dataclasses.replace(HOW, reference_top=4)}, "batch"),
    ],
    ids=["adapters", "stored reference"],
)
def test_what_a_step_reads_besides_is_counted(more: dict[str, Any], parts: str) -> None:
    step = dataclasses.replace(PLAIN, **more)
    shape = (1, 8, 1)
    bytes_, real = step.memory(Shape(*shape), 0), figures(compiled(step, shape))
    stored = ROWS * LENGTH // 8 * (8 * step.training.reference_top + 4) if parts == "batch" else 0
    batch = 8 * 4 * ROWS * LENGTH // 8
    assert bytes_.frozen == (PLAIN.memory(Shape(*shape), 0).parameters if parts == "frozen" else 0)
    held = bytes_.parameters + bytes_.optimizer + bytes_.frozen
    assert stored <= real.arguments - held <= stored + batch + SCALARS, "what the loss does not look at is not taken"


def test_a_step_on_pairs_is_compiled_as_a_run_does() -> None:
    step = dataclasses.replace(PLAIN, sequences=Dpo(), count=4)
    bytes_, real = step.memory(Shape(1, 8, 1), 0), figures(compiled(step, (1, 8, 1)))
    batch = 8 * 4 * ROWS * LENGTH // 8 + 2 * 4 * ROWS * 4
    assert 0 <= real.arguments - bytes_.parameters - bytes_.optimizer <= batch + SCALARS
    assert 0.5 <= real.temporaries / bytes_.activations <= 1.5


def test_a_step_on_own_answers_has_the_rows_that_its_mesh_shares_evenly() -> None:
    learns = learning_from(Objective(DrGrpo()), Decoding(), None, RolloutWatch())
    own = dataclasses.replace(PLAIN, objective=Objective(DrGrpo()), own=learns)
    odd = dataclasses.replace(own, training=dataclasses.replace(HOW, batching=Batching(length=LENGTH, rows=10)))
    assert odd.memory(Shape(2, 4, 1), 0) == own.memory(Shape(2, 4, 1), 0)
    assert odd.memory(Shape(1, 1, 1), 0).activations < own.memory(Shape(1, 1, 1), 0).activations
    one, other = (figures(compiled(step, (2, 4, 1))) for step in (odd, own))
    assert (one.arguments, one.temporaries) == (other.arguments, other.temporaries)


@pytest.mark.parametrize("shape", [(1, 4, 2)], ids=str)
def test_the_engine_takes_what_the_arithmetic_says(shape: tuple[int, int, int]) -> None:
    wanted = Shape(*shape)
    lay, decode = figures(compiled(Lay(ENGINE), shape)), figures(compiled(Decode(ENGINE), shape))
    seat, prefill = figures(compiled(Seat(ENGINE), shape)), figures(compiled(Prefill(ENGINE), shape))
    bytes_ = Decode(ENGINE).memory(wanted, 0)
    assert abs(lay.arguments - bytes_.beside) <= SCALARS
    assert lay.results == pytest.approx(bytes_.parameters, rel=0.01)
    assert decode.arguments == pytest.approx(bytes_.parameters + bytes_.cache, rel=0.01)
    assert seat.arguments == pytest.approx(bytes_.cache + prefill.results, rel=0.02)
    assert prefill.results == pytest.approx(Prefill(ENGINE).memory(wanted, 0).cache, rel=0.05)


def test_passes_that_only_read_compile_and_take_the_parameters() -> None:
    of_pairs = SequenceReference(MODEL, ROWS, LENGTH, 4)
    for program in (HeldOut(MODEL, 12, LENGTH), Reference(MODEL, 4, ROWS, LENGTH, 256), of_pairs):
        bytes_, real = program.memory(Shape(1, 8, 1), 0), figures(compiled(program, (1, 8, 1)))
        assert abs(real.arguments - bytes_.parameters) <= 5 * 4 * ROWS * LENGTH // 8 + SCALARS
        assert 0.3 <= real.temporaries / bytes_.activations <= 3


def test_the_programs_are_those_of_a_run() -> None:
    mesh = make_mesh(Mesh(2, 2, 2))
    made: Any = make_program(MODEL, PLAIN.objective, HOW, 10, mesh)
    params = put(transformer.init(MODEL, jax.random.key(0)), made.params)
    ids, real = np.ones((ROWS, LENGTH), np.int32), np.ones((ROWS, LENGTH), np.float32)
    batch = put(Batch(ids, ids, ids, ids, ids, ids, real, real), batch_sharding(mesh))
    trained = made.step.lower(made.fresh(params), batch, None).compile().as_text()
    assert operations(trained) == operations(PLAIN.compile(mesh).as_text())
    engine: Any = programs(MODEL, ENGINE.decoding, ENGINE.end_tokens, mesh, None)
    weights = engine.weights(params, ENGINE.slots)
    drawn = engine.decode.lower(weights, engine.empty(ENGINE.slots), jnp.int32(1)).compile().as_text()
    assert operations(drawn) == operations(Decode(ENGINE).compile(mesh).as_text())


def test_as_many_rows_fit_as_are_said_to() -> None:
    shape, room = Shape(1, 8, 1), 3.0e6
    for fit in fitting.fits(PLAIN, shape, room, 1000):
        assert fit.rows % 8 == 0
        assert fitting.taken(PLAIN, fit.remat, fit.rows + 8, shape, 1000) > room
        assert not fit.rows or fitting.taken(PLAIN, fit.remat, fit.rows, shape, 1000) <= room
    rows = [fit.rows for fit in fitting.fits(PLAIN, shape, 1e9, 0)]
    assert rows == sorted(rows)
    assert rows[0] > 0
    assert [fit.rows for fit in fitting.fits(PLAIN, shape, 1e3, 0)] == [0] * 4


def test_the_cheapest_rematerialisation_is_the_first_that_fits() -> None:
    listed = [fitting.Fit("none", 8), fitting.Fit("products", 32), fitting.Fit("attention", 64)]
    assert fitting.cheapest(listed, 8) == "none"
    assert fitting.cheapest(listed, 16) == "products"
    assert fitting.cheapest(listed, 128) is None
