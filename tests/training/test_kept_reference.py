"""A frozen reference's values on disk: the training they give is the one that computes them; made once, never trusted blindly."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_toy import LENGTH, MODEL, ROWS, SETTINGS, VOCAB, batches, packed, params, run

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.topk import TopK
from w2sr_jax.losses import topk
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import ForwardKL, Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.models.lora import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training import reference
from w2sr_jax.training.imitation import ReferenceStore, reference_mass
from w2sr_jax.training.program import make_program
from w2sr_jax.training.reference import References, references
from w2sr_jax.training.settings import Training

OWNER = {"data_digest": "data", "initial_params_digest": "parameters"}
EIGHT = Mesh(data=2, fsdp=2, tensor=2)


def beside(reference_top: int, **changes: Any) -> Training:
    return dataclasses.replace(SETTINGS, reference_top=reference_top, **changes)


def regularized(kind: Any) -> Objective:
    return Objective(Nll() + 0.5 * kind())


def made(parent: Path, count: int = 4, **changes: Any) -> References:
    given: dict[str, Any] = {
        "model": MODEL,
        "parameters": params,
        "packed": packed(),
        "rows": ROWS,
        "block": 64,
        "mesh": make_mesh(Mesh(data=1)),
        "owner": OWNER,
    }
    return references(parent, count=count, **{**given, **changes})


def exact(rows: Any) -> np.ndarray:
    """Log-probabilities of the reference in float64, from its full logits."""
    data = packed()
    hidden = transformer.forward(MODEL, params(), data.tokens[rows], data.positions[rows], data.segments[rows])
    logits = np.asarray(hidden, np.float64) @ np.asarray(transformer.output_matrix(MODEL, params()), np.float64)
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def test_what_is_kept_is_the_best_and_the_mass_of_the_rest() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 40)).astype(np.float32)
    probability = np.exp(logits.astype(np.float64))
    probability /= probability.sum(-1, keepdims=True)
    found = topk.of_logits(jnp.asarray(logits), 5)
    best = np.argsort(-probability, axis=-1)[:, :5]
    np.testing.assert_array_equal(found.ids, best)
    np.testing.assert_allclose(np.exp(found.logprobs), np.take_along_axis(probability, best, -1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found.rest), 1 - np.take_along_axis(probability, best, -1).sum(-1), rtol=1e-4)
    whole = np.exp(np.asarray(topk.logprobs(found, 40), np.float64))
    np.testing.assert_allclose(whole.sum(-1), 1, rtol=1e-5)
    others = np.ones_like(whole, bool)
    np.put_along_axis(others, best, False, -1)
    np.testing.assert_allclose(
        whole[others].reshape(50, 35), np.exp(np.asarray(found.rest))[:, None] / 35 * np.ones((1, 35)), rtol=1e-5
    )
    assert (np.abs(whole - probability).sum(-1) / 2 <= np.exp(np.asarray(found.rest)) + 1e-6).all()


def test_nothing_is_lost_where_the_whole_vocabulary_is_kept() -> None:
    logits = jnp.asarray(np.random.default_rng(1).normal(0, 3, (20, 12)), jnp.float32)
    np.testing.assert_allclose(topk.logprobs(topk.of_logits(logits, 12), 12), jax.nn.log_softmax(logits), atol=1e-6)


def test_what_lies_on_disk_is_the_reference_at_every_supervised_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE", ROWS * LENGTH)
    found = made(tmp_path, rows=4, block=20)
    assert found.pieces == 3
    assert found.rows == 8
    rows = np.array([17, 3, 3, 22])
    kept, data = found.at(rows), packed()
    assert kept.ids.shape == kept.logprobs.shape == (4, LENGTH, 4)
    assert kept.rest.shape == (4, LENGTH)
    supervised, logprobs = data.weight[rows] > 0, exact(rows)
    best = np.argsort(-logprobs, axis=-1)[..., :4]
    np.testing.assert_array_equal(kept.ids[supervised], best[supervised])
    np.testing.assert_allclose(kept.logprobs[supervised], np.take_along_axis(logprobs, best, -1)[supervised], atol=1e-5)
    assert not any(leaf[~supervised].any() for leaf in jax.tree.leaves(kept))
    every = exact(np.arange(24))[data.weight > 0]
    np.testing.assert_allclose(found.mass(), np.exp(-np.sort(-every)[:, :4]).sum(-1).mean(), atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "mesh", "changes"),
    [
        (ForwardKL, Mesh(data=1), {}),
        (ReverseKL, EIGHT, {"accumulation": 2}),
        (ForwardKL, EIGHT, {"lora": Lora(rank=4)}),
        (ReverseKL, Mesh(data=1), {"lora": Lora(rank=4, quantize="int8")}),
    ],
    ids=["alone", "eight devices", "adapters on eight", "adapters beside int8"],
)
def test_a_training_that_reads_it_is_the_one_that_computes_it(tmp_path: Path, kind: Any, mesh: Mesh, changes: dict) -> None:
    in_every_step = run(tmp_path / "computed", beside(0, steps=3, **changes), regularized(kind), mesh)
    read = run(tmp_path / "read", beside(VOCAB, steps=3, **changes), regularized(kind), mesh)
    without = run(tmp_path / "without", beside(0, steps=3, **changes), Objective(), mesh)
    for one, other in zip(jax.tree.leaves(in_every_step.params), jax.tree.leaves(read.params), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert read.metrics["loss"] == pytest.approx(in_every_step.metrics["loss"], abs=1e-5)
    assert read.metrics["loss"] != pytest.approx(without.metrics["loss"], abs=1e-4)
    assert (tmp_path / "read" / "references").is_dir()
    assert not (tmp_path / "computed" / "references").exists()


def test_a_step_that_reads_it_holds_no_reference() -> None:
    def arguments(training: Training, frozen: Any) -> int:
        program = make_program(MODEL, regularized(ForwardKL), training, 6, make_mesh(Mesh(data=1)))
        batch = batches().batch_at(0)
        if frozen is None:
            empty = np.zeros((ROWS, LENGTH, 2))
            top = TopK(empty.astype(np.int32), empty.astype(np.float32), empty[..., 0].astype(np.float32))
            batch = batch._replace(models={"initial": top})
        state = program.fresh(params())
        return program.step.lower(state, batch, frozen).compile().memory_analysis().argument_size_in_bytes

    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params()))
    kept = ROWS * LENGTH * (2 * 8 + 4)
    assert arguments(beside(0), {"initial": params()}) - arguments(beside(2), None) == pytest.approx(size - kept, rel=0.05)


def test_a_second_training_computes_nothing_and_a_resumed_one_ends_the_same(tmp_path: Path) -> None:
    objective = regularized(ForwardKL)
    looked: list[tuple[int, ...]] = []
    shared: dict[str, Any] = {"store": ReferenceStore(tmp_path / "shared", lambda *at: looked.append(at))}
    first = run(tmp_path / "first", beside(4), objective, **shared)
    assert looked == [(0, 24), (8, 24), (16, 24)]
    looked.clear()
    steps = iter([False, False, False, True])
    with pytest.raises(Stopped):
        run(tmp_path / "second", beside(4), objective, stop=lambda: next(steps), **shared)
    second = run(tmp_path / "second", beside(4), objective, **shared)
    assert not looked
    assert reference_mass(second) == reference_mass(first) == pytest.approx(made(tmp_path / "apart").mass(), abs=1e-6)
    assert second.params_digest == first.params_digest


def test_an_interrupted_making_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "PIECE", 1)
    polled = iter([False, False, True])
    with pytest.raises(Stopped, match="those done are in"):
        made(tmp_path, stop=lambda: next(polled))
    assert len(list(tmp_path.glob("*/piece-*.npy"))) == 2
    seen: list[int] = []
    resumed = made(tmp_path, on_progress=lambda done, total: seen.append(done))
    assert seen == [16]
    undisturbed = made(tmp_path / "undisturbed")
    for one, other in zip(*(jax.tree.leaves(each.at(np.arange(24))) for each in (resumed, undisturbed)), strict=True):
        np.testing.assert_array_equal(one, other)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_cut, _change, Path.unlink], ids=["cut", "changed", "removed"])
def test_damage_is_told_and_mended(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    words: list[str] = []
    sound = made(tmp_path).at(np.arange(24))
    damage(next(tmp_path.glob("*/piece-00000.npy")))
    mended = made(tmp_path, on_warning=words.append).at(np.arange(24))
    assert len(words) == 1
    assert "anew" in words[0]
    assert "piece-00000.npy" in words[0]
    for one, other in zip(jax.tree.leaves(sound), jax.tree.leaves(mended), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_data_parameters_or_numbers_have_a_folder_of_their_own(tmp_path: Path) -> None:
    folders = {
        made(tmp_path).folder,
        made(tmp_path, count=5).folder,
        made(tmp_path, owner={**OWNER, "data_digest": "other"}).folder,
        made(tmp_path, owner={**OWNER, "initial_params_digest": "other"}).folder,
        made(tmp_path, mesh=make_mesh(Mesh(data=2))).folder,
    }
    assert len(folders) == 5
    told = json.loads((made(tmp_path).folder / "reference.json").read_text())
    assert told["data_digest"] == "data"
    assert told["count"] == 4


def test_a_reference_whose_logits_are_no_numbers_is_not_kept(tmp_path: Path) -> None:
    huge = {
        **params(),
        "norm": {"scale": jnp.full_like(params()["norm"]["scale"], 3e38)},
        "embedding": 100.0 * params()["embedding"],
    }
    with pytest.raises(
        UserError, match="the logits of the frozen model 'initial' are not finite numbers: its parameters are finite, so that"
    ):
        made(tmp_path, parameters=lambda: huge)
    assert not list(tmp_path.glob("*/piece-*"))


def test_too_many_tokens_and_nothing_to_keep_are_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"reference_top is 33; the vocabulary has {VOCAB} tokens"):
        run(tmp_path / "many", beside(VOCAB + 1), regularized(ForwardKL))
    with pytest.raises(UserError, match="reference_top"):
        beside(-1)
    words: list[str] = []
    run(tmp_path / "none", beside(4), Objective(), on_warning=words.append)
    assert len(words) == 1
    assert "looks at no frozen model" in words[0]
    assert not (tmp_path / "none" / "references").exists()
