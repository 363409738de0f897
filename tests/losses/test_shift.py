"""Shifts against NumPy in float64, gradients by central differences; what they become where their settings say so."""

import dataclasses
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from losses_reference import kl, softmax
from test_blocked_loss import problem

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.blocks import Frozen, blocked
from w2sr_jax.losses.inputs import Distribution, Rollout, Tokens
from w2sr_jax.losses.policy import Reinforce, learning, needs_rollouts
from w2sr_jax.losses.shift import STUDENT, Clip, Power, Shift, Verified
from w2sr_jax.losses.token import ForwardKL, ReverseKL, TokenLoss

VOCABULARY, COUNT = 6, 10
NAMES = ("initial", "teacher", "base")


def sample(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = {name: 1.5 * rng.normal(size=(COUNT, VOCABULARY)) for name in ("student", *NAMES)}
    return {**logits, "target": rng.integers(0, VOCABULARY, COUNT), "advantage": rng.choice([-1.0, 0.0, 2.0], COUNT)}


def tokens(data: dict[str, np.ndarray], logits: Any = None, available: Any = None) -> Tokens:
    logits = jnp.asarray(data["student"], jnp.float32) if logits is None else logits
    models = {name: Distribution(jnp.asarray(data[name], jnp.float32)) for name in NAMES}
    if available is not None:
        shown = jnp.where(available[:, None], models["teacher"].logits, 0.0)
        models["teacher"] = Distribution(shown, available)
    target, whole = jnp.asarray(data["target"], jnp.int32), jnp.ones(COUNT, jnp.int32)
    logprob = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1)[:, 0]
    rollout = Rollout(jnp.asarray(data["advantage"], jnp.float32), jax.lax.stop_gradient(logprob), logprob)
    return Tokens(logits, target, whole, whole, jnp.zeros(COUNT), models, jnp.float32(0), rollout)


def gradient(loss: TokenLoss, data: dict[str, np.ndarray], **how: Any) -> np.ndarray:
    logits = jnp.asarray(data["student"], jnp.float32)
    return np.asarray(jax.grad(lambda z: jnp.sum(loss(tokens(data, z, **how))))(logits))


def plain(loss: Shift, z: np.ndarray, held: np.ndarray, models: dict[str, np.ndarray]) -> float:
    """One token, from its definition; `held` is the student as stop-gradient sees it."""

    def p(name: str) -> np.ndarray:
        return softmax(held if name == "student" else models[name])

    positive, negative = p(loss.positive), p(loss.negative)
    if isinstance(loss.bound, Power):
        shift = (positive**loss.bound.alpha - negative**loss.bound.alpha) / loss.bound.alpha
    else:
        limit = loss.bound.limit if loss.bound else np.inf
        shift = np.clip(np.log(positive / negative), -limit, limit)
    target = softmax(np.log(p(loss.anchor)) + loss.strength * shift)
    student = softmax(z)
    if loss.top:
        best = np.argsort(-target)[: loss.top]
        target, student = target[best] / target[best].sum(), student[best] / student[best].sum()
    return kl(student, target) if loss.direction == "reverse" else kl(target, student)


