"""The blocked loss against the same loss on full logits: value, gradient, padding, splits, precision, devices."""

import dataclasses
import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.blocks import Frozen, LossSum, TokenData, blocked, token_losses
from w2sr_jax.losses.inputs import Distribution
from w2sr_jax.losses.token import (
    Confidence,
    Entropy,
    ForwardKL,
    Jsd,
    Nll,
    OnCorrect,
    ReverseKL,
    TokenLoss,
    Tokens,
    Unlikelihood,
    ZLoss,
)

EVERYTHING = Nll() + Jsd(beta=0.3) + 0.1 * Unlikelihood() - 0.1 * Entropy() + Confidence(0.5) + 1e-2 * ZLoss()
PROGRESS = 0.1


def problem(tokens: int = 30, width: int = 8, vocabulary: int = 11, seed: int = 0, dtype: Any = jnp.float32) -> tuple:
    """hidden, output, data, (reference's hidden, output); a third of the tokens unsupervised, weights unequal."""
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.normal(size=(tokens, width)), dtype)
    output = jnp.asarray(rng.normal(size=(width, vocabulary)), dtype)
    frozen = (
        jnp.asarray(rng.normal(size=(tokens, width + 1)), dtype),
        jnp.asarray(rng.normal(size=(width + 1, vocabulary)), dtype),
    )
    data = TokenData(
        jnp.asarray(rng.integers(0, vocabulary, tokens), jnp.int32),
        jnp.asarray(rng.integers(1, 4, tokens), jnp.int32),
        jnp.asarray(rng.integers(-1, 2, tokens), jnp.int32),
        jnp.full(tokens, jnp.nan, jnp.float32),
        jnp.asarray(rng.choice([0.0, 0.5, 2.0], tokens), jnp.float32),
    )
    return hidden, output, data, frozen


def full(
    loss: TokenLoss, hidden: jax.Array, output: jax.Array, data: TokenData, frozen: tuple, softcap: float | None = None
) -> jax.Array:
    logits, other = (jnp.matmul(h.astype(jnp.float32), w.astype(jnp.float32)) for h, w in ((hidden, output), frozen))
    if softcap is not None:
        logits, other = (softcap * jnp.tanh(each / softcap) for each in (logits, other))
    models = {"initial": Distribution(other)}
    tokens = Tokens(logits, data.target, data.span, data.verdict, data.teacher_logprob, models, jnp.float32(PROGRESS))
    return jnp.sum(data.weight * loss(tokens))


def beside(frozen: tuple, softcap: float | None = None) -> dict[str, Frozen]:
    return {"initial": Frozen(*frozen, softcap)}


def value_and_gradient(loss: TokenLoss, block: int, hidden, output, data, frozen, mesh=None, softcap=None):
    def objective(hidden, output):
        sums = blocked(loss, hidden, output, data, PROGRESS, beside(frozen, softcap), block, mesh, softcap)
        return sums.loss_sum, sums

    (_, sums), slopes = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True))(hidden, output)
    return sums, slopes


def compare(loss: TokenLoss, block: int, arguments: tuple, softcap: float | None = None) -> None:
    hidden, output, data, frozen = arguments
    reference = jax.jit(jax.value_and_grad(partial(full, loss, softcap=softcap), (0, 1)))
    expected, expected_slopes = reference(hidden, output, data, frozen)
    sums, slopes = value_and_gradient(loss, block, *arguments, softcap=softcap)
    np.testing.assert_allclose(sums.loss_sum, expected, rtol=1e-5, atol=1e-5)
    for slope, right in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(slope, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("loss", [case[1] for case in reference.CASES], ids=[case[0] for case in reference.CASES])
def test_every_loss_matches_full_logits(loss: TokenLoss) -> None:
    compare(loss, 7, problem())


def test_capped_logits_match_full_capped_logits() -> None:
    arguments = problem()
    compare(EVERYTHING, 7, arguments, softcap=1.5)
    losses = token_losses(EVERYTHING, *arguments[:3], PROGRESS, beside(arguments[3], 1.5), 7, softcap=1.5)
    expected = full(EVERYTHING, *arguments, softcap=1.5)
    np.testing.assert_allclose(jnp.sum(arguments[2].weight * losses), expected, rtol=1e-5)


@pytest.mark.parametrize("block", [1, 29, 30, 1000])
def test_any_block_size_matches_full_logits(block: int) -> None:
    compare(EVERYTHING, block, problem())


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(2, 12), st.integers(1, 25), st.integers(0, 100))
def test_any_shape_matches_full_logits(tokens: int, width: int, vocabulary: int, block: int, seed: int) -> None:
    compare(Nll() + 0.5 * ForwardKL(), block, problem(tokens, width, vocabulary, seed))


