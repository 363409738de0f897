"""Training on pairs: the step against float64 and torch, whatever the mesh and the micro-batches; the reference is computed
once, and an interrupted training ends with the same bits."""

import dataclasses
import functools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_toy as toy
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.batches import packing
from w2sr_jax.batches.batch import Batch, Batches, RolloutData
from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.stored import StoredExamples
from w2sr_jax.core.errors import NothingToTrain, Stopped, UserError
from w2sr_jax.losses.preference import Dpo, Ipo, PreferenceLoss, SimPo
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.models import transformer
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import batch_sharding, make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training import journal
from w2sr_jax.training.loop import TrainingResult, fit
from w2sr_jax.training.preference import reference
from w2sr_jax.training.preference.pairs import weights
from w2sr_jax.training.preference.program import preference
from w2sr_jax.training.program import make_program
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.sequence_step import LearningSequences, SequenceRows, sequence_logprobs
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import create
from w2sr_jax.training.step import StepSettings

torch = pytest.importorskip("torch")

EIGHT = Mesh(data=2, fsdp=2, tensor=2)
LORA = Lora(rank=4, alpha=8.0)
LOSSES = (Dpo(beta=0.3, label_smoothing=0.1), Ipo(), SimPo())


def exact(params: Any, batch: Batch) -> np.ndarray:
    """[R, 2] sums of log-probabilities over supervised tokens, float64, from full logits."""
    hidden = transformer.forward(toy.MODEL, params, batch.tokens, batch.positions, batch.segments)
    logits = np.asarray(hidden, np.float64) @ np.asarray(transformer.output_matrix(toy.MODEL, params), np.float64)
    logits -= logits.max(-1, keepdims=True)
    every = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    own = np.take_along_axis(every, np.asarray(batch.target)[..., None], -1)[..., 0] * (np.asarray(batch.weight) != 0)
    return np.stack([(own * (np.asarray(batch.segments) == number)).sum(-1) for number in (1, 2)], axis=1)


def moved() -> Any:
    """Parameters that are not the reference's."""
    return jax.tree.map(lambda leaf, other: 0.7 * leaf + 0.3 * other, toy.params(), toy.params(1))


def rows_of(batch: Batch, params: Any = None) -> SequenceRows:
    return SequenceRows(batch, exact(toy.params() if params is None else params, batch).astype(np.float32), weights(batch, 2))


def torch_loss(loss: PreferenceLoss, logprob: Any, batch: Batch, given: SequenceRows) -> Any:
    """The weighted mean over pairs, in torch and float64, written out anew."""
    lengths = torch.tensor(np.stack([((batch.segments == n) & (batch.weight != 0)).sum(1) for n in (1, 2)], 1)).double()
    reference, weight = torch.tensor(given.reference).double(), torch.tensor(given.weight[:, 0]).double()
    ratio, log_sigmoid = logprob - reference, torch.nn.functional.logsigmoid
    margin = ratio[:, 0] - ratio[:, 1]
    if isinstance(loss, Dpo):
        each = -(1 - loss.label_smoothing) * log_sigmoid(loss.beta * margin)
        each = each - loss.label_smoothing * log_sigmoid(-loss.beta * margin)
    elif isinstance(loss, Ipo):
        means = ratio / lengths
        each = (means[:, 0] - means[:, 1] - 1 / (2 * loss.beta)) ** 2
    else:
        assert isinstance(loss, SimPo)
        means = logprob / lengths
        each = -log_sigmoid(loss.beta * (means[:, 0] - means[:, 1]) - loss.gamma)
    return (each * weight).sum() / weight.sum()


def recorder() -> optax.GradientTransformation:
    """Changes nothing and keeps the gradient."""
    return optax.GradientTransformation(
        lambda params: params, lambda slope, state, params=None: (optax.tree.zeros_like(slope), slope)
    )