CASES = [
    Shift(),
    Shift(strength=1.7),  # ExOPD
    Shift(negative="base"),  # W2S-OPD
    Shift(negative="base", top=3),
    Shift(negative="base", direction="forward", top=4),
    Shift(anchor="base", direction="forward", strength=0.5),
    Shift(anchor=STUDENT, positive=STUDENT, negative="base", strength=0.45),  # after WMSS
    Shift(negative="base", strength=-1.0),
    Shift(negative="base", strength=3.0, bound=Power(2.0)),
    Shift(negative="base", bound=Clip(0.5)),
    Shift(bound=Clip(0.5)),
    Shift(strength=0.0, direction="forward"),
]


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_value_and_gradient_match_numpy(loss: Shift) -> None:
    data, step = sample(), 1e-6
    expected, slope = np.zeros(COUNT), np.zeros((COUNT, VOCABULARY))
    for t in range(COUNT):
        z, models = data["student"][t], {name: data[name][t] for name in NAMES}
        expected[t] = plain(loss, z, z, models)
        for i in range(VOCABULARY):
            away = step * np.eye(VOCABULARY)[i]
            slope[t, i] = (plain(loss, z + away, z, models) - plain(loss, z - away, z, models)) / (2 * step)
    np.testing.assert_allclose(loss(tokens(data)), expected, rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(gradient(loss, data), slope, rtol=1e-3, atol=5e-6)


def same(one: TokenLoss, other: TokenLoss, tolerance: float = 2e-6, **how: Any) -> None:
    data = sample(1)
    np.testing.assert_allclose(one(tokens(data, **how)), other(tokens(data, **how)), rtol=1e-5, atol=tolerance)
    np.testing.assert_allclose(gradient(one, data, **how), gradient(other, data, **how), rtol=1e-4, atol=tolerance)


def test_without_strength_it_is_the_divergence_from_the_anchor() -> None:
    same(Shift(anchor="base", strength=0.0), ReverseKL("base"))
    same(Shift(anchor="base", strength=0.0, direction="forward"), ForwardKL("base"))
    assert Shift(anchor="base", strength=0.0).models == ("base",)


def test_with_the_anchor_as_negative_it_is_distillation_from_the_positive_model() -> None:
    same(Shift(anchor="base", negative="base"), ReverseKL("teacher"))
    same(Shift(direction="forward"), ForwardKL("teacher"))
    assert Shift(anchor="base", negative="base").models == ("teacher",)
    # and where nothing is left out, by the formula itself
    same(Shift(strength=1.0 + 1e-7), ReverseKL("teacher"), 1e-5)
    assert Shift(strength=1.0 + 1e-7).models == ("initial", "teacher")


def test_the_student_has_nothing_to_learn_from_itself() -> None:
    data = sample()
    itself = {**data, "teacher": data["student"] + 3.0}
    for direction in ("reverse", "forward"):
        loss = Shift(direction=direction)  # type: ignore[arg-type]
        np.testing.assert_allclose(gradient(loss, itself), 0.0, atol=1e-6)
        np.testing.assert_allclose(loss(tokens(itself)), 0.0, atol=1e-6)
    assert np.abs(gradient(Shift(), data)).max() > 0.1


def test_a_shift_of_nothing_is_the_divergence_from_the_anchor() -> None:
    same(Shift(positive="base", negative="base"), ReverseKL())


def test_all_of_the_vocabulary_as_top_is_exact() -> None:
    for direction in ("reverse", "forward"):
        exact = Shift(negative="base", strength=1.5, direction=direction)  # type: ignore[arg-type]
        same(dataclasses.replace(exact, top=VOCABULARY), exact)
        same(dataclasses.replace(exact, top=10 * VOCABULARY), exact)


def test_the_power_ratio_tends_to_the_logarithm_and_is_bounded() -> None:
    same(Shift(negative="base", bound=Power(1e-4)), Shift(negative="base"), 2e-3)
    extreme = {**sample(), "teacher": 200 * sample()["teacher"], "base": 200 * sample()["base"]}
    p, q = (jax.nn.log_softmax(jnp.asarray(extreme[name], jnp.float32)) for name in ("teacher", "base"))
    for alpha in (0.5, 2.0):
        assert np.abs(Power(alpha)(p, q)).max() <= 1 / alpha + 1e-6
    np.testing.assert_array_equal(np.sign(Power(1.0)(p, p)), 0.0)
    mild = [jax.nn.log_softmax(jnp.asarray(sample()[name], jnp.float32)) for name in ("teacher", "base")]
    np.testing.assert_array_equal(np.sign(Power(2.0)(*mild)), np.sign(np.asarray(mild[0] - mild[1])))


def test_shuffled_the_shift_is_that_of_other_tokens() -> None:
    data, loss = sample(), Shift(negative="base", shuffle=True)
    z = {name: np.array([np.log(softmax(row)) for row in data[name]]) for name in ("student", *NAMES)}
    shift = z["teacher"] - z["base"]
    slope = gradient(loss, data)
    # The target, solved from the gradient of the reverse divergence, is the anchor and the same shifts in another order.
    moved = []
    for t in range(COUNT):
        p = np.exp(z["student"][t])
        difference = slope[t] / p  # log p - log π* less its mean under p
        moved.append(z["student"][t] - difference - z["initial"][t])
    constant = np.sort(moved, axis=1) - np.sort(shift, axis=1)
    np.testing.assert_allclose(constant, np.repeat(constant[:, :1], VOCABULARY, axis=1), atol=1e-3)
    order = [[int(np.argmin(abs(shift[t] - (moved[t][v] - constant[t, 0])))) for v in range(VOCABULARY)] for t in range(COUNT)]
    assert all(each == order[0] for each in order)
    assert sorted(order[0]) == list(range(VOCABULARY))
    assert order[0] != list(range(VOCABULARY))
    assert loss.models == ("initial", "teacher", "base")
    assert Shift(shuffle=True).models == ("initial", "teacher")


def test_models_that_rule_out_a_token_do_not_make_it_undecidable() -> None:
    data = sample()
    for name in (*NAMES, "student"):
        data[name] = np.concatenate([data[name], np.full((COUNT, 2), -np.inf)], axis=1)
    loss = Shift(negative="base", strength=2.0)
    np.testing.assert_allclose(loss(tokens(data)), loss(tokens(sample())), rtol=1e-5)
    np.testing.assert_allclose(gradient(loss, data)[:, :-2], gradient(loss, sample()), rtol=1e-4, atol=1e-6)
    only_base = sample()
    only_base["base"][0, 0] = -np.inf
    assert np.isfinite(loss(tokens(only_base))).all()
    assert np.isfinite(gradient(loss, only_base)).all()


def test_where_a_model_is_unknown_nothing_is_learned() -> None:
    data, available = sample(), jnp.arange(COUNT) % 3 > 0
    loss = Shift(negative="base")
    unknown = ~np.asarray(available)
    np.testing.assert_array_equal(np.asarray(loss(tokens(data, available=available)))[unknown], 0.0)
    np.testing.assert_array_equal(gradient(loss, data, available=available)[unknown], 0.0)
    np.testing.assert_allclose(loss(tokens(data, available=available))[~unknown], loss(tokens(data))[~unknown], rtol=1e-6)


def test_blocked_it_is_that_of_full_logits() -> None:
    hidden, output, data, frozen = problem()
    _, _, _, other = problem(width=5, seed=1)
    recorded = topk.of_logits(jnp.asarray(np.random.default_rng(2).normal(size=(30, 11)), jnp.float32), 11)
    available = jnp.arange(30) % 4 > 0
    teacher = TopK(*recorded[:3], available)
    loss = Shift(negative="base", strength=1.3, top=4)
    models = {"initial": Frozen(*frozen), "base": Frozen(*other), "teacher": teacher}

    def blockwise(hidden: jax.Array, output: jax.Array) -> jax.Array:
        return blocked(loss, hidden, output, data, 0.0, models, 7).loss_sum

    def whole(hidden: jax.Array, output: jax.Array) -> jax.Array:
        distributions = {
            "initial": Distribution(frozen[0] @ frozen[1]),
            "base": Distribution(other[0] @ other[1]),
            "teacher": Distribution(topk.logprobs(teacher, 11), available),
        }
        return jnp.sum(data.weight * loss(Tokens(hidden @ output, *data[:4], distributions, jnp.float32(0))))

    for one, right in zip(*(jax.value_and_grad(f, (0, 1))(hidden, output) for f in (blockwise, whole)), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), one, right)


