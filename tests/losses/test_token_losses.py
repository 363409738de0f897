"""Every loss against NumPy in float64, gradients by central differences; the identities between them; composition."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import losses_reference as reference
import numpy as np
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses import formulas
from w2sr_jax.losses.inputs import Distribution, models_of
from w2sr_jax.losses.schedules import Linear
from w2sr_jax.losses.token import (
    Confidence,
    Dft,
    Entropy,
    ForwardKL,
    GeneralizedCrossEntropy,
    Jsd,
    LabelSmoothing,
    Nll,
    OnCorrect,
    OnIncorrect,
    OnSpans,
    ReverseKL,
    Sum,
    SymmetricCrossEntropy,
    TokenLoss,
    Tokens,
    Unlikelihood,
    Weighted,
    ZLoss,
)

EVERY = [loss for _, loss, _ in reference.CASES]


def tokens(data: dict | None = None, progress: float = reference.PROGRESS) -> Tokens:
    data = data or reference.sample()
    arrays = {name: jnp.asarray(value, jnp.float32 if value.dtype == float else jnp.int32) for name, value in data.items()}
    models = {"initial": Distribution(arrays.pop("reference"))}
    return Tokens(**arrays, models=models, progress=jnp.float32(progress))


def beside(given: Tokens, logits: jax.Array, model: str = "initial", available: jax.Array | None = None) -> Tokens:
    """The same tokens with another model's logits."""
    return given._replace(models={**given.models, model: Distribution(logits, available)})


def initial(given: Tokens) -> jax.Array:
    return given.models["initial"].logits


def gradient(loss: TokenLoss, given: Tokens) -> jax.Array:
    return jax.grad(lambda logits: jnp.sum(loss(given._replace(logits=logits))))(given.logits)


@pytest.mark.parametrize(("loss", "plain"), [case[1:] for case in reference.CASES], ids=[case[0] for case in reference.CASES])
def test_value_and_gradient_match_numpy(loss: TokenLoss, plain) -> None:
    data = reference.sample()
    result = loss(tokens(data))
    assert result.shape == (reference.TOKENS,)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, reference.values(plain, data), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(gradient(loss, tokens(data)), reference.gradients(plain, data), rtol=1e-4, atol=5e-6)


