"""The policy losses against NumPy in float64, gradients by central differences; identities between them; what they ask for."""

import dataclasses
import functools
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import policy_reference as reference
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.advantages import Centered, LeaveOneOut, Standardized, advantages
from w2sr_jax.losses.blocks import TokenData, blocked
from w2sr_jax.losses.inputs import Rollout, Tokens
from w2sr_jax.losses.policy import (
    K3,
    Dapo,
    DrGrpo,
    Grpo,
    Learning,
    PolicyLoss,
    Reinforce,
    learning,
    needs_rollouts,
    token_weights,
)
from w2sr_jax.losses.token import ForwardKL, Nll, OnCorrect, ReverseKL, TokenLoss

IDS = [case[0] for case in reference.CASES]


def gradient(loss: TokenLoss, data: dict) -> jax.Array:
    logits = jnp.asarray(data["logits"], jnp.float32)
    return jax.grad(lambda z: jnp.sum(loss(reference.tokens(data, z))))(logits)


@pytest.mark.parametrize(("loss", "plain"), [case[1:] for case in reference.CASES], ids=IDS)
def test_value_and_gradient_match_numpy(loss: TokenLoss, plain: Any) -> None:
    data = reference.sample()
    result = loss(reference.tokens(data))
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, reference.values(plain, data), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient(loss, data), reference.gradients(plain, data), rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("loss", [case[1] for case in reference.CASES], ids=IDS)
def test_ratios_beyond_float32_stay_finite(loss: TokenLoss) -> None:
    data = reference.sample()
    for far in (-300.0, 300.0):
        extreme = {**data, "sampled": data["sampled"] + far, "initial": data["initial"] * 300}
        assert np.isfinite(loss(reference.tokens(extreme))).all()
        assert np.isfinite(gradient(loss, extreme)).all()


class Step:
    """Rollouts of a step through a linear model, packed one after the other: 3 problems with 4 rollouts each."""

    lengths = np.array([3, 9, 1, 6, 5, 5, 2, 8, 4, 7, 3, 1])
    most = 10

    def __init__(self, drift: float = 0.0) -> None:
        rng = np.random.default_rng(3)
        count = int(self.lengths.sum())
        self.rewards = np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.5, 1.0, 0.0, 0.25]])
        self.rollout = np.repeat(np.arange(12), self.lengths)
        self.hidden = jnp.asarray(rng.normal(size=(count, 6)), jnp.float32)
        self.output = jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)
        self.target = jnp.asarray(rng.integers(0, 8, count), jnp.int32)
        logprobs = jax.nn.log_softmax(self.hidden @ self.output)
        now = jnp.take_along_axis(logprobs, self.target[:, None], 1)[:, 0]
        self.sampled = now + jnp.asarray(drift * rng.normal(size=count), jnp.float32)

    def slope(self, loss: Any, weights: np.ndarray | None = None, rule: Any = None) -> tuple[Any, Any]:
        """The gradient of the step's loss in both matrices, with its own advantages and weights unless others are given."""
        weights = token_weights(loss.denominator, self.lengths, np.ones(12, bool), self.most) if weights is None else weights
        advantage = advantages(rule or loss.advantages, self.rewards).reshape(-1)
        whole = jnp.ones(self.target.shape, jnp.int32)
        per_token = [jnp.asarray(each[self.rollout], jnp.float32) for each in (weights, advantage)]
        data = TokenData(self.target, whole, whole, jnp.zeros(whole.shape), per_token[0], per_token[1], self.sampled)
        return jax.grad(lambda h, w: blocked(loss, h, w, data, 0.0, block=16).loss_sum, (0, 1))(self.hidden, self.output)


def same(left: Any, right: Any, tolerance: float = 2e-6) -> None:
    for one, other in zip(left, right, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=tolerance)


def test_grpo_on_its_own_rollouts_without_clip_has_the_gradient_of_reinforce() -> None:
    step, weights = Step(), token_weights("sequence", Step.lengths, np.ones(12, bool), 10)
    same(step.slope(Grpo(clip=None)), step.slope(Reinforce(), weights, Standardized()))
    # and with the clip too, since every ratio is 1
    same(step.slope(Grpo()), step.slope(Reinforce(), weights, Standardized()))
    assert np.abs(step.slope(Grpo())[1]).max() > 1e-2


def test_dr_grpo_differs_from_grpo_by_the_length_and_the_standard_deviation() -> None:
    step = Step()
    per_problem = np.repeat(step.rewards.std(axis=1, ddof=1) + 1e-6, 4)
    grpo = token_weights("sequence", step.lengths, np.ones(12, bool), step.most)
    factors = per_problem * step.lengths / step.most
    same(step.slope(DrGrpo()), step.slope(Grpo(), grpo * factors))
    assert np.abs(np.asarray(step.slope(DrGrpo())[1]) - np.asarray(step.slope(Grpo())[1])).max() > 1e-3


def test_leave_one_out_is_centred_times_a_constant() -> None:
    step = Step()
    one, other = (step.slope(Reinforce(advantages=rule)) for rule in (LeaveOneOut(), Centered()))
    same(one, jax.tree.map(lambda leaf: leaf * 4 / 3, other))


