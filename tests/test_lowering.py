"""What runs on accelerators can be lowered for them from here: no operation lacks a rule for the platform, no kernel refuses the
shapes. Whether the result compiles and is right, only the device can tell (`tools/bench/gpu/attention.py`)."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.models.attention import Seen, packed
from w2sr_jax.models.config import AttentionKind, ModelConfig
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.programs import Programs, Seats, programs
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training

PLATFORMS = ("cuda", "tpu")
CONFIG = ModelConfig(
    vocab_size=64, width=32, layers=2, heads=4, kv_heads=2, head_dim=8, pattern=("local", "global"), window=8, dtype="bfloat16"
)


GPU = jax.sharding.AbstractMesh((1,), ("one",), abstract_device=jax.sharding.AbstractDevice("NVIDIA H100", None, "gpu"))
"""Kernels for a GPU are lowered for a certain one, which is not here."""


def lowered(function: Any, platform: str, *arguments: Any) -> str:
    text: str = function.trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return text


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("referenced", [False, True])
def test_the_train_step(platform: str, referenced: bool) -> None:
    objective = Objective(Nll() + 0.1 * ReverseKL() if referenced else Nll(), block=32)
    program = make_program(CONFIG, objective, Training(), 10, make_mesh(Mesh(data=2, fsdp=2)))
    whole, real = jax.ShapeDtypeStruct((4, 16), jnp.int32), jax.ShapeDtypeStruct((4, 16), jnp.float32)
    batch = Batch(whole, whole, whole, whole, whole, whole, real, real)  # type: ignore[arg-type]
    frozen = {"initial": transformer.shapes(CONFIG)} if referenced else None
    assert "func.func public @main" in lowered(program.step, platform, program.like, batch, frozen)


@functools.cache
def _engine() -> tuple[Programs, Any, Any, Any]:
    """The engine's programs for four slots, and what they take and give, as shapes."""
    decoding = Decoding(batch=4, top_k=8, top_p=0.9, repetition_penalty=1.1, record_top=3)
    made = programs(CONFIG, decoding, (1,), None, sampled=True)
    weights = jax.eval_shape(lambda params: made.weights(params, 128), transformer.shapes(CONFIG))
    prompts = jax.eval_shape(made.prefill, weights, jnp.zeros((2, 48), jnp.int32), jnp.zeros(2, jnp.int32))
    return made, weights, jax.eval_shape(lambda: made.empty(128)), prompts


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_programs_of_the_engine(platform: str) -> None:
    made, weights, slots, prompts = _engine()
    row = jax.ShapeDtypeStruct((4,), jnp.int32)
    lowered(made.prefill, platform, weights, jax.ShapeDtypeStruct((2, 48), jnp.int32), jax.ShapeDtypeStruct((2,), jnp.int32))
    lowered(made.seat, platform, slots, prompts, Seats(row, slots.keys, row))  # type: ignore[arg-type]
    lowered(made.decode, platform, weights, slots, jax.ShapeDtypeStruct((), jnp.int32))


@pytest.mark.parametrize(
    ("how", "platform"),
    [
        ("auto", "cuda"),
        ("auto", "tpu"),
        ("dense", "cuda"),
        ("blocks", "cuda"),
        ("blocks", "tpu"),
        ("pallas", "cuda"),
        ("splash", "tpu"),
    ],
)
def test_attention_with_its_gradients(how: AttentionKind, platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: {"cuda": "gpu"}.get(platform, platform))
    query, key = (jax.ShapeDtypeStruct((2, 256, heads, 128), jnp.bfloat16) for heads in (4, 2))
    row = jax.ShapeDtypeStruct((2, 256), jnp.int32)

    def total(query: Any, key: Any, value: Any, seen: Seen) -> Any:
        return packed(query, key, value, seen, 128**-0.5, None, how).astype(jnp.float32).sum()

    with jax.sharding.use_abstract_mesh(GPU) if platform == "cuda" else contextlib.nullcontext():
        lowered(jax.jit(jax.grad(total, (0, 1, 2))), platform, query, key, key, Seen(row, row, None))  # type: ignore[arg-type]
