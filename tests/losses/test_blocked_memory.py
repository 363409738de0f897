"""What the compiled programs promise: memory that grows with the block, and communication that does not grow with the tokens."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from w2sr_jax.losses.blocks import Frozen, TokenData, blocked
from w2sr_jax.losses.inputs import models_of
from w2sr_jax.losses.token import Jsd, Nll, TokenLoss

TOKENS, VOCABULARY, WIDTH = 4096, 152_064, 64
FULL_LOGITS = 4 * TOKENS * VOCABULARY


def shapes(tokens: int, width: int, vocabulary: int, place: Callable[..., Any] = lambda *spec: None) -> tuple:
    """Abstract hidden, output and data; `place` gives the sharding of a partition spec."""
    rows, matrix = place(("data", "fsdp")), place("fsdp", "tensor")
    integers = jax.ShapeDtypeStruct((tokens,), jnp.int32, sharding=rows)
    reals = jax.ShapeDtypeStruct((tokens,), jnp.float32, sharding=rows)
    hidden = jax.ShapeDtypeStruct((tokens, width), jnp.float32, sharding=rows)
    output = jax.ShapeDtypeStruct((width, vocabulary), jnp.float32, sharding=matrix)
    return hidden, output, TokenData(integers, integers, integers, reals, reals)


def compiled(loss: TokenLoss, block: int, arguments: tuple, mesh: jax.sharding.Mesh | None = None) -> jax.stages.Compiled:
    def objective(hidden, output, data):
        models = {name: Frozen(hidden, output) for name in models_of(loss)}
        return blocked(loss, hidden, output, data, 0.5, models, block, mesh).loss_sum

    return jax.jit(jax.value_and_grad(objective, (0, 1))).lower(*arguments).compile()


def temporary_bytes(loss: TokenLoss, block: int) -> int:
    return compiled(loss, block, shapes(TOKENS, WIDTH, VOCABULARY)).memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_block_and_not_with_all_logits() -> None:
    small, large = temporary_bytes(Nll(), 128), temporary_bytes(Nll(), 512)
    one_block = 4 * 512 * VOCABULARY
    assert small < FULL_LOGITS / 8
    assert large < FULL_LOGITS / 2
    assert one_block / 2 < large - small < 4 * one_block


def test_memory_stays_with_the_block_for_a_loss_with_a_reference() -> None:
    one_block = 4 * 128 * VOCABULARY
    assert (
        temporary_bytes(Nll() + Jsd(), 128) < 12 * one_block
    )  # several arrays of that size; with full logits, several of 2.5 GB


def test_memory_stays_with_the_block_for_a_loss_that_looks_at_several_models() -> None:
    one_block = 4 * 32 * VOCABULARY
    one, three = (temporary_bytes(loss, 32) for loss in (Nll() + Jsd(), Nll() + Jsd() + Jsd("a") + Jsd("b")))
    assert three - one < 2 * 8 * one_block
    assert three < FULL_LOGITS / 4


def test_devices_exchange_the_gradient_of_the_output_matrix_once() -> None:
    if jax.device_count() < 8:
        pytest.skip("needs 8 virtual devices (XLA_FLAGS=--xla_force_host_platform_device_count=8)")
    mesh = jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    tokens, width, vocabulary, block = 512, 64, 1024, 128
    arguments = shapes(tokens, width, vocabulary, lambda *spec: NamedSharding(mesh, PartitionSpec(*spec)))
    text = compiled(Nll(), block, arguments, mesh).as_text()
    in_entry, in_loop = [], []
    where = in_loop
    for line in text.splitlines():
        if line and not line[0].isspace():
            where = in_entry if line.startswith("ENTRY") else in_loop
        found = re.search(r"= (.*?) (all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute)(-start)?\(", line)
        if found:
            sizes = [elements(dimensions) for dimensions in re.findall(r"\w+\[([\d,]*)\]", found[1])]
            where.append(max(sizes))
    assert in_entry
    assert max(in_entry) <= width * vocabulary // 2  # a device's half of the output matrix
    assert in_loop  # the vocabulary is split: per token, sums of the logits and the gradient of the hidden state
    assert max(in_loop) <= block // 4 * width


def elements(dimensions: str) -> int:
    size = 1
    for dimension in filter(None, dimensions.split(",")):
        size *= int(dimension)
    return size


def test_the_matrix_gradient_is_kept_apart_from_what_a_loop_around_adds_it_to() -> None:
    """Compilers for TPUs fail on a sum over devices inside the loop of micro-batches that reaches the loop's total by more than
    an addition."""
    mesh = jax.make_mesh((1, 8, 1), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)

    def step(hidden: jax.Array, output: jax.Array, data: TokenData) -> jax.Array:
        return blocked(Nll(), hidden, output, data, 0.5, {}, 64, mesh).loss_sum

    arguments = shapes(512, 64, 256, lambda *spec: NamedSharding(mesh, PartitionSpec(*spec)))
    text = jax.jit(jax.grad(step, 1)).lower(*arguments).as_text()
    assert text.index("stablehlo.reduce_scatter") < text.index("stablehlo.optimization_barrier")