def test_reinforce_is_that_of_whole_answers_as_actions_in_torch() -> None:
    """The logarithm of an answer's probability is a sum over its tokens: with the denominator 1 nothing else is left."""
    torch = pytest.importorskip("torch")
    step = Step()
    hidden, output = (torch.tensor(np.asarray(array, np.float64), requires_grad=True) for array in (step.hidden, step.output))
    each = torch.log_softmax(hidden @ output, dim=-1).gather(-1, torch.tensor(np.asarray(step.target, np.int64))[:, None])[:, 0]
    whole = torch.zeros(12, dtype=torch.float64).index_add(0, torch.tensor(step.rollout), each)
    (-torch.tensor(advantages(LeaveOneOut(), step.rewards).reshape(-1)) * whole).mean().backward()
    same(step.slope(Reinforce(denominator=1)), (hidden.grad.numpy(), output.grad.numpy()), 1e-5)


def test_importance_weights_correct_an_earlier_students_rollouts() -> None:
    step = Step(drift=0.05)
    weights = token_weights("constant", step.lengths, np.ones(12, bool), step.most)
    same(step.slope(Reinforce(importance=2.0), weights), step.slope(Grpo(clip=None), weights, LeaveOneOut()))
    assert (
        np.abs(np.asarray(step.slope(Reinforce(), weights)[1]) - np.asarray(step.slope(Reinforce(importance=2.0))[1])).max()
        > 1e-3
    )


def test_the_policy_gradient_raises_the_expected_reward() -> None:
    """Over all actions, the surrogate's mean gradient under the policy is that of the expected reward, which is closed."""
    rng = np.random.default_rng(0)
    logits, reward = jnp.asarray(rng.normal(size=5), jnp.float32), rng.normal(size=5)
    p = np.exp(np.asarray(logits, np.float64))
    p /= p.sum()
    closed = p * (reward - (p * reward).sum())
    for loss in (Reinforce(), Grpo(), DrGrpo(clip=None), Dapo(), Reinforce(importance=1.5)):

        def expected(z: jax.Array, loss: Any = loss) -> jax.Array:
            logprob = jax.nn.log_softmax(z)
            rollout = Rollout(jnp.asarray(reward, jnp.float32), jax.lax.stop_gradient(logprob), logprob)
            whole = jnp.ones(5, jnp.int32)
            tokens = Tokens(jnp.tile(z, (5, 1)), jnp.arange(5), whole, whole, jnp.zeros(5), {}, jnp.float32(0), rollout)
            return jnp.sum(jnp.asarray(p, jnp.float32) * loss(tokens))

        np.testing.assert_allclose(jax.grad(expected)(logits), -closed, rtol=1e-4, atol=1e-6)


def test_k3_has_in_expectation_the_value_of_the_reverse_and_the_gradient_of_the_forward_divergence() -> None:
    data = reference.sample()
    z, r = np.asarray(data["logits"][:1]), data["initial"][:1]

    def expected(logits: jax.Array, loss: Any) -> jax.Array:
        """Under the student as it is, held constant; every token of the vocabulary is a target."""
        drawn = jax.nn.softmax(jnp.asarray(z[0], jnp.float32))
        count = reference.VOCABULARY
        every = {**data, "target": np.arange(count), "initial": np.tile(r, (count, 1)), "sampled": np.zeros(count)}
        given = reference.tokens({**every, "advantage": np.zeros(count)}, jnp.tile(logits, (count, 1)))
        return jnp.sum(drawn * loss(given._replace(span=given.span[:count], verdict=given.verdict[:count])))

    logits = jnp.asarray(z[0], jnp.float32)
    np.testing.assert_allclose(expected(logits, K3()), expected(logits, ReverseKL()), rtol=1e-5)
    np.testing.assert_allclose(jax.grad(expected)(logits, K3()), jax.grad(expected)(logits, ForwardKL()), rtol=1e-4, atol=1e-6)
    p, q = (np.exp(x) / np.exp(x).sum() for x in (z[0], r[0]))
    np.testing.assert_allclose(jax.grad(expected)(logits, K3()), p - q, rtol=1e-4, atol=1e-6)  # closed form


def test_the_distribution_that_was_sampled_is_that_of_the_ratio() -> None:
    step = Step()
    cold = jax.nn.log_softmax(step.hidden @ step.output / 0.7)

    def drawn(logits: jax.Array, target: jax.Array) -> jax.Array:
        return jnp.take_along_axis(jax.nn.log_softmax(logits / 0.7), target[:, None], 1)[:, 0]

    whole = jnp.ones(step.target.shape, jnp.int32)
    sampled = jnp.take_along_axis(cold, step.target[:, None], 1)[:, 0]
    advantage = jnp.asarray(np.random.default_rng(0).normal(size=whole.shape), jnp.float32)
    data = TokenData(step.target, whole, whole, jnp.zeros(whole.shape), jnp.ones(whole.shape), advantage, sampled)

    def total(output: jax.Array) -> jax.Array:
        return blocked(Grpo(), step.hidden, output, data, 0.0, block=7, drawn=drawn).loss_sum

    def plain(output: jax.Array) -> jax.Array:
        return -jnp.sum(advantage * drawn(step.hidden @ output, step.target))

    np.testing.assert_allclose(total(step.output), -jnp.sum(advantage), rtol=1e-4, atol=1e-5)  # every ratio is 1
    np.testing.assert_allclose(jax.grad(total)(step.output), jax.grad(plain)(step.output), rtol=1e-4, atol=1e-5)


