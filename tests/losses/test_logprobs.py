"""Log-probabilities block by block against full logits: values, gradients, precision, devices."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_blocked_loss import device_mesh, on_mesh, problem

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.logprobs import Logprobs, logprobs


def full(hidden: Any, output: Any, target: Any, weight: Any, softcap: float | None = None, temperature: float = 1.0) -> Logprobs:
    logits = jnp.matmul(hidden.astype(jnp.float32), output.astype(jnp.float32))
    logits = logits if softcap is None else softcap * jnp.tanh(logits / softcap)
    every = jax.nn.log_softmax(logits / temperature)
    own = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(every, target[:, None], 1)[:, 0]
    return Logprobs(*(jnp.where(weight != 0, value, 0.0) for value in (picked, -jnp.sum(jnp.exp(own) * own, -1))))


def made(of: Any, hidden: Any, output: Any, target: Any, weight: Any) -> Any:
    """Something that is not linear in the log-probabilities, its gradient and the values."""

    def total(hidden: Any, output: Any) -> Any:
        values = of(hidden, output, target, weight)
        scores = jnp.sum(values.logprob.reshape(3, -1), axis=1)
        return jnp.sum(jnp.tanh(scores) ** 2 + 0.1 * scores), values

    (_, values), slopes = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(hidden, output)
    return values, slopes


def close(one: Any, other: Any, **tolerance: float) -> None:
    jax.tree.map(partial(np.testing.assert_allclose, **{"rtol": 1e-5, "atol": 2e-6, **tolerance}), one, other)


@pytest.mark.parametrize("block", [1, 7, 30, 1000])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_values_and_gradients_are_those_of_full_logits(block: int, softcap: float | None) -> None:
    hidden, output, data, _ = problem()
    arguments = hidden / 4, output, data.target, data.weight
    close(made(partial(logprobs, block=block, softcap=softcap), *arguments), made(partial(full, softcap=softcap), *arguments))


def test_of_the_distribution_that_was_sampled() -> None:
    def drawn(logits: Any, target: Any) -> Any:
        return jnp.take_along_axis(jax.nn.log_softmax(logits / 0.5), target[:, None], 1)[:, 0]

    hidden, output, data, _ = problem()
    arguments = hidden / 8, output, data.target, data.weight
    close(made(partial(logprobs, block=7, drawn=drawn), *arguments), made(partial(full, temperature=0.5), *arguments))


def test_entropy_has_no_gradient() -> None:
    hidden, output, data, _ = problem()
    slope = jax.grad(lambda h: jnp.sum(logprobs(h, output, data.target, data.weight, 7).entropy))(hidden)
    np.testing.assert_array_equal(slope, 0.0)


def test_unsupervised_tokens_have_no_influence_whatever_they_hold() -> None:
    hidden, output, data, _ = problem()
    ignored = np.flatnonzero(np.asarray(data.weight) == 0)
    clean = made(partial(logprobs, block=7), hidden, output, data.target, data.weight)
    poisoned = hidden.at[ignored].set(jnp.nan), output, data.target.at[ignored].set(-(10**6)), data.weight != 0
    dirty = made(partial(logprobs, block=7), *poisoned)
    jax.tree.map(np.testing.assert_array_equal, dirty, clean)
    np.testing.assert_array_equal(np.asarray(dirty[1][0])[ignored], 0.0)


def test_bfloat16_is_accumulated_in_float32() -> None:
    hidden, output, data, _ = problem(tokens=600, dtype=jnp.bfloat16)
    arguments = hidden / 16, output, data.target, data.weight
    values, slopes = made(partial(logprobs, block=16), *arguments)
    expected, right = made(full, *arguments)
    assert values.logprob.dtype == jnp.float32
    assert [slope.dtype for slope in slopes] == [jnp.bfloat16, jnp.bfloat16]
    close(values, expected, rtol=1e-4, atol=1e-4)
    for slope, exact in zip(slopes, right, strict=True):
        exact = np.asarray(exact, np.float32)
        np.testing.assert_allclose(np.asarray(slope, np.float32), exact, rtol=0.02, atol=0.01 * np.abs(exact).max())


@pytest.mark.parametrize("shape", [(2, 2, 2), (8, 1, 1), (1, 1, 8)], ids=["all axes", "tokens", "vocabulary"])
@pytest.mark.parametrize("copied", [False, True])
def test_eight_devices_agree_with_one(shape: tuple[int, int, int], copied: bool) -> None:
    hidden, output, data, frozen = problem(tokens=48, width=8, vocabulary=16)
    mesh = device_mesh(*shape)
    one = made(partial(logprobs, block=16), hidden / 4, output, data.target, data.weight)
    spread = on_mesh(mesh, (hidden / 4, output, data, (frozen[0][:, :8], frozen[1][:8])))
    if not copied:
        close(made(partial(logprobs, block=16, mesh=mesh), spread[0], spread[1], spread[2].target, spread[2].weight), one)
        return
    copies = jnp.broadcast_to(output, (shape[0], *output.shape))
    values, slopes = made(partial(logprobs, block=16, mesh=mesh), spread[0], copies, spread[2].target, spread[2].weight)
    close((values, (slopes[0], jnp.sum(slopes[1], axis=0))), one)


def test_mistakes_are_said() -> None:
    hidden, output, data, _ = problem()
    with pytest.raises(UserError, match="block"):
        logprobs(hidden, output, data.target, data.weight, block=0)
    with pytest.raises(UserError, match="30 tokens"):
        logprobs(hidden, output, data.target, data.weight, mesh=device_mesh(4, 2, 1))