def same(a: TokenLoss, b: TokenLoss, given: Tokens, tolerance: float = 1e-6) -> None:
    np.testing.assert_allclose(a(given), b(given), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(gradient(a, given), gradient(b, given), rtol=tolerance, atol=tolerance)


def test_generalized_cross_entropy_tends_to_nll() -> None:
    same(GeneralizedCrossEntropy(0.0), Nll(), tokens())
    same(GeneralizedCrossEntropy(1e-4), Nll(), tokens(), tolerance=5e-3)


def test_dft_has_the_gradient_of_generalized_cross_entropy_at_one() -> None:
    np.testing.assert_allclose(gradient(Dft(), tokens()), gradient(GeneralizedCrossEntropy(1.0), tokens()), rtol=1e-5, atol=1e-7)


def test_label_smoothing_of_nothing_is_nll() -> None:
    same(LabelSmoothing(0.0), Nll(), tokens())


def test_symmetric_cross_entropy_without_its_reverse_half_is_nll() -> None:
    same(SymmetricCrossEntropy(a=1.0, b=0.0), Nll(), tokens())


def test_confidence_without_confidence_is_nll() -> None:
    same(Confidence(0.0), Nll(), tokens())
    same(Confidence(0.75, warm_up=0.2), Nll(), tokens(progress=0.0))


def test_confidence_warms_up_without_a_jump() -> None:
    loss, given = Confidence(0.5, warm_up=0.2), tokens()
    curve = np.array([loss(given._replace(progress=jnp.float32(x)))[0] for x in np.linspace(0, 1, 201)])
    whole = abs(curve[-1] - curve[0])
    assert whole > 0.1
    assert np.abs(np.diff(curve)).max() < whole / 35  # a fortieth of the way per step during the warm-up
    np.testing.assert_allclose(curve[40:], curve[-1], rtol=1e-6)


@pytest.mark.parametrize("loss", [ForwardKL(), ReverseKL(), Jsd(beta=0.5), Jsd(beta=0.1)])
def test_divergence_from_oneself_is_zero(loss: TokenLoss) -> None:
    given = tokens()
    itself = beside(given, given.logits)
    np.testing.assert_allclose(loss(itself), 0.0, atol=1e-6)
    np.testing.assert_allclose(gradient(loss, itself), 0.0, atol=1e-6)


def test_jsd_is_symmetric_at_one_half() -> None:
    given = tokens()
    swapped = beside(given._replace(logits=initial(given)), given.logits)
    np.testing.assert_allclose(Jsd()(given), Jsd()(swapped), rtol=1e-5)
    assert not np.allclose(Jsd(beta=0.2)(given), Jsd(beta=0.2)(swapped), rtol=1e-2)


@pytest.mark.parametrize("loss", [ForwardKL(), ReverseKL(), Jsd(beta=0.3)])
def test_the_reference_gets_no_gradient(loss: TokenLoss) -> None:
    given = tokens()
    slope = jax.grad(lambda frozen: jnp.sum(loss(beside(given, frozen))))(initial(given))
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("loss", EVERY, ids=[case[0] for case in reference.CASES])
def test_extreme_logits_stay_finite(loss: TokenLoss) -> None:
    data = reference.sample()
    data["logits"], data["reference"] = data["logits"] * 200, data["reference"] * 200
    assert np.isfinite(loss(tokens(data))).all()
    assert np.isfinite(gradient(loss, tokens(data))).all()


@pytest.mark.parametrize("loss", [ForwardKL(), ReverseKL(), Jsd(beta=0.3), Entropy()])
def test_entries_impossible_for_both_do_not_count(loss: TokenLoss) -> None:
    given = tokens()
    wider = [jnp.pad(x, ((0, 0), (0, 2)), constant_values=-jnp.inf) for x in (given.logits, initial(given))]
    padded = beside(given._replace(logits=wider[0]), wider[1])
    np.testing.assert_allclose(loss(padded), loss(given), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient(loss, padded)[:, :-2], gradient(loss, given), rtol=1e-4, atol=1e-6)


def test_what_the_reference_rules_out_is_infinitely_wrong() -> None:
    given = tokens()
    frozen = initial(given).at[0, 0].set(-jnp.inf)
    assert np.isinf(ReverseKL()(beside(given, frozen))[0])


@pytest.mark.parametrize("loss", EVERY, ids=[case[0] for case in reference.CASES])
def test_nan_logits_are_not_hidden(loss: TokenLoss) -> None:
    given = tokens()
    chosen = given._replace(logits=given.logits.at[0, 0].set(jnp.nan), verdict=given.verdict.at[0].set(-1))
    assert np.isnan(loss(chosen)[0])
    assert np.isfinite(loss(chosen)[1:]).all()


def test_unlikelihood_touches_only_incorrect_traces() -> None:
    given = tokens()
    kept = np.asarray(given.verdict) >= 0
    np.testing.assert_array_equal(np.asarray(Unlikelihood()(given))[kept], 0.0)
    np.testing.assert_array_equal(np.asarray(gradient(Unlikelihood(), given))[kept], 0.0)


def test_unlikelihood_is_bounded_where_the_student_is_certain() -> None:
    given = tokens()._replace(verdict=-jnp.ones(reference.TOKENS, jnp.int32))
    certain = given._replace(logits=1e4 * jax.nn.one_hot(given.target, reference.VOCABULARY))
    np.testing.assert_allclose(Unlikelihood(floor=1e-3)(certain), -np.log(1e-3), rtol=1e-4)
    assert np.isfinite(gradient(Unlikelihood(), certain)).all()


def test_losses_on_part_of_the_tokens() -> None:
    given = tokens()
    whole, verdict, span = Nll()(given), np.asarray(given.verdict), np.asarray(given.span)
    np.testing.assert_array_equal(OnCorrect(Nll())(given), np.where(verdict > 0, whole, 0))
    np.testing.assert_array_equal(OnIncorrect(Nll())(given), np.where(verdict < 0, whole, 0))
    np.testing.assert_array_equal(OnSpans(Nll(), reasoning=False)(given), np.where(span == 1, 0, whole))


def test_losses_add_and_scale() -> None:
    given = tokens()
    loss = 2 * Nll() + ZLoss() * Linear(1.0, 0.0) - Entropy()
    expected = 2 * Nll()(given) + 0.6 * ZLoss()(given) - Entropy()(given)
    np.testing.assert_allclose(loss(given), expected, rtol=1e-6)
    assert loss == Sum((Weighted(2, Nll()), Weighted(Linear(1.0, 0.0), ZLoss()), Weighted(-1.0, Entropy())))
    assert hash(loss) == hash(2 * Nll() + ZLoss() * Linear(1.0, 0.0) - Entropy())
    np.testing.assert_allclose((-Nll())(given), -Nll()(given))


def test_a_loss_of_ones_own() -> None:
    def focal(given: Tokens) -> jax.Array:
        logprob = formulas.target_logprob(given)
        return -((1 - jnp.exp(logprob)) ** 2) * logprob

    @dataclasses.dataclass(frozen=True)
    class Focal:
        gamma: float = 2.0

        def __call__(self, given: Tokens) -> jax.Array:
            logprob = formulas.target_logprob(given)
            return -((1 - jnp.exp(logprob)) ** self.gamma) * logprob

    given = tokens()
    plain = [-((1 - p) ** 2) * np.log(p) for p in np.exp(-np.asarray(Nll()(given), np.float64))]
    for mine in (focal, Focal()):
        np.testing.assert_allclose(mine(given), plain, rtol=1e-4)
        for composed in (Nll() + Weighted(0.5, mine), Weighted(0.5, mine) + Nll()):
            np.testing.assert_allclose(composed(given), Nll()(given) + 0.5 * mine(given), rtol=1e-6)
        np.testing.assert_allclose((mine + Nll())(given), Nll()(given) + mine(given), rtol=1e-6)
        np.testing.assert_allclose((mine - Nll())(given), mine(given) - Nll()(given), rtol=1e-5, atol=1e-6)
        assert models_of(mine) == ()


def test_only_a_loss_or_a_number_composes() -> None:
    with pytest.raises(TypeError):
        Nll() + 1  # type: ignore[operator]
    with pytest.raises(TypeError):
        Nll() * Nll()  # type: ignore[operator]


def test_a_loss_names_the_models_that_it_looks_at() -> None:
    def mine(given: Tokens) -> jax.Array:
        return given.logprobs_of("0-small.correct")[:, 0]

    mine.models = ("0-small.correct", "initial")  # type: ignore[attr-defined]
    assert models_of(Nll() + 0.1 * OnCorrect(Entropy())) == ()
    for loss in (ForwardKL(), Nll() + 0.1 * ReverseKL(), OnCorrect(Jsd()), OnIncorrect(Jsd()), OnSpans(Jsd())):
        assert models_of(loss) == ("initial",)
    assert models_of(ForwardKL("teacher") + Nll() + Weighted(0.1, mine)) == ("teacher", "0-small.correct", "initial")
    assert models_of(Jsd("teacher"), mine, Jsd()) == ("teacher", "0-small.correct", "initial")


@pytest.mark.parametrize("wrong", ["initial", (1,), ("",), True])
def test_models_that_are_no_names_are_said(wrong: object) -> None:
    def mine(given: Tokens) -> jax.Array:
        return given.logits[:, 0]

    mine.models = wrong  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="tuple with the names of the models"):
        models_of(Nll() + mine)