def test_several_models_match_their_full_logits() -> None:
    hidden, output, data, frozen = problem()
    _, _, _, other = problem(width=5, seed=1)
    available = jnp.arange(30) % 4 > 0
    teacher = topk.of_logits(jnp.asarray(np.random.default_rng(2).normal(size=(30, 11)), jnp.float32), 3)
    teacher = TopK(teacher.ids.at[5, 2].set(-1), teacher.logprobs, teacher.rest, available)
    loss = Nll() + ForwardKL("teacher") + 0.5 * Jsd("other") + ReverseKL() + OnCorrect(ReverseKL("teacher"))
    models = {**beside(frozen), "teacher": teacher, "other": Frozen(*other, 1.5), "unused": Frozen(*other)}

    def blockwise(hidden: jax.Array, output: jax.Array) -> jax.Array:
        return blocked(loss, hidden, output, data, PROGRESS, models, 7).loss_sum

    def whole(hidden: jax.Array, output: jax.Array) -> jax.Array:
        distributions = {
            "initial": Distribution(frozen[0] @ frozen[1]),
            "other": Distribution(1.5 * jnp.tanh(other[0] @ other[1] / 1.5)),
            "teacher": Distribution(jnp.asarray(evenly(teacher, 11), jnp.float32), available),
        }
        return jnp.sum(data.weight * loss(Tokens(hidden @ output, *data[:4], distributions, jnp.float32(PROGRESS))))

    for one, right in zip(*(jax.value_and_grad(f, (0, 1))(hidden, output) for f in (blockwise, whole)), strict=True):
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), one, right)


def evenly(top: TopK, vocabulary: int) -> np.ndarray:
    """Log-probabilities in float64, one token after the other."""
    whole = np.zeros((len(top.rest), vocabulary))
    for row, (ids, logprobs, rest) in enumerate(zip(top.ids, top.logprobs, top.rest, strict=True)):
        listed = {int(token): float(value) for token, value in zip(ids, logprobs, strict=True) if token >= 0}
        share = np.exp(float(rest)) / (vocabulary - len(listed))
        whole[row] = [listed.get(token, np.log(share)) for token in range(vocabulary)]
    return whole


@pytest.mark.parametrize("kind", [ForwardKL, ReverseKL, Jsd])
def test_a_teacher_that_is_nowhere_known_adds_nothing(kind: type) -> None:
    hidden, output, data, _ = problem()

    def value(loss: TokenLoss, models: Any) -> Any:
        return jax.value_and_grad(lambda h: blocked(loss, h, output, data, PROGRESS, models, 7).loss_sum)(hidden)

    for one, other in zip(value(Nll() + kind("teacher"), {"teacher": None}), value(Nll(), {}), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_companion_sums() -> None:
    hidden, output, data, frozen = problem()
    sums = blocked(EVERYTHING, hidden, output, data, PROGRESS, beside(frozen), 8)
    logits, target, supervised = np.asarray(hidden @ output), np.asarray(data.target), np.asarray(data.weight) != 0
    nll = np.array([-np.log(reference.softmax(z)[y]) for z, y in zip(logits, target, strict=True)])
    np.testing.assert_allclose(sums.weight_sum, np.sum(data.weight))
    np.testing.assert_allclose(sums.token_sum, supervised.sum())
    np.testing.assert_allclose(sums.nll_sum, nll[supervised].sum(), rtol=1e-5)
    np.testing.assert_allclose(sums.correct_sum, (logits.argmax(1) == target)[supervised].sum())


def test_a_student_that_cannot_tell_is_right_by_chance() -> None:
    hidden, output, data, _ = problem(vocabulary=10)
    sums = blocked(Nll(), 0 * hidden, output, data, 0.0, block=8)
    np.testing.assert_allclose(sums.correct_sum / sums.token_sum, 0.1, rtol=1e-5)


def test_value_alone_equals_value_with_gradient() -> None:
    arguments = problem()
    sums, _ = value_and_gradient(EVERYTHING, 8, *arguments)
    hidden, output, data, frozen = arguments
    alone = blocked(EVERYTHING, hidden, output, data, PROGRESS, beside(frozen), 8)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), alone, sums)


def test_the_gradient_follows_the_chain_rule() -> None:
    hidden, output, data, frozen = problem()

    def mean(loss_of: Any, hidden: jax.Array) -> jax.Array:
        return jnp.log(loss_of(jnp.tanh(hidden))) / 3

    def through_blocks(hidden):
        return blocked(Nll(), hidden, output, data, PROGRESS, block=8).loss_sum

    expected = jax.grad(partial(mean, lambda h: full(Nll(), h, output, data, frozen)))(hidden)
    np.testing.assert_allclose(jax.grad(partial(mean, through_blocks))(hidden), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("loss", [ForwardKL(), EVERYTHING])
def test_the_reference_gets_no_gradient(loss: TokenLoss) -> None:
    hidden, output, data, frozen = problem()
    slopes = jax.grad(lambda frozen: blocked(loss, hidden, output, data, PROGRESS, beside(frozen), 8).loss_sum)(frozen)
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0.0)