def stepped(learning: LearningSequences, params: Any, given: SequenceRows, **how: Any) -> tuple[Any, dict[str, float]]:
    """The gradient and the metrics of a step."""
    step = jax.jit(learning.make_step(toy.MODEL, recorder(), optax.constant_schedule(0.0), 1, StepSettings(**how)))
    state, metrics = step(create(jax.tree.map(jnp.asarray, params), recorder()), given, None)
    return state.opt_state, {name: float(value) for name, value in metrics.items()}


def close(one: Any, other: Any, tolerance: float = 1e-5) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.linalg.norm(np.asarray(a) - np.asarray(b)) <= tolerance * max(float(np.linalg.norm(b)), 1e-4)


@functools.cache
def jacobian_of(which: str) -> Any:
    """The gradient of each sequence's log-probability, by full logits: pytrees of [R, 2, …]."""
    batch = toy.batches().batch_at(0)

    def sums(params: Any) -> Any:
        hidden = transformer.forward(toy.MODEL, params, batch.tokens, batch.positions, batch.segments)
        logits = jnp.einsum("rld,dv->rlv", hidden, transformer.output_matrix(toy.MODEL, params))
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), batch.target[..., None], -1)[..., 0] * (batch.weight != 0)
        return jnp.stack([jnp.sum(own * (batch.segments == number), axis=1) for number in (1, 2)], axis=1)

    return jax.jit(jax.jacrev(sums))(toy.params() if which == "reference" else moved())


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_loss_metrics_and_gradient_are_those_of_torch_in_float64(loss: PreferenceLoss) -> None:
    batch = toy.batches().batch_at(0)
    given, params = rows_of(batch), moved()
    slope, metrics = stepped(LearningSequences(loss, 2, block=40), params, given)
    logprob = torch.tensor(exact(params, batch), requires_grad=True)
    wanted = torch_loss(loss, logprob, batch, given)
    wanted.backward()
    assert metrics["loss"] == pytest.approx(wanted.item(), rel=1e-4)
    expected = jax.tree.map(lambda leaf: np.einsum("rs,rs...->...", logprob.grad.numpy(), np.asarray(leaf)), jacobian_of("moved"))
    close(slope, expected, 1e-3)
    assert metrics["gradient_norm"] == pytest.approx(float(optax.global_norm(expected)), rel=1e-3)

    own, ratio = exact(params, batch), exact(params, batch) - given.reference
    lengths = np.stack([((batch.segments == number) & (batch.weight != 0)).sum(1) for number in (1, 2)], 1)
    means = (own if isinstance(loss, SimPo) else ratio) / (lengths if isinstance(loss, SimPo | Ipo) else 1)
    margin = means[:, 0] - means[:, 1]
    assert metrics["margin"] == pytest.approx(margin.mean(), abs=1e-4)
    assert 0 < metrics["pair_accuracy"] == pytest.approx((margin > 0).mean())
    assert metrics["chosen_logprob"] == pytest.approx(own[:, 0].sum() / lengths[:, 0].sum(), rel=1e-4)
    assert metrics["rejected_logprob"] == pytest.approx(own[:, 1].sum() / lengths[:, 1].sum(), rel=1e-4)
    assert (metrics["pairs"], metrics["tokens"]) == (toy.ROWS, lengths.sum())
    assert metrics["weight"] == pytest.approx(given.weight[:, 0].sum())


def test_at_the_reference_the_loss_is_ln_2_and_the_gradient_is_in_closed_form() -> None:
    """-β/2 times the mean over pairs of ∇ log π(chosen) - ∇ log π(rejected)."""
    batch, beta = toy.batches().batch_at(0), 0.5
    given = rows_of(batch)
    slope, metrics = stepped(LearningSequences(Dpo(beta), 2), toy.params(), given)
    assert metrics["loss"] == pytest.approx(math.log(2), rel=1e-6)
    assert abs(metrics["margin"]) < 1e-4
    weight = given.weight[:, 0] / given.weight[:, 0].sum()

    def closed(leaf: Any) -> np.ndarray:
        return -beta / 2 * np.einsum("r,r...->...", weight, np.asarray(leaf[:, 0] - leaf[:, 1]))

    close(slope, jax.tree.map(closed, jacobian_of("reference")), 1e-3)