def test_a_model_that_was_not_named_is_said() -> None:
    with pytest.raises(UserError, match=r"the model 'teacher' without naming it; give it the attribute models = \('teacher',\)"):
        ForwardKL("teacher")(tokens())


@pytest.mark.parametrize("kind", [ForwardKL, ReverseKL, Jsd])
def test_a_divergence_from_the_teacher_is_that_from_the_initial_student_where_it_is_known(kind: type) -> None:
    given, available = tokens(), jnp.arange(reference.TOKENS) % 3 > 0
    plain, unknown = kind()(given), ~np.asarray(available)
    taught = beside(given, jnp.where(available[:, None], initial(given), 0.0), "teacher", available)
    np.testing.assert_array_equal(kind("teacher")(taught), np.where(unknown, 0.0, plain))
    slope = np.asarray(gradient(kind("teacher"), taught))
    np.testing.assert_array_equal(slope, np.where(unknown[:, None], 0.0, gradient(kind(), given)))


def test_what_tokens_say_of_a_model() -> None:
    given, available = tokens(), jnp.arange(reference.TOKENS) % 2 > 0
    taught = beside(given, jnp.where(available[:, None], 3.0 + initial(given), 0.0), "teacher", available)
    exact = np.log([reference.softmax(row) for row in np.asarray(initial(given), np.float64)])
    uniform = np.full_like(exact, -np.log(reference.VOCABULARY))
    np.testing.assert_allclose(taught.logprobs_of("initial"), exact, atol=1e-5)
    np.testing.assert_allclose(taught.logprobs_of("teacher"), np.where(available[:, None], exact, uniform), atol=1e-5)
    np.testing.assert_array_equal(taught.available("teacher"), available)
    assert taught.available("initial").all()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: GeneralizedCrossEntropy(1.5), "q"),
        (lambda: LabelSmoothing(-0.1), "epsilon"),
        (lambda: Jsd(beta=0.0), "beta"),
        (lambda: Jsd(0.3), r"Jsd\.model is 0\.3; .* Jsd\(beta=0\.5\)"),
        (lambda: ForwardKL(""), r"ForwardKL\.model"),
        (lambda: ReverseKL(None), r"ReverseKL\.model"),
        (lambda: Confidence(2.0), "coefficient"),
        (lambda: Confidence(warm_up=20.0), "warm_up"),
        (lambda: SymmetricCrossEntropy(log_zero=4.0), "log_zero"),
        (lambda: Unlikelihood(floor=0.0), "floor"),
    ],
)
def test_parameters_out_of_range_are_named(make, field: str) -> None:
    with pytest.raises(UserError, match=field):
        make()


def test_describing_an_experiment_does_not_import_jax() -> None:
    code = "import sys, w2sr_jax.losses.objective; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