def test_unsupervised_tokens_have_no_influence_whatever_they_hold() -> None:
    hidden, output, data, frozen = problem()
    ignored = np.flatnonzero(np.asarray(data.weight) == 0)
    poisoned = data._replace(target=data.target.at[ignored].set(-(10**6)), verdict=data.verdict.at[ignored].set(7))
    arguments = hidden.at[ignored].set(jnp.nan), output, poisoned, (frozen[0].at[ignored].set(jnp.inf), frozen[1])
    clean_sums, clean_slopes = value_and_gradient(EVERYTHING, 7, hidden, output, data, frozen)
    sums, slopes = value_and_gradient(EVERYTHING, 7, *arguments)
    jax.tree.map(np.testing.assert_array_equal, (sums, slopes), (clean_sums, clean_slopes))
    np.testing.assert_array_equal(np.asarray(slopes[0])[ignored], 0.0)


def test_an_ill_defined_loss_of_unsupervised_tokens_has_no_influence() -> None:
    def mine(tokens: Tokens) -> jax.Array:
        return jnp.sqrt(tokens.teacher_logprob) * tokens.logits[:, 0] / jnp.where(tokens.span > 0, 1.0, 0.0)

    hidden, output, data, frozen = problem()
    data = data._replace(teacher_logprob=jnp.where(data.weight == 0, -1.0, 4.0), span=jnp.where(data.weight == 0, 0, 1))
    sums, slopes = value_and_gradient(mine, 7, hidden, output, data, frozen)
    np.testing.assert_allclose(sums.loss_sum, 2 * np.sum(data.weight * (hidden @ output)[:, 0]), rtol=1e-5)
    assert all(np.isfinite(slope).all() for slope in slopes)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_supervised_tokens_that_are_not_finite_are_not_hidden(bad: float) -> None:
    hidden, output, data, frozen = problem()
    chosen = int(np.flatnonzero(np.asarray(data.weight))[0])
    sums, slopes = value_and_gradient(Nll(), 7, hidden.at[chosen, 0].set(bad), output, data, frozen)
    assert not np.isfinite(sums.loss_sum)
    assert not np.isfinite(slopes[1]).all()
    assert not np.isfinite(token_losses(Nll(), hidden.at[chosen].set(bad), output, data, PROGRESS, beside(frozen), 7)[chosen])


