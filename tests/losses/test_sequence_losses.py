"""Losses on whole sequences against NumPy and torch in float64, gradients included; how sequences are made of packed tokens."""

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.advantages import Standardized
from w2sr_jax.losses.policy import Learning, learning, needs_rollouts
from w2sr_jax.losses.preference import Dpo, Ipo, PreferenceLoss, RobustDpo, SimPo
from w2sr_jax.losses.sequences import Gspo, Sequences, available, of_tokens

ROWS, EACH = 3, 4


def sequences(seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, 30, (ROWS, EACH)).astype(float)
    logprob = -tokens * rng.uniform(0.2, 1.0, tokens.shape)
    drift = rng.normal(0, 1, tokens.shape)
    advantage = rng.choice([-1.5, 0.5, 1.0], tokens.shape)
    arrays = (logprob, tokens, logprob - drift, advantage, logprob - tokens * rng.normal(0, 5e-4, tokens.shape))
    return Sequences(*(jnp.asarray(array, jnp.float32) for array in arrays), available=jnp.ones(tokens.shape, bool))


def pairs(given: Sequences) -> list[dict[str, np.ndarray]]:
    """Right and wrong of each pair, float64, one pair after the other."""
    names = ("logprob", "tokens", "reference")
    flat = {name: np.asarray(getattr(given, name), np.float64).reshape(-1, 2) for name in names}
    return [{name: values[at] for name, values in flat.items()} for at in range(ROWS * EACH // 2)]


def log_sigmoid(x: float) -> float:
    return float(-np.log1p(np.exp(-x)))


def dpo(pair: dict, beta: float, smoothing: float) -> float:
    x = beta * np.diff(pair["reference"] - pair["logprob"])[0]
    return -(1 - smoothing) * log_sigmoid(x) - smoothing * log_sigmoid(-x)


def robust(pair: dict, beta: float, flip: float) -> float:
    x = beta * np.diff(pair["reference"] - pair["logprob"])[0]
    return (-(1 - flip) * log_sigmoid(x) + flip * log_sigmoid(-x)) / (1 - 2 * flip)


def ipo(pair: dict, beta: float) -> float:
    right, wrong = (pair["logprob"] - pair["reference"]) / pair["tokens"]
    return (right - wrong - 1 / (2 * beta)) ** 2


def simpo(pair: dict, beta: float, gamma: float) -> float:
    right, wrong = pair["logprob"] / pair["tokens"]
    return -log_sigmoid(beta * (right - wrong) - gamma)


CASES = [
    (Dpo(), lambda pair: dpo(pair, 0.1, 0.0)),
    (Dpo(0.5, label_smoothing=0.2), lambda pair: dpo(pair, 0.5, 0.2)),
    (RobustDpo(0.3, 0.15), lambda pair: robust(pair, 0.3, 0.15)),
    (Ipo(0.2), lambda pair: ipo(pair, 0.2)),
    (SimPo(), lambda pair: simpo(pair, 2.0, 1.0)),
]


@pytest.mark.parametrize(("loss", "plain"), CASES, ids=[str(loss) for loss, _ in CASES])
def test_values_and_gradients_match_numpy(loss: PreferenceLoss, plain: Any) -> None:
    given = sequences()
    result = loss(given)
    assert result.shape == (ROWS, EACH // 2)
    np.testing.assert_allclose(result.reshape(-1), [plain(pair) for pair in pairs(given)], rtol=1e-5)
    slope = jax.grad(lambda logprob: jnp.sum(loss(given._replace(logprob=logprob))))(given.logprob)
    expected = []
    for pair in pairs(given):
        for away in (np.array([1e-5, 0.0]), np.array([0.0, 1e-5])):
            up, down = ({**pair, "logprob": pair["logprob"] + sign * away} for sign in (1, -1))
            expected.append((plain(up) - plain(down)) / 2e-5)
    np.testing.assert_allclose(slope.reshape(-1), expected, rtol=1e-4, atol=1e-7)


def test_dpo_matches_torch_in_float64() -> None:
    torch = pytest.importorskip("torch")
    given = sequences(1)
    logprob = torch.tensor(np.asarray(given.logprob, np.float64), requires_grad=True)
    margin = logprob - torch.tensor(np.asarray(given.reference, np.float64))
    loss = -torch.nn.functional.logsigmoid(0.1 * (margin[:, 0::2] - margin[:, 1::2])).mean()
    loss.backward()
    value, slope = jax.value_and_grad(lambda x: jnp.mean(Dpo()(given._replace(logprob=x))))(given.logprob)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-6)
    np.testing.assert_allclose(slope, logprob.grad.numpy(), rtol=1e-5, atol=1e-9)


def test_dpo_at_the_reference_is_log_2_with_the_closed_gradient() -> None:
    given = sequences()
    given = given._replace(reference=given.logprob)
    value, slope = jax.value_and_grad(lambda x: jnp.sum(Dpo(0.3)(given._replace(logprob=x))))(given.logprob)
    np.testing.assert_allclose(value, ROWS * EACH / 2 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(slope[:, 0::2], -0.15, rtol=1e-6)
    np.testing.assert_allclose(slope[:, 1::2], 0.15, rtol=1e-6)


def test_robust_dpo_is_unbiased_under_flips() -> None:
    """The mean over flipped and unflipped pairs, at their rates, is the DPO loss of the true order."""
    given = sequences()
    swapped = Sequences(*(array.reshape(ROWS, -1, 2)[:, :, ::-1].reshape(ROWS, EACH) for array in given))
    loss = RobustDpo(0.2, flip=0.3)
    np.testing.assert_allclose(0.7 * loss(given) + 0.3 * loss(swapped), Dpo(0.2)(given), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(RobustDpo(0.2, flip=0.0)(given), Dpo(0.2)(given), rtol=1e-6)


@pytest.mark.parametrize("loss", [Dpo(), RobustDpo(), SimPo(), Ipo()], ids=str)
def test_the_gradient_raises_the_right_text_and_lowers_the_wrong_one(loss: PreferenceLoss) -> None:
    given = sequences()
    slope = jax.grad(lambda x: jnp.sum(loss(given._replace(logprob=x))))(given.logprob)
    assert (slope[:, 0::2] < 0).all()
    assert (slope[:, 1::2] > 0).all()


def test_margins_say_which_pairs_are_ordered() -> None:
    given = sequences()
    delta = np.asarray(given.logprob - given.reference)
    np.testing.assert_allclose(Dpo().margin(given), delta[:, 0::2] - delta[:, 1::2], rtol=1e-5, atol=1e-5)
    assert not SimPo().uses_reference
    np.testing.assert_array_equal(SimPo()(given._replace(reference=0 * given.reference)), SimPo()(given))


def test_gspo_matches_numpy() -> None:
    given = sequences()
    x = {name: np.asarray(getattr(given, name), np.float64) for name in ("logprob", "tokens", "sampled", "advantage")}

    def plain(logprob: np.ndarray) -> np.ndarray:
        ratio = np.exp((logprob - x["sampled"]) / x["tokens"])
        return -np.minimum(ratio * x["advantage"], np.clip(ratio, 1 - 3e-4, 1 + 4e-4) * x["advantage"])

    np.testing.assert_allclose(Gspo()(given), plain(x["logprob"]), rtol=1e-5)
    slope = jax.grad(lambda logprob: jnp.sum(Gspo()(given._replace(logprob=logprob))))(given.logprob)
    expected = (plain(x["logprob"] + 1e-6) - plain(x["logprob"] - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-6)
    assert 0 < np.count_nonzero(np.asarray(slope)) < ROWS * EACH  # some are clipped


def test_gspo_on_its_own_rollouts_has_the_gradient_of_the_mean_token() -> None:
    given = sequences()
    given = given._replace(sampled=given.logprob)
    slope = jax.grad(lambda logprob: jnp.sum(Gspo()(given._replace(logprob=logprob))))(given.logprob)
    np.testing.assert_allclose(slope, -given.advantage / given.tokens, rtol=1e-5)
    assert needs_rollouts(Gspo())
    assert learning(Gspo()) == Learning(Standardized(), "sequence", (3e-4, 4e-4))


def test_sequences_are_sums_over_the_supervised_tokens_of_segments() -> None:
    rng = np.random.default_rng(0)
    segments = np.array([[1, 1, 1, 2, 2, 2, 2, 0], [1, 2, 2, 3, 3, 0, 0, 0]])
    supervised = np.array([[0, 1, 1, 0, 1, 1, 0, 0], [1, 0, 1, 0, 0, 0, 0, 0]], bool)
    logprob, sampled = (np.where(supervised, rng.normal(size=segments.shape), np.nan) for _ in range(2))
    reference, advantage = (jnp.asarray(rng.normal(size=(2, 4)), jnp.float32) for _ in range(2))
    given = of_tokens(
        jnp.asarray(logprob, jnp.float32),
        jnp.asarray(supervised),
        jnp.asarray(segments),
        4,
        reference,
        advantage,
        jnp.asarray(sampled, jnp.float32),
    )
    for row in range(2):
        for at in range(4):
            own = supervised[row] & (segments[row] == at + 1)
            np.testing.assert_allclose(given.logprob[row, at], logprob[row][own].sum(), rtol=1e-6)
            np.testing.assert_allclose(given.sampled[row, at], sampled[row][own].sum(), rtol=1e-6)
            assert given.tokens[row, at] == own.sum()
            assert given.available[row, at] == own.any()
    np.testing.assert_array_equal(given.reference, reference)
    np.testing.assert_array_equal(available(Dpo(), given), [[True, False], [True, False]])
    np.testing.assert_array_equal(available(Gspo(), given), given.available)
    plain = of_tokens(jnp.zeros((2, 8)), jnp.asarray(supervised), jnp.asarray(segments), 2)
    assert plain.reference.shape == plain.advantage.shape == plain.sampled.shape == (2, 2)


@pytest.mark.parametrize("loss", [Dpo(), RobustDpo(), Ipo(), SimPo(), Gspo()], ids=str)
def test_losses_of_what_is_not_there_are_finite(loss: Any) -> None:
    nothing = of_tokens(jnp.zeros((1, 4)), jnp.zeros((1, 4), bool), jnp.zeros((1, 4), jnp.int32), 2)
    assert np.isfinite(loss(nothing)).all()
    assert np.isfinite(jax.grad(lambda x: jnp.sum(loss(nothing._replace(logprob=x))))(nothing.logprob)).all()


@pytest.mark.parametrize("far", [-1e4, 1e4])
@pytest.mark.parametrize("loss", [Dpo(), RobustDpo(), Ipo(), SimPo(), Gspo(), Gspo(clip=None)], ids=str)
def test_far_from_the_reference_losses_stay_finite(loss: Any, far: float) -> None:
    given = sequences()
    given = given._replace(reference=given.reference.at[:, 0::2].add(far), sampled=given.sampled + far)
    assert np.isfinite(loss(given)).all()
    assert np.isfinite(jax.grad(lambda x: jnp.sum(loss(given._replace(logprob=x))))(given.logprob)).all()


def test_a_preference_loss_of_ones_own() -> None:
    class Hinge(PreferenceLoss):
        def of_margin(self, margin: Any) -> Any:
            return jnp.maximum(0.0, 1.0 - margin)

    given = sequences()
    delta = np.asarray(given.logprob - given.reference)
    np.testing.assert_allclose(Hinge()(given), np.maximum(0, 1 - (delta[:, 0::2] - delta[:, 1::2])), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Dpo(beta=0.0), r"Dpo\.beta is 0\.0"),
        (lambda: Dpo(label_smoothing=0.5), r"Dpo\.label_smoothing"),
        (lambda: RobustDpo(flip=0.5), r"RobustDpo\.flip"),
        (lambda: Ipo(float("nan")), r"Ipo\.beta"),
        (lambda: SimPo(gamma=-1.0), r"SimPo\.gamma"),
        (lambda: Gspo(clip=(0.0, 1.0)), r"Gspo\.clip"),
        (lambda: Gspo(advantages="mean"), r"Gspo\.advantages is 'mean'"),
    ],
)
def test_parameters_out_of_range_are_named(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_describing_preferences_does_not_import_jax() -> None:
    code = "import sys, w2sr_jax.losses.preference; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
