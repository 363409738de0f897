"""Losses that look at the teacher or another model: against NumPy and the full distribution; refused where there is none."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_toy import MODEL, ONE, SETTINGS, VOCAB, packed, params, run

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import encode
from w2sr_jax.batches.packing import Packed, pack
from w2sr_jax.core import keys
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Problem, Verdict
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import ForwardKL, Jsd, Nll, OnIncorrect, ReverseKL, Tokens
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora import Lora
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, draw
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.text.tokenizer import build
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.frozen import FrozenModel, Models
from w2sr_jax.training.imitation import ReferenceStore, reference_mass, teacher_share

TEACHER = ModelConfig(vocab_size=VOCAB, width=24, layers=1, heads=2, kv_heads=2, mlp=16, logit_softcap=5.0)
EIGHT = Mesh(data=2, fsdp=2, tensor=2)
KINDS = [ForwardKL, ReverseKL, Jsd]


@functools.cache
def teacher_params() -> Any:
    scaled = jax.tree.map(lambda leaf: leaf * 2.0, transformer.init(TEACHER, keys.key(7, "init")))
    return jax.device_get(scaled)


def teacher() -> FrozenModel:
    return FrozenModel(TEACHER, teacher_params, params_digest(teacher_params()))


def distribution(config: ModelConfig, weights: Any, data: Packed) -> np.ndarray:
    """Log-probabilities at every position in float64, from full logits."""
    hidden = transformer.forward(config, weights, data.tokens, data.positions, data.segments)
    logits = np.asarray(transformer.logits(config, weights, hidden), np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def recorded(count: int, unknown: int = 0) -> Packed:
    """The toy's rows with what the teacher would have recorded of them; of the first `unknown` rows it is not known."""
    data = packed()
    hidden = transformer.forward(TEACHER, teacher_params(), data.tokens, data.positions, data.segments)
    logits = transformer.logits(TEACHER, teacher_params(), hidden).astype(jnp.float32)
    best = topk.of_logits(logits.reshape(-1, VOCAB), count)
    ids, logprobs, rest = (np.asarray(part).reshape(*data.tokens.shape, *part.shape[1:]) for part in best[:3])
    known = (data.weight > 0) & (np.arange(len(data.weight)) >= unknown)[:, None]
    return dataclasses.replace(data, top=TopK(np.where(known[..., None], ids, -1).astype(np.int32), logprobs, rest))


def trained(directory: Path, loss: Any, data: Packed, mesh: Mesh = ONE, models: Models | None = None, **changes: Any) -> Any:
    training = dataclasses.replace(SETTINGS, steps=3, **changes)
    return run(directory, training, Objective(loss, block=50), mesh, data=Batches(data, training.batching), models=models or {})