def test_weights_are_the_declared_mean() -> None:
    lengths, counted = np.array([4, 1, 5]), np.array([True, True, False])
    losses = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([10.0]), np.full(5, 100.0)]

    def mean(denominator: Any) -> float:
        weights = token_weights(denominator, lengths, counted, 8)
        return float(sum(weight * each.sum() for weight, each in zip(weights, losses, strict=True)))

    assert mean("sequence") == pytest.approx((2.5 + 10.0 + 0.0) / 3)
    assert mean("token") == pytest.approx(20.0 / 5)
    assert mean("constant") == pytest.approx(20.0 / (3 * 8))
    assert mean(6) == pytest.approx(20.0 / (3 * 6))
    assert mean(1) == pytest.approx(20.0 / 3)
    for denominator in ("sequence", "token", "constant", 6):
        np.testing.assert_array_equal(token_weights(denominator, lengths, np.zeros(3, bool), 8), 0.0)
        assert np.isfinite(token_weights(denominator, np.zeros(3, int), np.ones(3, bool), 8)).all()


def test_a_loss_says_whether_it_needs_rollouts_and_what_it_asks_for() -> None:
    assert needs_rollouts(0.1 * ReverseKL("teacher") + DrGrpo())
    assert needs_rollouts(Nll() + OnCorrect(0.1 * K3()))
    assert not needs_rollouts(Nll() + 0.1 * ReverseKL())
    assert learning(DrGrpo() + 0.1 * ReverseKL()) == Learning(Centered(), "constant", (0.2, 0.2))
    assert learning(Dapo() + K3()) == Learning(Standardized(), "token", (0.2, 0.28))
    assert learning(Nll()) == Learning(None, None)
    assert (K3() + Grpo()).models == ("initial",)
    with pytest.raises(UserError, match="terms of one loss ask for the denominator 'sequence' and 'constant'"):
        learning(Grpo(advantages=Centered()) + DrGrpo())
    with pytest.raises(UserError, match="terms of one loss ask for the advantages"):
        learning(Grpo() + DrGrpo())


def test_a_policy_loss_of_ones_own() -> None:
    def mine(tokens: Tokens) -> jax.Array:
        rollout = tokens.drawn()
        return -rollout.advantage * jnp.minimum(rollout.logprob, -0.1)

    mine.needs_rollouts, mine.advantages, mine.denominator = True, LeaveOneOut(), "token"  # type: ignore[attr-defined]
    for loss in (mine, functools.partial(mine), mine + 0.1 * ReverseKL()):
        assert needs_rollouts(loss)
        assert learning(loss) == Learning(LeaveOneOut(), "token")

    @dataclasses.dataclass(frozen=True)
    class Mine(PolicyLoss):
        def __call__(self, tokens: Tokens) -> jax.Array:
            return mine(tokens)

    assert learning(Mine(denominator=7) + K3()) == Learning(Centered(), 7)
    step, weights = Step(), np.ones(12)
    same(step.slope(Mine(), weights), step.slope(mine, weights, Centered()), 1e-5)


@pytest.mark.parametrize("loss", [DrGrpo(), Reinforce(), K3()])
def test_without_rollouts_a_policy_loss_says_so(loss: TokenLoss) -> None:
    given = reference.tokens(reference.sample())._replace(rollout=None)
    with pytest.raises(UserError, match="looks at rollouts, which are the student's own texts, and this training has none"):
        loss(given)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Grpo(clip=(0.0, 0.2)), r"Grpo\.clip is \(0\.0, 0\.2\)"),
        (lambda: Dapo(clip=(0.2, float("nan"))), r"Dapo\.clip"),
        (lambda: DrGrpo(denominator="tokens"), r"DrGrpo\.denominator is 'tokens'"),  # type: ignore[arg-type]
        (lambda: DrGrpo(denominator=0), r"DrGrpo\.denominator is 0"),
        (lambda: DrGrpo(denominator=True), r"DrGrpo\.denominator is True"),
        (lambda: Reinforce(importance=0.0), r"Reinforce\.importance is 0\.0"),
        (lambda: Reinforce(advantages=Centered), r"Reinforce\.advantages is .*write Centered\(\)"),
        (lambda: Grpo(advantages=3), r"Grpo\.advantages is 3"),
        (lambda: K3(""), r"K3\.model"),
    ],
)
def test_parameters_out_of_range_are_named(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_describing_a_policy_does_not_import_jax() -> None:
    code = "import sys, w2sr_jax.losses.policy, w2sr_jax.losses.rollout_watch; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
