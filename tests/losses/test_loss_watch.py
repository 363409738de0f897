"""Diagnostics beside a loss: against NumPy, and the same however the tokens are split over blocks, micro-batches and devices."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest
from test_blocked_loss import beside, device_mesh, on_mesh, problem

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.blocks import TokenData, blocked
from w2sr_jax.losses.inputs import Tokens
from w2sr_jax.losses.policy import Grpo
from w2sr_jax.losses.rollout_watch import RolloutWatch
from w2sr_jax.losses.sums import LossSum, merge, no_tokens
from w2sr_jax.losses.token import Nll
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.accumulation import accumulated, micro_batches

WATCH = RolloutWatch(clip=(0.1, 0.2), initial=True)
CLIPPED = Grpo(clip=(0.1, 0.2))


def rollouts(tokens: int = 48) -> tuple[Any, Any, TokenData, Any]:
    hidden, output, data, frozen = problem(tokens, width=8, vocabulary=16)
    frozen = (frozen[0][:, :8], frozen[1][:8])
    rng = np.random.default_rng(5)
    now = jnp.take_along_axis(jax.nn.log_softmax(hidden @ output), data.target[:, None], 1)[:, 0]
    sampled = now - jnp.asarray(rng.uniform(-0.3, 0.3, tokens), jnp.float32)
    advantage = jnp.asarray(rng.choice([-1.0, 0.0, 2.0], tokens), jnp.float32)
    return hidden, output, data._replace(advantage=advantage, sampled=sampled), frozen


def summed(hidden: Any, output: Any, data: TokenData, frozen: Any, block: int = 16, mesh: Any = None) -> LossSum:
    return blocked(CLIPPED, hidden, output, data, 0.0, beside(frozen), block, mesh, watch=WATCH)


def close(one: LossSum, other: LossSum) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-5, atol=1e-5), one, other)


def test_diagnostics_are_those_of_numpy_over_supervised_tokens() -> None:
    hidden, output, data, frozen = rollouts()
    sums = summed(hidden, output, data, frozen)
    p, q = (np.array([reference.softmax(z) for z in np.asarray(h @ w, np.float64)]) for h, w in ((hidden, output), frozen))
    at, target = np.arange(48), np.asarray(data.target)
    ratio = p[at, target] / np.exp(np.asarray(data.sampled, np.float64))
    difference = np.log(q[at, target] / p[at, target])
    a = np.asarray(data.advantage)
    expected = {
        "entropy": -(p * np.log(p)).sum(axis=1),
        "ratio": ratio,
        "ratio_far": abs(ratio - 1) > 0.1,
        "clipped": ((ratio < 0.9) & (a < 0)) | ((ratio > 1.2) & (a > 0)),
        "kl": np.exp(difference) - difference - 1,
    }
    supervised = np.asarray(data.weight) != 0
    assert set(sums.sums) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(sums.sums[name], value[supervised].sum(), rtol=2e-5, err_msg=name)
    assert 0 < sums.sums["clipped"] < sums.sums["ratio_far"] < sums.token_sum
    np.testing.assert_allclose(sums.peaks["ratio_deviation"], abs(ratio - 1)[supervised].max(), rtol=1e-5)


def test_a_watch_changes_nothing_else() -> None:
    hidden, output, data, frozen = rollouts()

    def value(watch: Any) -> Any:
        def total(hidden: Any, output: Any) -> Any:
            sums = blocked(CLIPPED, hidden, output, data, 0.0, beside(frozen), 7, watch=watch)
            return sums.loss_sum, sums._replace(sums={}, peaks={})

        return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(hidden, output)

    jax.tree.map(np.testing.assert_array_equal, value(WATCH), value(None))


def test_a_watch_has_no_gradient() -> None:
    hidden, output, data, frozen = rollouts()
    slope = jax.grad(lambda w: summed(hidden, w, data, frozen).sums["entropy"])(output)
    np.testing.assert_array_equal(slope, 0.0)


def test_unsupervised_tokens_are_not_watched() -> None:
    hidden, output, data, frozen = rollouts()
    ignored = np.flatnonzero(np.asarray(data.weight) == 0)
    poisoned = data._replace(sampled=data.sampled.at[ignored].set(-50.0), advantage=data.advantage.at[ignored].set(jnp.nan))
    close(summed(hidden.at[ignored].set(jnp.nan), output, poisoned, frozen), summed(hidden, output, data, frozen))


def test_without_supervised_tokens_there_is_no_peak() -> None:
    hidden, output, data, frozen = rollouts()
    sums = summed(hidden, output, data._replace(weight=0 * data.weight), frozen)
    jax.tree.map(np.testing.assert_array_equal, sums, no_tokens(WATCH))
    assert sums.peaks["ratio_deviation"] == -np.inf


def test_a_deviation_that_is_no_number_is_not_hidden() -> None:
    hidden, output, data, frozen = rollouts()
    chosen = int(np.flatnonzero(np.asarray(data.weight))[-1])
    sums = summed(hidden, output, data._replace(sampled=data.sampled.at[chosen].set(jnp.nan)), frozen)
    assert np.isnan(sums.peaks["ratio_deviation"])


def test_parts_merge_to_the_whole() -> None:
    hidden, output, data, frozen = rollouts()
    total: Any = no_tokens(WATCH)
    for part in (slice(0, 5), slice(5, 6), slice(6, 48)):
        one = (hidden[part], output, jax.tree.map(lambda leaf, part=part: leaf[part], data), (frozen[0][part], frozen[1]))
        total, _ = merge((total, jnp.ones(())), (summed(*one), jnp.ones(())))
    close(total, summed(hidden, output, data, frozen))


@pytest.mark.parametrize("shape", [(2, 2, 2), (8, 1, 1), (1, 4, 2)])
def test_eight_devices_watch_what_one_does(shape: tuple[int, int, int]) -> None:
    hidden, output, data, frozen = rollouts()
    mesh = device_mesh(*shape)
    spread = on_mesh(mesh, (hidden, output, data, frozen))
    close(jax.jit(partial(summed, mesh=mesh))(*spread), summed(hidden, output, data, frozen))

    def total(output: Any) -> tuple[Any, LossSum]:
        sums = summed(spread[0], output, *spread[2:], mesh=mesh)
        return sums.loss_sum, sums

    close(jax.jit(jax.grad(total, has_aux=True))(spread[1])[1], summed(hidden, output, data, frozen))


@pytest.mark.parametrize("devices", [None, (8, 1, 1), (2, 2, 2)], ids=str)
def test_micro_batches_watch_what_the_whole_step_does(devices: tuple[int, int, int] | None) -> None:
    if devices is not None and jax.device_count() < 8:
        pytest.skip("needs 8 virtual devices (XLA_FLAGS=--xla_force_host_platform_device_count=8)")
    mesh = None if devices is None else make_mesh(Mesh(*devices))
    hidden, output, data, frozen = rollouts(64)

    def one(params: Any, other: Any, part: Any, progress: Any) -> tuple[Any, LossSum]:
        from w2sr_jax.parallel.mesh import here

        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), part)
        where = None if mesh is None else here(mesh)

        def total(output: Any) -> tuple[Any, LossSum]:
            sums = blocked(CLIPPED, flat[0], output, flat[1], progress, beside((flat[2], other)), 16, where, watch=WATCH)
            return sums.loss_sum, sums

        return jax.grad(total, has_aux=True)(params)

    def zero(params: Any) -> tuple[Any, LossSum]:
        return jnp.zeros_like(params), no_tokens(WATCH)

    batch = jax.tree.map(lambda leaf: leaf.reshape(32, 2, *leaf.shape[1:]), (hidden, data, frozen[0]))

    @jax.jit
    def step(output: Any, other: Any, batch: Any) -> Any:
        return accumulated(one, zero, output, other, micro_batches(batch, 4, mesh), jnp.float32(0), mesh)

    slope, sums = step(output, frozen[1], batch)
    close(sums, summed(hidden, output, data, frozen))
    expected = jax.grad(lambda w: summed(hidden, w, data, frozen).loss_sum)(output)
    np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-5)


def test_a_watch_of_ones_own_that_looks_at_rollouts_says_where_there_are_none() -> None:
    hidden, output, data, frozen = problem()
    with pytest.raises(UserError, match="looks at rollouts"):
        blocked(Nll(), hidden, output, data, 0.0, beside(frozen), watch=RolloutWatch())
    with pytest.raises(UserError, match="both an advantage and the log-probability"):
        blocked(Nll(), hidden, output, data._replace(sampled=data.weight), 0.0)


def test_a_watch_without_rollouts_watches_imitation() -> None:
    class Largest:
        sums, peaks = (), ("logit",)

        def __call__(self, tokens: Tokens) -> dict[str, Any]:
            return {"logit": jnp.max(tokens.logits, axis=-1)}

    hidden, output, data, _ = problem()
    sums = blocked(Nll(), hidden, output, data, 0.0, block=7, watch=Largest())
    supervised = np.asarray(data.weight) != 0
    np.testing.assert_allclose(sums.peaks["logit"], np.asarray(hidden @ output)[supervised].max(), rtol=1e-5)