@pytest.mark.parametrize("cuts", [(15,), (1, 10), (0, 23)])
def test_splits_of_the_tokens_add_up(cuts: tuple[int, ...]) -> None:
    hidden, output, data, frozen = problem()
    whole, slopes = value_and_gradient(Nll() + 0.5 * ForwardKL(), 8, hidden, output, data, frozen)
    bounds = [0, *sorted(cuts), 30]
    parts = []
    for start, stop in itertools.pairwise(bounds):
        part = (
            hidden[start:stop],
            output,
            jax.tree.map(lambda x, a=start, b=stop: x[a:b], data),
            (frozen[0][start:stop], frozen[1]),
        )
        parts.append(value_and_gradient(Nll() + 0.5 * ForwardKL(), 8, *part))
    total = jax.tree.map(lambda *values: sum(values), *[sums for sums, _ in parts])
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), total, whole)
    np.testing.assert_allclose(np.concatenate([s[0] for _, s in parts]), slopes[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sum(s[1] for _, s in parts), slopes[1], rtol=1e-5, atol=1e-5)


def test_accumulation_in_a_scan_matches_the_whole() -> None:
    hidden, output, data, frozen = problem()
    micro = jax.tree.map(lambda x: x.reshape(3, 10, *x.shape[1:]), (hidden, data, frozen[0]))

    @jax.jit
    def accumulated(output):
        def step(slope, part):
            h, d, f = part
            models = beside((f, frozen[1]))
            return slope + jax.grad(lambda w: blocked(EVERYTHING, h, w, d, PROGRESS, models, 4).loss_sum)(output), None

        return jax.lax.scan(step, jnp.zeros_like(output), micro)[0]

    _, slopes = value_and_gradient(EVERYTHING, 8, hidden, output, data, frozen)
    np.testing.assert_allclose(accumulated(output), slopes[1], rtol=1e-5, atol=1e-5)


def test_bfloat16_is_summed_in_float32() -> None:
    hidden, output, data, frozen = problem(tokens=600, dtype=jnp.bfloat16)
    sums, slopes = value_and_gradient(Nll(), 16, hidden, output, data, frozen)
    expected, right = jax.value_and_grad(partial(full, Nll()), (0, 1))(
        hidden.astype(jnp.float32), output.astype(jnp.float32), data, frozen
    )
    assert sums.loss_sum.dtype == jnp.float32
    assert [slope.dtype for slope in slopes] == [jnp.bfloat16, jnp.bfloat16]
    np.testing.assert_allclose(sums.loss_sum, expected, rtol=1e-5)
    for slope, exact in zip(slopes, right, strict=True):
        np.testing.assert_allclose(np.asarray(slope, np.float32), exact, rtol=0.02, atol=0.01 * np.abs(exact).max())


def test_losses_per_token() -> None:
    hidden, output, data, frozen = problem()
    losses = jax.jit(partial(token_losses, EVERYTHING, block=7))(hidden, output, data, PROGRESS, beside(frozen))
    tokens = Tokens(hidden @ output, *data[:4], {"initial": Distribution(frozen[0] @ frozen[1])}, jnp.float32(PROGRESS))
    np.testing.assert_allclose(losses, np.where(data.weight != 0, EVERYTHING(tokens), 0), rtol=1e-5, atol=1e-5)


def test_an_unhashable_loss_works() -> None:
    @dataclasses.dataclass
    class Mine:
        scale: float

        def __call__(self, tokens: Tokens) -> jax.Array:
            return self.scale * Nll()(tokens)

    hidden, output, data, frozen = problem()
    one, slopes = value_and_gradient(Mine(2.0), 8, hidden, output, data, frozen)
    other, other_slopes = value_and_gradient(Nll(), 8, hidden, output, data, frozen)
    np.testing.assert_allclose(one.loss_sum, 2 * other.loss_sum, rtol=1e-6)
    np.testing.assert_allclose(slopes[1], 2 * other_slopes[1], rtol=1e-6)


def test_mistakes_are_said() -> None:
    hidden, output, data, _ = problem()
    with pytest.raises(UserError, match="the model 'initial', which was not given"):
        blocked(Nll() + Jsd(), hidden, output, data, 0.0)
    with pytest.raises(UserError, match="block"):
        blocked(Nll(), hidden, output, data, 0.0, block=0)


def device_mesh(data: int, fsdp: int, tensor: int) -> jax.sharding.Mesh:
    if jax.device_count() < data * fsdp * tensor:
        pytest.skip("needs 8 virtual devices (XLA_FLAGS=--xla_force_host_platform_device_count=8)")
    return jax.make_mesh((data, fsdp, tensor), ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)


def on_mesh(mesh: jax.sharding.Mesh, arguments: tuple) -> tuple:
    rows, matrix = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in ((("data", "fsdp"),), ("fsdp", "tensor")))
    hidden, output, data, frozen = arguments
    return (
        jax.device_put(hidden, rows),
        jax.device_put(output, matrix),
        jax.device_put(data, rows),
        (jax.device_put(frozen[0], rows), jax.device_put(frozen[1], matrix)),
    )


@pytest.mark.parametrize(
    ("shape", "told"),
    [((2, 2, 2), True), ((8, 1, 1), True), ((1, 1, 8), True), ((2, 2, 2), False)],
    ids=["all axes", "tokens", "vocabulary", "mesh left to the compiler"],
)
def test_eight_devices_agree_with_one(shape: tuple[int, int, int], told: bool) -> None:
    hidden, output, data, frozen = problem(tokens=48, width=8, vocabulary=16)
    frozen = (frozen[0][:, :8], frozen[1][:8])
    mesh, loss = device_mesh(*shape), Nll() + 0.5 * ForwardKL() + Confidence()
    one_sums, one_slopes = value_and_gradient(loss, 16, hidden, output, data, frozen)
    spread = on_mesh(mesh, (hidden, output, data, frozen))
    sums, slopes = value_and_gradient(loss, 16, *spread, mesh=mesh if told else None)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), (sums, slopes), (one_sums, one_slopes))
    losses = jax.jit(partial(token_losses, loss, block=16, mesh=mesh if told else None))(*spread[:3], PROGRESS, beside(spread[3]))
    np.testing.assert_allclose(
        losses, token_losses(loss, hidden, output, data, PROGRESS, beside(frozen), 16), rtol=1e-5, atol=1e-5
    )


def test_tokens_that_do_not_divide_over_the_devices_are_refused() -> None:
    hidden, output, data, _ = problem()
    mesh = device_mesh(4, 2, 1)
    with pytest.raises(UserError, match="30 tokens"):
        blocked(Nll(), hidden, output, data, 0.0, mesh=mesh)


def test_sums_have_the_structure_that_accumulation_needs() -> None:
    hidden, output, data, frozen = problem()
    for value in (blocked(Nll(), hidden, output, data, 0.0), value_and_gradient(Nll(), 8, hidden, output, data, frozen)[0]):
        assert isinstance(value, LossSum)
        assert len(jax.tree.leaves(value)) == 5
        assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(value))