def divergence(kind: type, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Of a teacher's log-probabilities and a student's."""
    if kind is ForwardKL:
        return (np.exp(p) * (p - q)).sum(-1)
    if kind is ReverseKL:
        return (np.exp(q) * (q - p)).sum(-1)
    middle = np.log(0.5 * np.exp(p) + 0.5 * np.exp(q))
    return 0.5 * (np.exp(p) * (p - middle)).sum(-1) + 0.5 * (np.exp(q) * (q - middle)).sum(-1)


def evenly(top: TopK) -> np.ndarray:
    """Log-probabilities over the vocabulary, the rest's mass divided among all that is not listed."""
    share = np.asarray(top.rest, np.float64) - np.log(VOCAB - top.ids.shape[-1])
    whole = np.broadcast_to(share[..., None], (*share.shape, VOCAB)).copy()
    np.put_along_axis(whole, np.maximum(top.ids, 0), np.asarray(top.logprobs, np.float64), -1)
    return whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_from_the_recorded_teacher_is_that_of_numpy(tmp_path: Path, kind: type) -> None:
    data = recorded(5, unknown=7)
    assert data.top is not None
    training = dataclasses.replace(SETTINGS, steps=1, log_every=1)
    batches = Batches(data, training.batching)
    rows = batches.rows_at(0)
    student = distribution(MODEL, params(), data)[rows]
    nll = -np.take_along_axis(student, data.target[rows][..., None], -1)[..., 0]
    known = data.top.ids[rows][..., 0] >= 0
    assert 0 < (known & (data.weight[rows] > 0)).sum() < (data.weight[rows] > 0).sum()
    losses = nll + 0.5 * np.where(known, divergence(kind, evenly(data.top)[rows], student), 0.0)
    expected = (losses * data.weight[rows]).sum() / data.weight[rows].sum()
    result = run(tmp_path, training, Objective(Nll() + 0.5 * kind("teacher"), block=50), data=batches)
    assert result.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    share = (data.top.ids[..., 0] >= 0).sum() / (data.weight > 0).sum()
    assert teacher_share(result) == pytest.approx(share)


def close(one: Any, other: Any, plain: Any) -> None:
    """Two trainings that ended the same, and not as one without the teacher did. The distance between their parameters is
    measured by that to the third: Adam moves a parameter whose gradient is nearly 0 by its rounding."""
    for left, right, without in zip(*(jax.tree.leaves(result.params) for result in (one, other, plain)), strict=True):
        assert np.linalg.norm(left - right) <= 2e-3 * np.linalg.norm(left - without)
    for name in ("loss", "gradient_norm"):
        assert one.metrics[name] == pytest.approx(other.metrics[name], rel=1e-4)
    assert one.metrics["loss"] != pytest.approx(plain.metrics["loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("kind", "mesh", "changes"),
    [
        (ForwardKL, ONE, {}),
        (ReverseKL, ONE, {"accumulation": 2}),
        (Jsd, EIGHT, {"accumulation": 2}),
        (ReverseKL, EIGHT, {"lora": Lora(rank=4)}),
        (ForwardKL, ONE, {"lora": Lora(rank=4, quantize="int8")}),
    ],
    ids=["alone", "micro-batches", "eight devices", "adapters on eight", "adapters beside int8"],
)
def test_recorded_stored_and_computed_teachers_train_the_same(tmp_path: Path, kind: type, mesh: Mesh, changes: dict) -> None:
    loss, data = Nll() + 0.5 * kind("teacher"), recorded(VOCAB)
    whole = trained(tmp_path / "recorded", loss, data, mesh, **changes)
    in_every_step = trained(tmp_path / "computed", loss, data, mesh, {"teacher": teacher()}, **changes)
    stored = trained(tmp_path / "stored", loss, data, mesh, {"teacher": teacher()}, reference_top=VOCAB, **changes)
    plain = trained(tmp_path / "plain", Nll(), data, mesh, **changes)
    close(whole, in_every_step, plain)
    close(stored, in_every_step, plain)
    assert (reference_mass(whole, "teacher"), reference_mass(in_every_step, "teacher")) == (None, None)
    assert reference_mass(stored, "teacher") == pytest.approx(1.0, abs=1e-5)


def test_several_models_beside_each_other(tmp_path: Path) -> None:
    """Also where the initial student is one of them, and the teacher is both recorded and known by its name."""
    loss = Nll() + 0.2 * ForwardKL("teacher") + 0.2 * ReverseKL() + OnIncorrect(Jsd("0-small.correct"))
    data, models = recorded(VOCAB), {"0-small.correct": teacher()}
    one = trained(tmp_path / "computed", loss, data, EIGHT, models)
    store = ReferenceStore(tmp_path / "store")
    training = dataclasses.replace(SETTINGS, steps=3, reference_top=VOCAB)
    batches = Batches(data, training.batching)
    other = run(tmp_path / "stored", training, Objective(loss, block=50), EIGHT, data=batches, models=models, store=store)
    close(one, other, trained(tmp_path / "plain", Nll(), data, EIGHT))
    assert len(list((tmp_path / "store").iterdir())) == 2
    assert reference_mass(other) == pytest.approx(1.0, abs=1e-5)
    assert reference_mass(other, "0-small.correct") == pytest.approx(1.0, abs=1e-5)


def test_a_loss_of_ones_own_on_the_teachers_most_probable_tokens(tmp_path: Path) -> None:
    def agreement(tokens: Tokens) -> jax.Array:
        best, ids = jax.lax.top_k(tokens.logprobs_of("teacher"), 3)
        student = jnp.take_along_axis(jax.nn.log_softmax(tokens.logits), ids, axis=1)
        return jnp.where(tokens.available("teacher"), -jnp.sum(jnp.exp(best) * student, axis=1), 0.0)

    agreement.models = ("teacher",)  # type: ignore[attr-defined]
    data = recorded(3)
    three = trained(tmp_path / "three", agreement, data)
    whole = trained(tmp_path / "whole", agreement, data, models={"teacher": teacher()})
    close(three, whole, trained(tmp_path / "plain", Nll(), data))


PROBLEMS = [Problem.of(f"Bob has {n} and finds {n + 1} . How many ?", str(2 * n + 1)) for n in range(8)]


def grader(text: str, problem: Problem) -> Verdict:
    return Verdict("correct", problem.answer, "all", "toy")


def test_what_the_engine_records_arrives_at_the_tokens_that_it_drew() -> None:
    renderer = Renderer(build(WordTokenizer(largest=15), [problem.question for problem in PROBLEMS]))
    config = ModelConfig(vocab_size=renderer.vocab_size, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    weights = jax.tree.map(lambda leaf: leaf * 2.0, transformer.init(config, jax.random.key(1)))
    author = Author("weak", config, weights, renderer, 3, "digest")
    traces = draw(author, PROBLEMS, 2, Decoding(temperature=0.8, max_tokens=9, batch=8, record_top=4), grader)
    question = {problem.id: problem.question for problem in PROBLEMS}
    examples = [
        Example(
            t.id, t.problem_id, t.id, "weak", question[t.problem_id], t.text, "reason", "correct", 1.0, t.token_ids, t.logprobs
        )
        for t in traces
        if t.text.strip()
    ]
    by_id = {trace.id: trace for trace in traces}
    encoded, _ = encode([dataclasses.replace(each, top=by_id[each.id].top) for each in examples], renderer, 64)
    data = pack(encoded, 64, renderer.pad)
    assert data.top is not None
    exact = distribution(config, weights, data)
    known = data.top.ids[..., 0] >= 0
    assert known.sum() > 50
    assert not (known & (data.weight == 0)).any()
    best = np.argsort(-exact, axis=-1, kind="stable")[..., :4]
    np.testing.assert_array_equal(data.top.ids[known], best[known])
    np.testing.assert_allclose(data.top.logprobs[known], np.take_along_axis(exact, best, -1)[known], atol=1e-4)
    np.testing.assert_allclose(
        np.exp(data.top.rest[known]), 1.0 - np.exp(np.take_along_axis(exact, best, -1)).sum(-1)[known], atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_that_no_token_has_is_refused_before_anything_is_compiled(tmp_path: Path, kind: type) -> None:
    for data in (packed(), recorded(3, unknown=24)):
        with pytest.raises(UserError, match=r"looks at the teacher, .* at none of the \d+ tokens .*decoding\.record_top"):
            trained(tmp_path, Nll() + kind("teacher"), data)
    assert not list(tmp_path.iterdir())


def test_a_training_that_is_told_to_do_without_a_teacher_is_that_of_the_other_terms(tmp_path: Path) -> None:
    without = trained(tmp_path / "without", Nll() + ForwardKL("teacher"), packed(), models={"teacher": None})
    plain = trained(tmp_path / "plain", Nll(), packed())
    for left, right in zip(jax.tree.leaves(without.params), jax.tree.leaves(plain.params), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)
    assert teacher_share(without) is None
    with pytest.raises(NothingToTrain, match=r"objective\.loss looks at none of the"):
        trained(tmp_path / "nothing", ForwardKL("teacher"), packed(), models={"teacher": None})


def test_steps_in_which_only_an_unknown_teacher_is_looked_at_are_told(tmp_path: Path) -> None:
    words: list[str] = []
    training = dataclasses.replace(SETTINGS, steps=3)
    data = recorded(3, unknown=23)
    run(tmp_path, training, Objective(ForwardKL("teacher")), data=Batches(data, training.batching), on_warning=words.append)
    assert len(words) == 1
    assert "2 of 3 steps" in words[0]
    assert "no token to learn from" in words[0]


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ({}, r"looks at the model '0-tiny.all', which this training is not given"),
        ({"0-tiny.all": None}, r"looks at the model '0-tiny.all', which this training is not given"),
        (
            {"0-tiny.all": FrozenModel(dataclasses.replace(TEACHER, vocab_size=40), dict, "")},
            r"vocabulary has 40 tokens and the student's 32",
        ),
        (
            {"0-tiny.all": FrozenModel(dataclasses.replace(TEACHER, width=8), teacher_params, "")},
            r"the parameters of the model '0-tiny.all' do not fit the model",
        ),
    ],
    ids=["absent", "none", "vocabulary", "parameters"],
)
def test_other_models_must_be_there_and_fit(tmp_path: Path, models: Models, words: str) -> None:
    with pytest.raises(UserError, match=words):
        trained(tmp_path, Nll() + ForwardKL("0-tiny.all"), packed(), models=models)
