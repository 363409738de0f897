"""Training of adapters: what is trained and saved, that steps and interruptions are exact, what looks and warnings see."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import training_toy as toy
from test_train_step import HARD, TOTAL, close, full_logits_loss

from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import lora as low_rank
from w2sr_jax.models import transformer
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.text.spans import END
from w2sr_jax.training import checkpoints, journal, preconditions
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.probe import Probing
from w2sr_jax.training.program import Compiled, make_program
from w2sr_jax.training.settings import Training

LORA = Lora(rank=4, alpha=8.0)
SETTINGS = dataclasses.replace(toy.SETTINGS, lora=LORA, learning_rate=3e-2)
WIDE = Mesh(data=2, fsdp=2, tensor=2)


class Interrupt(Exception):
    pass


def adapting(
    training: Training = SETTINGS, objective: Objective | None = None, mesh: Mesh = toy.ONE, model: Any = None
) -> Compiled:
    return make_program(model or toy.MODEL, objective or Objective(), training, TOTAL, make_mesh(mesh))


def quantised(kind: Any, **changes: Any) -> Training:
    return dataclasses.replace(SETTINGS, lora=dataclasses.replace(LORA, quantize=kind), **changes)


def frozen_of(program: Compiled) -> Any:
    return program.freeze(put(toy.params(), program.params))


def trained_by(
    training: Training, count: int, objective: Objective | None = None, mesh: Mesh = toy.ONE
) -> tuple[Any, Any, Compiled]:
    program = adapting(training, objective, mesh)
    state, metrics = toy.steps(program, count, frozen_of(program))
    return state, metrics, program


def test_hard_objective_is_that_of_full_logits_beside_the_frozen_base_and_does_not_depend_on_accumulation() -> None:
    """Reference, weights, trimming; the reference is the frozen base itself, so that its KL is 0 before the first step."""
    runs = [trained_by(dataclasses.replace(SETTINGS, accumulation=accumulation), 3, HARD) for accumulation in (1, 4)]
    for whole, split in zip(runs[0][1], runs[1][1], strict=True):
        assert split == pytest.approx(whole, rel=1e-6, abs=1e-6)
    close(runs[0][0].params, runs[1][0].params, 1e-5)  # a step moves them by a thousand times as much, whatever Adam's rounding
    state, program = runs[0][0], runs[0][2]
    frozen = frozen_of(program)
    value, tokens = full_logits_loss(toy.params(), toy.params(), toy.batches().batch_at(0))
    assert runs[0][1][0]["loss"] == pytest.approx(float(value), rel=1e-5)
    assert runs[0][1][0]["tokens"] == tokens
    value, _ = full_logits_loss(program.whole(state.params, frozen), toy.params(), toy.batches().batch_at(3))
    _, metrics = program.step(state, jax.tree.map(jnp.asarray, toy.batches().batch_at(3)), {"initial": frozen})
    assert float(metrics["loss"]) == pytest.approx(float(value), rel=1e-4)


@pytest.mark.parametrize("kind", ["none", "nf4"])
def test_eight_devices_equal_one_and_adapters_lie_where_their_matrices_do(kind: Any) -> None:
    training = dataclasses.replace(SETTINGS, lora=dataclasses.replace(LORA, quantize=kind, embeddings=kind == "none"))
    one, expected, _ = trained_by(training, 3)
    many, metrics, program = trained_by(dataclasses.replace(training, accumulation=2), 3, mesh=WIDE)
    for got, want in zip(metrics, expected, strict=True):
        assert got == pytest.approx(want, rel=1e-4, abs=1e-5)
    close(many.params, one.params, 2e-4)
    layers = many.params["layers"]
    for part, name, shard in (
        ("attention", "query_lora_a", (2, 8, 4)),
        ("attention", "query_lora_b", (2, 4, 8)),
        ("attention", "output_lora_a", (2, 8, 4)),
        ("attention", "output_lora_b", (2, 4, 8)),
        ("mlp", "down_lora_a", (2, 16, 4)),
        ("mlp", "up_lora_b", (2, 4, 16)),
    ):
        leaf = layers[part][name]
        assert leaf.sharding.shard_shape(leaf.shape) == shard, name
        paths = [(str(path[-1]), value) for path, value in jax.tree_util.tree_leaves_with_path(many.opt_state)]
        moments = [value for last, value in paths if last == f"['{name}']"]
        assert [value.sharding for value in moments] == [leaf.sharding] * 2
    kernel = frozen_of(program)["layers"]["mlp"]["gate"]
    kernel = kernel if kind == "none" else kernel.qvalue
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 8, 16)
    whole = program.whole(many.params, frozen_of(program))
    assert jax.tree.map(lambda leaf: leaf.sharding, whole) == program.params


def test_optimizer_state_is_that_of_adapters() -> None:
    def size(tree: Any) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))

    like = adapting().like
    full = make_program(toy.MODEL, Objective(), toy.SETTINGS, TOTAL, make_mesh(toy.ONE)).like
    adapters = 4 * 2 * 4 * (4 * (16 + 16) + 3 * (16 + 32))
    assert size(like.params) == adapters
    assert 2 * adapters <= size(like.opt_state) <= 2 * adapters + 64
    assert size(full.opt_state) > 2 * 4 * toy.MODEL.parameters()


def test_bfloat16_computes_in_bfloat16_on_float32_adapters() -> None:
    model = dataclasses.replace(toy.MODEL, dtype="bfloat16", param_dtype="bfloat16", remat="layers")
    base = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), toy.params())
    program = adapting(model=model)
    state, frozen = program.fresh(base), program.freeze(base)
    losses = []
    for step in range(3):
        state, metrics = program.step(state, jax.tree.map(jnp.asarray, toy.batches().batch_at(step)), {"initial": frozen})
        losses.append(float(metrics["loss"]))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(program.whole(state.params, frozen))} == {jnp.dtype("bfloat16")}
    exact = [metrics["loss"] for metrics in trained_by(SETTINGS, 3)[1]]
    assert losses == pytest.approx(exact, rel=2e-2)
    assert losses != exact


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, toy.run(directory, quantised("int8", keep_optimizer=True), Objective(Nll() + 0.1 * ReverseKL()))


def test_checkpoint_holds_adapters_and_their_optimizer_state_and_says_so(undisturbed: tuple[Path, Any]) -> None:
    result = undisturbed[1]
    saved = checkpoints.restore_params(result.checkpoint)
    wanted = low_rank.shapes(toy.MODEL, LORA)
    assert jax.tree.map(lambda leaf: leaf.shape, saved) == jax.tree.map(lambda leaf: leaf.shape, wanted)
    assert params_digest(saved) == result.params_digest == params_digest(result.params)
    lineage = checkpoints.read_lineage(result.checkpoint)
    assert lineage["adapter"] == json.loads(json.dumps(dataclasses.asdict(quantised("int8").lora)))
    assert lineage["initial_params_digest"] == params_digest(toy.params())
    assert params_digest(low_rank.merge(toy.MODEL, quantised("int8").lora, toy.params(), saved)) != params_digest(toy.params())


def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, undisturbed: tuple[Path, Any]) -> None:
    def on_event(event: Any) -> None:
        if event["step"] >= 4:
            raise Interrupt

    arguments = quantised("int8", keep_optimizer=True), Objective(Nll() + 0.1 * ReverseKL())
    before = params_digest(toy.params())
    with pytest.raises(Interrupt):
        toy.run(tmp_path, *arguments, on_event=on_event)
    assert toy.run(tmp_path, *arguments).params_digest == undisturbed[1].params_digest
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed[0] / "metrics.jsonl").read_bytes()
    assert params_digest(toy.params()) == before


def test_looks_see_merged_parameters(tmp_path: Path) -> None:
    seen: dict[int, Any] = {}

    def look(step: int, params: Any) -> dict[str, float]:
        seen[step] = jax.tree.map(np.asarray, params)
        return {"accuracy": 0.0}

    result = toy.run(tmp_path, dataclasses.replace(SETTINGS, save_every=0), probe=Probing(3, look))
    assert list(seen) == [0, 3, 6]
    close(seen[0], toy.params(), 0.0)
    close(seen[6], low_rank.merge(toy.MODEL, LORA, toy.params(), result.params), 1e-6)
    assert np.abs(seen[6]["layers"]["mlp"]["up"] - seen[3]["layers"]["mlp"]["up"]).max() > 1e-3


def test_adapters_memorise_beside_a_base_that_stays(tmp_path: Path) -> None:
    lora = Lora(rank=8, alpha=16.0, quantize="nf4", embeddings=True)
    settings = dataclasses.replace(
        toy.SETTINGS, steps=200, learning_rate=2e-2, weight_decay=0.0, log_every=100, save_every=0, lora=lora
    )
    result = toy.run(tmp_path, settings, data=toy.batches(settings, rows=8, learnable=True))
    assert journal.read(tmp_path / "metrics.jsonl")[-1]["nll"] < 0.1
    assert set(result.params) == {"embedding", "layers"}


def test_probability_of_the_end_of_turn_and_the_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sure = jax.tree.map(jnp.copy, toy.params())
    sure["norm"]["scale"] = 12 * sure["norm"]["scale"]
    data = toy.batches(SETTINGS)

    def ended_by(token: int) -> Any:
        packed = dataclasses.replace(data.packed, target=np.where(data.packed.span == END, token, data.packed.target))
        return dataclasses.replace(data, packed=packed)

    def chances(token: int) -> Any:
        batch = ended_by(token).batch_at(0)
        at = (batch.span == END) & (batch.weight > 0)
        hidden = transformer.forward(toy.MODEL, sure, batch.tokens, batch.positions, batch.segments)
        return jax.nn.softmax(transformer.logits(toy.MODEL, sure, hidden))[at].mean(axis=0)

    rare, usual = int(chances(3).argmin()), int(chances(3).argmax())
    for token in (rare, usual):
        found = preconditions.ending(toy.MODEL, sure, ended_by(token).batch_at(0), make_mesh(toy.ONE))
        assert found is not None
        assert (found.token, found.probability) == (token, pytest.approx(float(chances(token)[token]), rel=1e-4))
    batch = data.batch_at(0)
    assert preconditions.ending(toy.MODEL, sure, batch._replace(span=np.zeros_like(batch.span)), make_mesh(toy.ONE)) is None

    told: list[str] = []
    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr(preconditions, "ending", lambda model, base, batch, mesh: shapes.append(batch.tokens.shape))
    toy.run(tmp_path / "parts", dataclasses.replace(SETTINGS, steps=1, accumulation=4))
    assert shapes == [(toy.ROWS // 4, toy.LENGTH)]  # no more rows at a time than the step reads
    monkeypatch.undo()
    assert chances(rare)[rare] < 0.01 < chances(usual)[usual]
    quick = dataclasses.replace(SETTINGS, steps=1)
    whole = dataclasses.replace(quick, lora=dataclasses.replace(LORA, embeddings=True))
    full = dataclasses.replace(quick, lora=Lora())
    for name, settings, end in (
        ("usual", quick, usual),
        ("embeddings", whole, rare),
        ("full", full, rare),
        ("rare", quick, rare),
    ):
        assert told == []
        toy.run(tmp_path / name, settings, initial=sure, data=ended_by(end), on_warning=told.append)
    assert len(told) == 1
    assert f"end-of-turn token {rare} a mean probability of" in told[0]
    assert told[0].endswith("consider training.lora.embeddings True")


def test_a_frozen_reference_is_the_base_itself() -> None:
    """No second copy among the arguments of the step, nor made when freezing; where everything is trained, there is one."""
    referenced = Objective(Nll() + 0.1 * ReverseKL())
    batch = jax.tree.map(jnp.asarray, toy.batches().batch_at(0))

    def bytes_given(training: Training, objective: Objective) -> int:
        program = adapting(training, objective)
        needed = training.lora.rank or objective is referenced
        frozen = {"initial": program.freeze(put(toy.params(), program.params))} if needed else None
        return int(program.step.lower(program.like, batch, frozen).compile().memory_analysis().argument_size_in_bytes)  # type: ignore[attr-defined]

    base = sum(leaf.nbytes for leaf in jax.tree.leaves(toy.params()))
    assert bytes_given(SETTINGS, referenced) - bytes_given(SETTINGS, Objective()) < 0.01 * base
    assert 0.9 * base < bytes_given(toy.SETTINGS, referenced) - bytes_given(toy.SETTINGS, Objective()) < 1.1 * base

    program = adapting(objective=referenced)
    given = put(toy.params(), program.params)
    assert all(one is other for one, other in zip(jax.tree.leaves(program.freeze(given)), jax.tree.leaves(given), strict=True))