def test_what_the_reference_stores_is_what_full_logits_say() -> None:
    batch, mesh = toy.batches().batch_at(0), make_mesh(toy.ONE)
    rows = reference.Texts(batch.tokens, batch.positions, batch.segments, batch.target, batch.weight != 0)
    values = sequence_logprobs(toy.MODEL, 24, 2, mesh, put(toy.params(), make_program_params(mesh)), rows)
    np.testing.assert_allclose(values, exact(toy.params(), batch), rtol=1e-5)


def make_program_params(mesh: Any) -> Any:
    return make_program(toy.MODEL, LearningSequences(Dpo(), 2), toy.SETTINGS, 6, mesh).params


@pytest.mark.parametrize(("mesh", "accumulation"), [(toy.ONE, 2), (EIGHT, 2), (Mesh(data=8), 1)])
def test_micro_batches_and_devices_change_nothing(mesh: Mesh, accumulation: int) -> None:
    given = rows_of(toy.batches().batch_at(0))
    _, alone = stepped(LearningSequences(Dpo(0.5), 2, block=40), moved(), given)
    training = dataclasses.replace(toy.SETTINGS, accumulation=accumulation)
    program = make_program(toy.MODEL, LearningSequences(Dpo(0.5), 2, block=40), training, 6, make_mesh(mesh))
    state = program.fresh(put(moved(), program.params))
    _, metrics = program.step(state, put(given, batch_sharding(make_mesh(mesh))), None)
    for name, value in alone.items():
        if name not in ("learning_rate", "update_norm"):
            assert float(metrics[name]) == pytest.approx(value, rel=2e-5), name


def test_rollouts_are_sequences_too() -> None:
    """GSPO on one rollout a row: the weights hold the denominator, and the loss is the weighted sum."""
    batch = toy.batches().batch_at(0)
    only = np.where(batch.segments == 1, batch.weight, 0).astype(np.float32)
    batch = batch._replace(weight=only, segments=(batch.segments > 0).astype(np.int32))
    advantage = np.linspace(-1, 1, toy.ROWS, dtype=np.float32)[:, None] * np.ones_like(only)
    sampled = np.where(only != 0, -3.0, 0.0).astype(np.float32)
    weight = np.full((toy.ROWS, 1), 1 / toy.ROWS, np.float32)
    given = SequenceRows(batch._replace(rollout=RolloutData(advantage, sampled)), np.zeros_like(weight), weight)
    _, metrics = stepped(LearningSequences(Gspo(clip=(0.1, 0.2)), 1, mean=False), toy.params(), given)
    lengths = (only != 0).sum(1)
    ratio = np.exp((exact(toy.params(), batch)[:, 0] + 3.0 * lengths) / lengths)
    each = np.minimum(ratio * advantage[:, 0], np.clip(ratio, 0.9, 1.2) * advantage[:, 0])
    assert metrics["loss"] == pytest.approx(-each.mean(), rel=1e-4)
    assert metrics["nll"] == pytest.approx(-exact(toy.params(), batch)[:, 0].sum() / lengths.sum(), rel=1e-5)
    assert metrics["sequences"] == toy.ROWS


def run(
    directory: Path,
    training: Training = toy.SETTINGS,
    loss: Any = None,
    mesh: Mesh = toy.ONE,
    data: Batches | None = None,
    **hooks: Any,
) -> TrainingResult:
    data = toy.batches(training) if data is None else data
    made = preference(toy.MODEL, toy.params(), data, training, loss or Dpo(0.5), make_mesh(mesh))
    return fit(made.program, made.source, directory, toy.LINEAGE, training.loop, Hooks(**hooks))


