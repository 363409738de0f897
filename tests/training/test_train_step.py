"""The step against full logits, against itself split over micro-batches, and on eight devices against one."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.models import transformer
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.program import make_program
from w2sr_jax.training.settings import Training

TOTAL = 6
# Unequal weights, a reference and trimming at once; 50 does not divide the tokens.
HARD = Objective(Nll() + 0.3 * ReverseKL(), TokenWeights(answer=3.0, incorrect=0.2, confidence_gamma=0.5), trim=0.1, block=50)


def program(training: Training = toy.SETTINGS, objective: Objective | None = None, mesh: Mesh = toy.ONE) -> Any:
    return make_program(toy.MODEL, objective or Objective(), training, TOTAL, make_mesh(mesh))


def close(left: Any, right: Any, atol: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol), left, right)


def full_logits_loss(params: Any, reference: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
    """HARD's loss, written out; and how many tokens it is a mean of."""

    def log_p(params: Any) -> jax.Array:
        hidden = transformer.forward(toy.MODEL, params, batch.tokens, batch.positions, batch.segments)
        return jax.nn.log_softmax(transformer.logits(toy.MODEL, params, hidden))

    student, frozen = log_p(params), jax.lax.stop_gradient(log_p(reference))
    nll = -jnp.take_along_axis(student, batch.target[..., None], -1)[..., 0]
    losses = nll + 0.3 * (jnp.exp(student) * (student - frozen)).sum(-1)
    weight = batch.weight * np.where(batch.span == 2, 3.0, 1.0) * np.where(batch.verdict < 0, 0.2, 1.0)
    known = ~np.isnan(batch.teacher_logprob)
    confidence = np.where(known, np.exp(0.5 * batch.teacher_logprob), 1.0)
    confidence[known] *= (weight * known).sum() / (weight * known * confidence).sum()
    weight = weight * confidence
    supervised = weight > 0
    worst = np.sort(np.asarray(jax.lax.stop_gradient(losses))[supervised])[::-1][: int(0.1 * supervised.sum())]
    weight = np.where(np.isin(np.asarray(jax.lax.stop_gradient(losses)), worst), 0.0, weight)
    return (losses * weight).sum() / weight.sum(), jnp.float32((weight > 0).sum())


def test_hard_objective_equals_full_logits_and_does_not_depend_on_accumulation() -> None:
    reference = toy.params(1)
    states, metrics = [], []
    for accumulation in (1, 4):
        training = dataclasses.replace(toy.SETTINGS, accumulation=accumulation)
        state, measured = toy.steps(program(training, HARD), 3, reference)
        states.append(state)
        metrics.append(measured)
    for whole, split in zip(*metrics):
        assert split == pytest.approx(whole, rel=1e-6, abs=1e-6)
    close(states[0].params, states[1].params, 1e-6)

    value, tokens = full_logits_loss(toy.params(), reference, toy.batches().batch_at(0))
    assert metrics[0][0]["loss"] == pytest.approx(float(value), rel=1e-5)
    assert metrics[0][0]["tokens"] == tokens


def test_gradient_is_that_of_the_weighted_mean_over_full_logits() -> None:
    batch = toy.batches().batch_at(0)

    def mean_nll(params: Any) -> jax.Array:
        hidden = transformer.forward(toy.MODEL, params, batch.tokens, batch.positions, batch.segments)
        log_p = jax.nn.log_softmax(transformer.logits(toy.MODEL, params, hidden))
        nll = -jnp.take_along_axis(log_p, batch.target[..., None], -1)[..., 0]
        return (nll * batch.weight).sum() / batch.weight.sum()

    value, slope = jax.jit(jax.value_and_grad(mean_nll))(toy.params())
    _, metrics = toy.steps(program(), 1)
    assert metrics[0]["loss"] == pytest.approx(float(value), rel=1e-5)
    norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(slope)))
    assert metrics[0]["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert metrics[0]["weight"] == pytest.approx(float(batch.weight.sum()), rel=1e-5)
    assert metrics[0]["tokens"] == (batch.weight > 0).sum()
    assert metrics[0]["learning_rate"] == pytest.approx(toy.SETTINGS.learning_rate, rel=1e-5)


@pytest.mark.parametrize("mesh", [Mesh(data=8), Mesh(data=2, fsdp=2, tensor=2)], ids=["data8", "data2-fsdp2-tensor2"])
def test_eight_devices_equal_one(mesh: Mesh) -> None:
    one, expected = toy.steps(program(), 4)
    many, metrics = toy.steps(program(mesh=mesh), 4)
    for got, want in zip(metrics, expected):
        assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    close(many.params, one.params, 1e-4)
    table = many.params["embedding"]
    assert table.sharding.shard_shape(table.shape) == (32 // max(1, mesh.tensor), 16 // max(1, mesh.fsdp))
    moments = [leaf for leaf in jax.tree.leaves(many.opt_state) if leaf.shape == table.shape]
    assert len(moments) == 2
    assert all(leaf.sharding == table.sharding for leaf in moments)


def test_accumulation_on_eight_devices_equals_one() -> None:
    training = dataclasses.replace(toy.SETTINGS, accumulation=2)
    one, _ = toy.steps(program(), 2)
    many, _ = toy.steps(program(training, mesh=Mesh(data=2, fsdp=2, tensor=2)), 2)
    close(many.params, one.params, 1e-4)


def test_compiled_once_and_non_finite_changes_nothing_but_the_flag() -> None:
    traces = []

    def explodes(tokens: Any) -> jax.Array:
        traces.append(1)
        losses = -jax.nn.log_softmax(tokens.logits)[jnp.arange(len(tokens.target)), tokens.target]
        return jnp.where((tokens.progress > 0.3) & (tokens.progress < 0.5), jnp.nan, losses)

    made = program(objective=Objective(explodes))
    before, _ = toy.steps(made, 2)
    count = len(traces)
    after, metrics = toy.steps(made, 4)
    assert len(traces) == count
    assert [measured["sound"] for measured in metrics] == [1, 1, 0, 0]
    assert np.isnan(metrics[2]["loss"])
    close(after.params, before.params, 0.0)
    close(after.opt_state, before.opt_state, 0.0)
    assert (int(after.step), bool(after.sound)) == (2, False)


def test_bfloat16_computes_in_bfloat16_on_float32_master_weights() -> None:
    config = dataclasses.replace(toy.MODEL, dtype="bfloat16")
    made = make_program(config, Objective(), toy.SETTINGS, TOTAL, make_mesh(toy.ONE))
    state, metrics = toy.steps(made, 3)
    _, exact = toy.steps(program(), 3)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert [m["loss"] for m in metrics] == pytest.approx([m["loss"] for m in exact], rel=2e-2)
    assert [m["loss"] for m in metrics] != [m["loss"] for m in exact]