def test_a_verified_shift_only_rescales_the_gradient_of_rewards() -> None:
    data = sample()
    at = np.arange(COUNT), data["target"]
    shift = np.array([np.log(softmax(a)) - np.log(softmax(b)) for a, b in zip(data["teacher"], data["base"], strict=True)])[at]
    weight = 2 / (1 + np.exp(-1.5 * np.sign(data["advantage"]) * shift))
    loss, bare = Verified(negative="base", strength=1.5), Reinforce()
    np.testing.assert_allclose(loss(tokens(data)), weight * bare(tokens(data)), rtol=1e-5)
    np.testing.assert_allclose(gradient(loss, data), weight[:, None] * gradient(bare, data), rtol=1e-4, atol=1e-6)
    same(Verified(negative="base", strength=0.0), Reinforce())
    same(Verified(negative="base"), Reinforce(), available=jnp.zeros(COUNT, bool))
    assert needs_rollouts(loss)
    assert loss.models == ("teacher", "base")
    assert learning(loss) == learning(Reinforce())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Shift(strength=float("inf")), r"Shift\.strength is inf; it must be a finite number"),
        (lambda: Shift(strength=float("nan")), r"Shift\.strength is nan; it must be a finite number"),
        (lambda: Shift(direction="back"), r"Shift\.direction is 'back'"),  # type: ignore[arg-type]
        (lambda: Shift(top=1), r"Shift\.top is 1"),
        (lambda: Shift(positive=""), r"Shift\.positive is ''"),
        (lambda: Shift(STUDENT, STUDENT, STUDENT, strength=0.5), "looks at no model but the student"),
        (lambda: Shift(anchor=STUDENT, strength=0.0), "looks at no model but the student"),
        (lambda: Shift(positive=STUDENT), "moves the student towards itself"),
        (lambda: Power(0.0), r"Power\.alpha"),
        (lambda: Clip(-1.0), r"Clip\.limit"),
        (lambda: Verified(strength=-1.0), r"Verified\.strength"),
        (lambda: Verified(negative=3), r"Verified\.negative is 3"),  # type: ignore[arg-type]
    ],
)
def test_parameters_out_of_range_are_named(make: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()


def test_describing_a_shift_does_not_import_jax() -> None:
    code = "import sys, w2sr_jax.losses.shift; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_of_models_that_are_padded_differently_only_the_known_ids_are_compared() -> None:
    """As of output matrices that were cut to these; against NumPy, and nothing is learned of the others."""
    hidden, output, data, (other, matrix) = problem(vocabulary=13)
    known, padding = 9, jnp.full((matrix.shape[0], 4), 3.0)
    data = data._replace(target=data.target % known)
    loss = Shift(anchor="initial", positive="weak", negative="weaker", strength=0.7)

    def given(cut: int | None) -> dict[str, Frozen]:
        wide = {"initial": matrix, "weak": jnp.concatenate([-matrix, padding], axis=1), "weaker": matrix[:, ::-1][:, :11]}
        return {name: Frozen(other, each[:, :cut]) for name, each in wide.items()}

    def total(hidden: Any, output: Any, models: dict[str, Frozen], known: int | None) -> Any:
        return blocked(loss, hidden, output, data, 0.0, models, block=8, known=known).loss_sum

    both = jax.value_and_grad(total, argnums=(0, 1))
    value, (to_hidden, to_output) = both(hidden, output, given(None), known)
    cut, (cut_hidden, cut_output) = both(hidden, output[:, :known], given(known), None)
    np.testing.assert_allclose(value, cut, rtol=1e-6)
    np.testing.assert_allclose(to_hidden, cut_hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(to_output[:, :known], cut_output, rtol=1e-5, atol=1e-6)
    assert not np.any(np.asarray(to_output)[:, known:])
    logits = {name: np.asarray(each.hidden @ each.output, np.float64) for name, each in given(known).items()}
    log = {name: each - np.log(np.exp(each).sum(axis=1, keepdims=True)) for name, each in logits.items()}
    student = np.array([softmax(row) for row in np.asarray(hidden @ output[:, :known], np.float64)])
    tilted = np.array([softmax(row) for row in log["initial"] + 0.7 * (log["weak"] - log["weaker"])])
    expected = np.sum(np.asarray(data.weight) * np.sum(student * np.log(student / tilted), axis=1))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