def test_training_begins_at_ln_2_and_its_margin_rises(tmp_path: Path) -> None:
    """Every step reads the same pairs."""
    training = dataclasses.replace(toy.SETTINGS, log_every=1, steps=12, weight_decay=0.0)
    result = run(tmp_path, training, data=toy.batches(training, rows=toy.ROWS))
    lines = journal.read(tmp_path / journal.METRICS)
    assert lines[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert lines[0]["margin"] == pytest.approx(0.0, abs=1e-4)
    assert lines[-1]["margin"] > lines[1]["margin"] > 0
    assert lines[-1]["loss"] < 0.9 * math.log(2)
    assert result.metrics["pair_accuracy"] == 1.0


def test_with_adapters_the_base_is_the_reference(tmp_path: Path) -> None:
    training = dataclasses.replace(toy.SETTINGS, lora=LORA, learning_rate=3e-2, log_every=1)
    run(tmp_path, training)
    lines = journal.read(tmp_path / journal.METRICS)
    assert lines[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert {path.parent.name for path in tmp_path.glob("references/*/reference.json")}


class Interrupt(Exception):
    pass


def test_an_interrupted_training_ends_with_the_same_bits_and_computes_its_reference_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "PIECE", toy.ROWS * toy.LENGTH)
    called: list[int] = []
    compute = sequence_logprobs

    def counting(*arguments: Any) -> Any:
        called.append(1)
        return compute(*arguments)

    monkeypatch.setattr(reference, "sequence_logprobs", counting)
    wanted = run(tmp_path / "undisturbed")
    assert len(called) == 3  # 24 rows, 8 at a time
    pieces = tmp_path / "cut"
    with pytest.raises(Stopped, match="while it computed the reference's values"):
        run(pieces, stop=lambda: len(called) >= 4)
    assert len(called) == 4
    before = iter([False] * 6)
    with pytest.raises(Stopped):
        run(pieces, stop=lambda: next(before, True))
    assert len(called) == 6  # the first piece was there
    assert len(journal.read(pieces / journal.METRICS)) > 0
    result = run(pieces)
    assert len(called) == 6
    assert result.params_digest == wanted.params_digest
    assert (pieces / journal.METRICS).read_bytes() == (tmp_path / "undisturbed" / journal.METRICS).read_bytes()


def test_a_loss_without_a_reference_stores_none(tmp_path: Path) -> None:
    run(tmp_path, loss=SimPo())
    assert not (tmp_path / "references").exists()


def test_what_cannot_work_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss Gspo is not one on pairs; take one such as Dpo"):
        run(tmp_path, loss=Gspo())
    with pytest.raises(UserError, match=r"training\.reference_top is 4; it must be 0"):
        run(tmp_path, dataclasses.replace(toy.SETTINGS, reference_top=4))
    packed = toy.packed()
    one_sided = dataclasses.replace(packed, weight=np.where(packed.segments == 1, packed.weight, 0).astype(np.float32))
    with pytest.raises(NothingToTrain, match="none of the 24 pairs has tokens of weight on both of its sides"):
        run(tmp_path, data=Batches(one_sided, toy.SETTINGS.batching))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 9), st.integers(2, 8)), min_size=1, max_size=12))
def test_a_pair_is_never_split_over_rows(tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    # Each token says which pair and which side it is of.
    texts = [(number, side, size) for number, pair in enumerate(sizes) for side, size in enumerate(pair)]
    encoded = [
        Encoded(
            np.full(size, 2 * number + side + 1, np.int32),
            np.ones(size, np.int8),
            np.arange(size) > 0,
            1,
            1.0,
            np.full(size, np.nan, np.float32),
        )
        for number, side, size in texts
    ]
    stored = StoredExamples(folder, encoded)
    packed = packing.write(folder / "packing.npz", stored, 16, together=2)
    seen: Counter[int] = Counter()
    for tokens, segments in zip(packed.tokens, packed.segments, strict=True):
        first = [int(tokens[segments == number][0]) for number in range(1, segments.max() + 1)]
        assert all(a % 2 == 1 and b == a + 1 for a, b in zip(first[0::2], first[1::2], strict=True))
        seen.update(first)
        for name in first:
            assert np.count_nonzero(tokens == name) == texts[name - 1][2] - 1
    assert seen == Counter(dict.fromkeys(range(1, len(texts) + 1), 1))
    alone = packing.layout(encoded, 16, share=False, together=2)
    assert [list(row) for row in alone] == [[2 * i, 2 * i + 1] for i in range(len(sizes))]
