"""A training that would change nothing is refused before anything is compiled, or ends at its first steps, and says why."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.packing import Packed
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Cosine, Linear, WarmUp
from w2sr_jax.losses.selection import counted
from w2sr_jax.losses.token import Dft, Entropy, Nll, OnCorrect, OnIncorrect, OnSpans, ReverseKL, Tokens, Unlikelihood, Weighted
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.models import transformer
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.training import imitation, journal, supervision
from w2sr_jax.training.settings import Training
from w2sr_jax.training.watchdog import Rounding, Standstill

INCORRECT = dataclasses.replace(toy.packed(), verdict=np.full((24, toy.LENGTH), -1, np.int8))
SHORT = dataclasses.replace(toy.SETTINGS, log_every=1, save_every=0)


def batches(packed: Packed) -> Batches:
    return Batches(packed, toy.SETTINGS.batching, seed=0)


LOSSES = [
    Nll() + 0.1 * Unlikelihood(),
    OnCorrect(Nll()),
    OnIncorrect(Dft()) + OnSpans(OnCorrect(Nll()), reasoning=False),
    OnSpans(Nll(), answer=False, end=False) - 0.1 * OnCorrect(Entropy()),
    0.5 * (Unlikelihood() + Weighted(Cosine(0.0, 0.0), Nll())),
    Weighted(WarmUp(0.0), Nll()) + Weighted(Linear(0.0, 0.0), Dft()) + 0.0 * Entropy(),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_loss_is_said_to_look_at_is_where_it_has_a_gradient(loss: Any) -> None:
    """Against jax.grad on one token of each span and verdict, at some progress at least."""
    span, verdict = (part.reshape(-1) for part in np.meshgrid(np.arange(4), np.arange(-1, 2), indexing="ij"))
    logits = jax.random.normal(jax.random.key(0), (12, 7))

    def total(logits: Any, progress: float) -> Any:
        data = jnp.arange(12) % 7, jnp.asarray(span), jnp.asarray(verdict), jnp.zeros(12), None
        return jnp.sum(loss(Tokens(logits, *data, jnp.float32(progress))))

    moved = np.any([np.asarray(jax.grad(total)(logits, p)).any(axis=1) for p in (0.1, 0.5, 0.9)], axis=0)
    assert counted(Objective(loss)).of(span, verdict)[1].tolist() == moved.tolist()


def test_factors_are_those_of_the_token_weights() -> None:
    weights = TokenWeights(reasoning=2.0, answer=3.0, end=5.0, correct=0.0, incorrect=7.0, unknown=11.0)
    span, verdict = (part.reshape(-1) for part in np.meshgrid(np.arange(4), np.arange(-1, 2), indexing="ij"))
    theirs = weights(jnp.asarray(span), jnp.asarray(verdict), jnp.zeros(12), jnp.ones(12))
    np.testing.assert_allclose(counted(Objective(weights=weights)).of(span, verdict)[0], theirs)


@pytest.mark.parametrize(
    ("packed", "objective", "said"),
    [
        (dataclasses.replace(INCORRECT, weight=np.zeros_like(INCORRECT.weight)), Objective(), "tokens of the data is imitated"),
        (INCORRECT, Objective(weights=TokenWeights(incorrect=0.0, unknown=0.0)), "weight 0 to each of the .* incorrect is 0"),
        (INCORRECT, Objective(OnCorrect(Nll())), r"objective.loss looks at none of the 264 tokens .* 264 of incorrect traces"),
        (INCORRECT, Objective(0.0 * Nll()), "objective.loss looks at none"),
        (INCORRECT, Objective(OnSpans(OnCorrect(Nll())) + Weighted(Linear(0, 0), ReverseKL())), "objective.loss looks at none"),
        (
            dataclasses.replace(INCORRECT, teacher_logprob=np.full_like(INCORRECT.teacher_logprob, -50.0)),
            Objective(weights=TokenWeights(confidence_gamma=9.0)),
            "none of the 6 steps",
        ),
    ],
)
def test_a_training_without_anything_to_learn_from_is_refused_before_it_is_compiled(
    packed: Packed, objective: Objective, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imitation, "make_program", None)  # nothing gets so far
    with pytest.raises(NothingToTrain, match=said):
        toy.run(tmp_path, objective=objective, data=batches(packed))


def test_steps_without_anything_to_learn_from_are_counted() -> None:
    """Half of the rows are correct, and every other order of them gives steps of incorrect ones alone."""
    verdict = np.where(np.arange(24)[:, None] < 4, 1, -1) * np.ones((1, toy.LENGTH), np.int8)
    some = batches(dataclasses.replace(INCORRECT, verdict=verdict.astype(np.int8)))
    for objective in (Objective(OnCorrect(Nll())), Objective(weights=TokenWeights(incorrect=0.0))):
        empty = [step for step in range(60) if (some.batch_at(step).verdict < 0).all()]
        assert empty
        said = supervision.check(some, objective, 60)
        assert said is not None
        assert said.startswith(f"{len(empty)} of 60 steps, the first of them step {empty[0] + 1}, have no token to learn from")
    assert supervision.check(some, Objective(), 60) is None
    assert supervision.check(some, Objective(OnCorrect(Nll()) + 0.1 * Unlikelihood()), 60) is None


def test_weights_of_a_step_must_not_sum_to_less_than_nothing() -> None:
    wrong = batches(dataclasses.replace(INCORRECT, weight=-INCORRECT.weight))
    with pytest.raises(UserError, match=r"the token weights of step 1 sum to -.*must be above 0"):
        supervision.check(wrong, Objective(), 6)


@dataclasses.dataclass(frozen=True)
class Signed(TokenWeights):
    """Weights that nothing but the training itself can know."""

    def __call__(self, span: Any, verdict: Any, teacher_logprob: Any, weight: Any) -> Any:
        return -weight


def test_weights_of_a_users_own_that_sum_to_less_than_nothing_stop_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training stopped at step 1 of 6: its tokens' weights sum to -"):
        toy.run(tmp_path, SHORT, objective=Objective(weights=Signed()))


def stopped(tokens: Tokens) -> Any:
    return jax.lax.stop_gradient(Nll()(tokens))


def test_a_gradient_of_exactly_nothing_ends_a_training_at_its_third_step(tmp_path: Path) -> None:
    with pytest.raises(NothingToTrain) as caught:
        toy.run(tmp_path, SHORT, objective=Objective(stopped))
    assert str(caught.value).startswith(
        "training stopped at step 3 of 6: the gradient of the loss is exactly 0, in every step so far"
    )
    assert [line["step"] for line in journal.read(tmp_path / "metrics.jsonl")] == [1, 2, 3]


def test_one_that_stands_still_only_at_first_goes_on() -> None:
    nothing, something, idle = (
        {"gradient_norm": norm, "weight": weight} for norm, weight in ((0.0, 1.0), (1e-9, 1.0), (0.0, 0.0))
    )
    late = Standstill(100, [])
    assert [late.words(step, each) for step, each in ((1, nothing), (2, something), (10, nothing))] == [None] * 3
    resumed = Standstill(100, [{"step": 1, **something}])
    assert resumed.words(10, nothing) is None
    unknown = Standstill(100, [])
    assert [unknown.words(step, idle) for step in (1, 10, 20)] == [None] * 3
    assert unknown.words(30, nothing)
    assert Standstill(2, [{"step": 1, **nothing}]).words(2, nothing)
    assert Standstill(100, [{"step": 1, **nothing}]).words(10, nothing)


def rounded(path: Path, rate: float, warnings: list[str], dtype: str = "bfloat16", lora: int = 0) -> list[dict[str, Any]]:
    """The metrics of a training whose parameters are kept in a type."""
    model = dataclasses.replace(toy.MODEL, param_dtype=dtype)
    training = dataclasses.replace(SHORT, steps=4, learning_rate=rate, warmup=0.5, weight_decay=0.0, lora=Lora(rank=lora))
    initial = transformer.init(model, jax.random.key(0))
    toy.run(path, training, initial=initial, model=model, on_warning=warnings.append)
    return journal.read(path / "metrics.jsonl")


def test_updates_that_bfloat16_rounds_away_are_measured_and_said(tmp_path: Path) -> None:
    warnings: list[str] = []
    few = rounded(tmp_path / "few", 1e-5, warnings)
    assert len(warnings) == 1
    assert warnings[0].startswith(
        f"at step 1 an update at the peak learning rate changes {few[0]['changed']:.1%} of the parameters"
    )
    assert 0.0 < few[0]["changed"] < 0.2
    many = rounded(tmp_path / "many", 1e-2, warnings)
    assert many[0]["changed"] > 0.9
    assert len(warnings) == 1
    assert "changed" not in rounded(tmp_path / "adapters", 1e-2, warnings, lora=2)[0]  # these are float32
    assert len(warnings) == 1


def test_the_share_that_changes_is_that_of_the_parameters_themselves(tmp_path: Path) -> None:
    """At the peak learning rate, of which the first of two steps of warm-up has half."""
    model = dataclasses.replace(toy.MODEL, param_dtype="bfloat16")
    training = dataclasses.replace(SHORT, steps=1, learning_rate=1e-4, warmup=0.0, weight_decay=0.0)
    initial = transformer.init(model, jax.random.key(0))
    result = toy.run(tmp_path, training, initial=initial, model=model)
    pairs = list(zip(jax.tree.leaves(initial), jax.tree.leaves(result.params), strict=True))
    changed = sum(int((before != after).sum()) for before, after in pairs) / sum(before.size for before, _ in pairs)
    assert result.metrics["changed"] == pytest.approx(changed, rel=1e-5)


def test_a_training_of_which_nothing_arrives_is_ended(tmp_path: Path) -> None:
    with pytest.raises(NothingToTrain, match="each update is rounded away, so that no parameter changes, in every step so far"):
        rounded(tmp_path / "bfloat16", 1e-20, [])
    with pytest.raises(NothingToTrain, match="all 4 steps left every parameter as it was"):
        rounded(tmp_path / "float32", 1e-20, [], dtype="float32")


def test_rounding_is_told_once_and_early() -> None:
    few, many = {"changed": 0.1}, {"changed": 0.9}
    assert Rounding([]).words(1, many) is None
    assert Rounding([]).words(101, few) is None
    assert Rounding([{"step": 1, **few}]).words(10, few) is None
    told = Rounding([])
    assert [bool(told.words(step, few)) for step in (1, 10)] == [True, False]


@pytest.mark.parametrize("rate", [0.0, -1e-3, 1e-300, float("nan"), float("inf")])
def test_a_learning_rate_of_nothing_is_refused(rate: float) -> None:
    with pytest.raises(UserError, match=r"training.learning_rate is .*; it must be a number of at least 1e-30"):
        Training(learning_rate=rate)


def test_initial_parameters_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    broken = {**toy.params(), "embedding": toy.params()["embedding"].at[0, 0].set(jnp.nan)}
    with pytest.raises(UserError, match=r"the initial parameters cannot be used: embedding holds 1 values"):
        toy.run(tmp_path, initial=broken)
