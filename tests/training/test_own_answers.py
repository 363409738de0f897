"""Trainings on a student's own answers: what a step computes, against formulas; interruption; what is refused."""

import dataclasses
import gc
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from own_answers import DECODING, DRAWS, LOSS, PROBLEMS, TRAINING, even, learn, model, own_answers, params, renderer

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import records
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.records import Problem, Rollout, Trace, Verdict
from w2sr_jax.experiment import Policy
from w2sr_jax.losses.advantages import Fixed, LeaveOneOut
from w2sr_jax.losses.policy import Dapo, Grpo, Reinforce
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.losses.shift import Shift
from w2sr_jax.losses.token import Nll, OnCorrect
from w2sr_jax.models import transformer
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training.frozen import FrozenModel
from w2sr_jax.training.policy.gates import Gates
from w2sr_jax.training.policy.source import RolloutSource
from w2sr_jax.training.protocols import Hooks


def rollouts(directory: Path, draw: int) -> list[Rollout]:
    return records.read(directory / "drawn" / f"rollouts-{draw:06d}.parquet", Rollout)


def metrics(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@jax.jit
def every_logprob(parameters: Any, ids: jax.Array) -> jax.Array:
    """Of each token after the first in rows of ids, without any machinery of trainings."""
    positions = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
    hidden = transformer.forward(model(), parameters, ids, positions, jnp.ones_like(ids))
    logits = hidden @ transformer.output_matrix(model(), parameters)
    return jnp.take_along_axis(jax.nn.log_softmax(logits)[:, :-1], ids[:, 1:, None], axis=2)[..., 0]


def spread(drawn: list[Rollout]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts with their answers as padded rows of ids, and where in each the drawn tokens are, less 1."""
    ids, own = np.zeros((len(drawn), 28), np.int32), np.zeros((len(drawn), 27), bool)
    for row, rollout in enumerate(drawn):
        prompt = renderer().prompt(next(problem.question for problem in PROBLEMS if problem.id == rollout.problem_id))
        whole = [*prompt, *rollout.token_ids]
        ids[row, : len(whole)], own[row, len(prompt) - 1 : len(whole) - 1] = whole, True
    return ids, own


def logprobs(parameters: Any, drawn: list[Rollout]) -> list[np.ndarray]:
    """Of the tokens of each of some rollouts."""
    ids, own = spread(drawn)
    return [row[mask] for row, mask in zip(np.asarray(every_logprob(parameters, ids)), own, strict=True)]


@jax.jit
def gradient(ids: jax.Array, weights: jax.Array) -> Any:
    """Of Σ weight · −log p at the initial parameters."""
    return jax.grad(lambda parameters: -(weights * every_logprob(parameters, ids)).sum())(params())


def centered(directory: Path) -> dict[str, float]:
    """Advantage of each rollout of the first draw by hand: its reward less the mean of its problem's."""
    drawn = rollouts(directory, 0)
    by_problem: dict[str, list[float]] = {}
    for rollout in drawn:
        by_problem.setdefault(rollout.problem_id, []).append(rollout.reward or 0.0)
    return {rollout.id: (rollout.reward or 0.0) - float(np.mean(by_problem[rollout.problem_id])) for rollout in drawn}


COUNT = DRAWS.rollouts


@pytest.mark.parametrize("kind", ["Dr.GRPO", "REINFORCE", "GRPO", "DAPO", "GSPO"])
def test_the_first_step_has_the_gradient_of_the_formula(tmp_path: Path, kind: str) -> None:
    """With one step on answers that were just drawn, every ratio is 1, and clips do nothing."""
    loss: Any = {"Dr.GRPO": LOSS, "REINFORCE": Reinforce(), "GRPO": Grpo(), "DAPO": Dapo(), "GSPO": Gspo()}[kind]
    draws = dataclasses.replace(DRAWS, steps=1, advantages=loss.advantages, denominator=loss.denominator)
    learn(tmp_path, draws=draws, loss=loss)
    own, drawn = centered(tmp_path), rollouts(tmp_path, 0)
    groups = np.array([own[rollout.id] for rollout in drawn]).reshape(DRAWS.problems, DRAWS.samples)
    scale = {
        "Dr.GRPO": np.full(groups.shape, 1 / (COUNT * DECODING.max_tokens)),
        "REINFORCE": np.full(groups.shape, DRAWS.samples / (DRAWS.samples - 1) / (COUNT * DECODING.max_tokens)),
        "GRPO": 1 / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-6) / COUNT * np.ones(groups.shape),
        # The gradient of a ratio to the power 1/n is that of the mean log-probability.
        "GSPO": 1 / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-6) / COUNT * np.ones(groups.shape),
        "DAPO": 1 / (groups.std(axis=1, ddof=1, keepdims=True) + 1e-6) * np.ones(groups.shape) / sum(r.tokens for r in drawn),
    }[kind].reshape(-1)
    lengths = np.array([rollout.tokens if kind in ("GRPO", "GSPO") else 1 for rollout in drawn])
    ids, mask = spread(drawn)
    expected = gradient(ids, mask * (groups.reshape(-1) * scale / lengths)[:, None])
    line = metrics(tmp_path)[0]
    assert line["gradient_norm"] == pytest.approx(float(optax.global_norm(expected)), rel=2e-4)
    assert line["reward"] == pytest.approx(np.mean([rollout.reward for rollout in drawn]))
    if kind != "GSPO":  # beside a loss on sequences nothing is watched
        assert line["ratio_deviation"] < 1e-4
        assert line["ratio_far"] == 0


def test_what_was_written_down_is_what_was_drawn(tmp_path: Path) -> None:
    learn(tmp_path)
    drawn = rollouts(tmp_path, 0)
    for rollout, expected in zip(drawn, logprobs(params(), drawn), strict=True):
        np.testing.assert_allclose(expected, rollout.logprobs, atol=2e-5)
        assert rollout.sampled == rollout.logprobs  # temperature 1, nothing cut
        assert rollout.rewards == {"even": pytest.approx(even(rollout.trace("student"), PROBLEMS[0]))}
    asked = [{rollout.problem_id for rollout in rollouts(tmp_path, draw)} for draw in (0, 1)]
    assert asked[0] | asked[1] == {problem.id for problem in PROBLEMS}  # each once before any again
    assert metrics(tmp_path)[-1]["reward"] > metrics(tmp_path)[0]["reward"]  # and it learns


@pytest.mark.parametrize("ahead", [False, True], ids=["each step's own", "one step ahead"])
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, ahead: bool) -> None:
    draws = dataclasses.replace(DRAWS, ahead=ahead)
    whole = learn(tmp_path / "whole", draws=draws)
    for polls in (3, 8):  # it is asked before every step, and with each problem while answers are drawn
        polled = iter(range(100))
        with pytest.raises(Stopped):
            learn(tmp_path / "parts", draws=draws, stop=lambda polled=polled, polls=polls: next(polled) >= polls)
    parts = learn(tmp_path / "parts", draws=draws)
    assert parts.params_digest == whole.params_digest
    assert (tmp_path / "parts" / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    for draw in range(DRAWS.steps):
        assert rollouts(tmp_path / "parts", draw) == rollouts(tmp_path / "whole", draw)


def test_answers_that_are_drawn_ahead_are_one_update_old(tmp_path: Path) -> None:
    learn(tmp_path, draws=dataclasses.replace(DRAWS, ahead=True))
    first, second = metrics(tmp_path)[:2]
    assert first["ratio_deviation"] < 1e-4 < second["ratio_deviation"]
    drawn = rollouts(tmp_path, 1)
    for rollout, expected in zip(drawn, logprobs(params(), drawn), strict=True):
        np.testing.assert_allclose(expected, rollout.logprobs, atol=2e-5)


def test_answers_are_used_again(tmp_path: Path) -> None:
    learn(tmp_path, draws=dataclasses.replace(DRAWS, reuse=2))
    assert not (tmp_path / "drawn" / "rollouts-000002.parquet").exists()
    deviations = [line["ratio_deviation"] for line in metrics(tmp_path)]
    assert max(deviations[0], deviations[2]) < 1e-4 < min(deviations[1], deviations[3])


@pytest.mark.parametrize(
    "decoding",
    [
        dataclasses.replace(DECODING, temperature=0.7),
        dataclasses.replace(DECODING, top_k=5),
        dataclasses.replace(DECODING, temperature=1.3, top_p=0.8, min_p=0.02),
    ],
    ids=["temperature", "top-k", "top-p and min-p"],
)
def test_the_ratio_is_that_of_the_distribution_that_was_sampled(tmp_path: Path, decoding: Any) -> None:
    learn(tmp_path, draws=dataclasses.replace(DRAWS, steps=1), decoding=decoding)
    line = metrics(tmp_path)[0]
    assert line["ratio_deviation"] < 1e-4
    assert line["ratio_far"] == 0
    drawn = rollouts(tmp_path, 0)
    assert any(abs(a - b) > 1e-2 for rollout in drawn for a, b in zip(rollout.sampled, rollout.logprobs, strict=True))


def test_groups_without_variance_are_left_out_and_replaced(tmp_path: Path) -> None:
    hard = {problem.id for problem in PROBLEMS[:4]}

    def reward(trace: Trace, problem: Problem) -> float:
        return 0.0 if problem.id in hard else even(trace, problem)

    draws = dataclasses.replace(DRAWS, steps=1, rewards=(reward,))
    learn(tmp_path / "once", draws=draws)
    learn(tmp_path / "again", draws=dataclasses.replace(draws, redraws=1))
    once, again = rollouts(tmp_path / "once", 0), rollouts(tmp_path / "again", 0)
    assert {rollout.left_out for rollout in once if rollout.problem_id in hard} == {"no variance"}
    assert len(again) == 2 * COUNT
    learned = {rollout.problem_id for rollout in again if not rollout.left_out}
    assert learned == {problem.id for problem in PROBLEMS} - hard
    assert metrics(tmp_path / "once")[0]["no_variance"] == pytest.approx(len({r.problem_id for r in once} & hard) / 4)


def test_answers_that_did_not_end_are_left_out(tmp_path: Path) -> None:
    learn(tmp_path, draws=dataclasses.replace(DRAWS, steps=1, truncated="mask"))
    drawn = rollouts(tmp_path, 0)
    assert {rollout.left_out for rollout in drawn if rollout.finish == "length"} == {"truncated"}
    assert metrics(tmp_path)[0]["tokens"] == sum(rollout.tokens for rollout in drawn if not rollout.left_out)


def test_adapters_micro_batches_and_devices_learn_the_same(tmp_path: Path) -> None:
    draws = dataclasses.replace(DRAWS, steps=2)
    plain = learn(tmp_path / "plain", draws=draws)
    wide = dataclasses.replace(draws, length=72)
    parts = learn(tmp_path / "parts", draws=wide, training=dataclasses.replace(TRAINING, accumulation=4))
    eight = learn(tmp_path / "eight", draws=draws, training=dataclasses.replace(TRAINING, accumulation=2), mesh=Mesh(2, 4))
    for other in (parts, eight):
        trees = (jax.device_get(tree) for tree in (plain.params, other.params, params()))
        for left, right, start in zip(*map(jax.tree.leaves, trees), strict=True):
            assert np.linalg.norm(left - right) <= 2e-2 * np.linalg.norm(left - start)
    assert [r.text for r in rollouts(tmp_path / "eight", 1)] == [r.text for r in rollouts(tmp_path / "plain", 1)]
    lora = dataclasses.replace(TRAINING, lora=Lora(rank=4), learning_rate=0.1)
    adapted = learn(tmp_path / "adapters", draws=draws, training=lora)
    assert set(adapted.lineage["adapter"]) >= {"rank"}
    assert metrics(tmp_path / "adapters")[0]["ratio_deviation"] < 1e-4
    assert metrics(tmp_path / "adapters")[0]["kl"] == pytest.approx(0.0, abs=1e-6)
    assert metrics(tmp_path / "adapters")[1]["kl"] > 1e-6


def test_imitation_of_own_right_answers_is_a_loss_like_any_other(tmp_path: Path) -> None:
    """On-policy with the answers' verdicts: of wrong ones nothing is learned."""
    draws = dataclasses.replace(DRAWS, steps=1, flat="keep", patience=0, denominator="token")

    def grader(text: str, problem: Problem) -> Verdict:
        return Verdict("correct" if len(text.split()) % 2 else "incorrect", None, "odd", "toy")

    learn(tmp_path, draws=draws, loss=OnCorrect(Nll()), grader=grader)
    drawn = rollouts(tmp_path, 0)
    assert {rollout.left_out for rollout in drawn} == {""}
    right = [rollout for rollout in drawn if rollout.verdict == "correct"]
    expected = sum(-sum(rollout.logprobs) for rollout in right) / sum(rollout.tokens for rollout in drawn)
    assert 0 < len(right) < len(drawn)
    assert metrics(tmp_path)[0]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("mesh", [Mesh(data=1), Mesh(2, 2, 2)], ids=["one device", "eight"])
def test_a_model_that_is_padded_further_is_compared_over_the_ids_of_the_tokenizer(tmp_path: Path, mesh: Mesh) -> None:
    """As the same model without its padding, to which its head gives much probability."""
    known = model().vocab_size
    wide = dataclasses.replace(model(), vocab_size=known + 8)
    teacher = dict(params(seed=1))
    padded = {**teacher, "embedding": jnp.concatenate([teacher["embedding"], jnp.ones((8, wide.width))])}
    draws = dataclasses.replace(DRAWS, steps=2, flat="keep", patience=0, denominator="token")
    lines = {}
    for name, config, own in (("padded", wide, padded), ("plain", model(), teacher)):
        models = {"weak": FrozenModel(config, lambda own=own: own, name)}
        learn(tmp_path / name, draws=draws, loss=Shift(positive="weak"), models=models, mesh=mesh)
        lines[name] = metrics(tmp_path / name)
    for one, other in zip(lines["padded"], lines["plain"], strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)
    narrow = {"weak": FrozenModel(dataclasses.replace(wide, vocab_size=known - 8), dict, "")}
    said = refused(tmp_path / "narrow", draws=draws, loss=Shift(positive="weak"), models=narrow)
    assert "they can only be compared over one vocabulary" in said


def test_nothing_is_compiled_after_the_second_step(tmp_path: Path) -> None:
    program, source = own_answers(tmp_path)
    source.prepare(tmp_path, 0, Hooks())
    state = program.begin(None, Hooks())
    compiled: list[str] = []
    counting = [False]

    def count(name: str, *_: Any, **__: Any) -> None:
        if counting[0] and "backend_compile" in name:
            compiled.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)
    for step in range(4):
        counting[0] = step >= 2
        state, _ = program.step(state, source.batch_at(step, state))
    counting[0] = False
    assert compiled == []


def held() -> int:
    """Bytes of all arrays on devices, those that share memory once."""
    gc.collect()
    parts = [shard.data for array in jax.live_arrays() for shard in array.addressable_shards]
    return sum({part.unsafe_buffer_pointer(): part.nbytes for part in parts}.values())


@pytest.mark.parametrize("rank", [0, 4], ids=["parameters", "adapters"])
@pytest.mark.parametrize("mesh", [Mesh(data=1), Mesh(2, 4)], ids=["one device", "eight"])
def test_a_draw_leaves_neither_weights_nor_slots_on_the_devices(tmp_path: Path, rank: int, mesh: Mesh) -> None:
    program, source = own_answers(tmp_path, training=dataclasses.replace(TRAINING, lora=Lora(rank=rank)), mesh=mesh)
    source.prepare(tmp_path, 0, Hooks())
    state = program.begin(None, Hooks())
    before = held()
    source.batch_at(0, state)
    assert held() - before < sum(leaf.nbytes for leaf in jax.tree.leaves(params())) / 4


def refused(tmp_path: Path, **settings: Any) -> str:
    with pytest.raises(UserError) as raised:
        learn(tmp_path, **settings)
    return str(raised.value)


def not_a_number(trace: Trace, problem: Problem) -> float:
    return float("nan")


def never(trace: Trace, problem: Problem) -> float:
    return 0.0


def test_what_cannot_be_learned_from_is_one_sentence(tmp_path: Path) -> None:
    said = refused(tmp_path / "nan", draws=dataclasses.replace(DRAWS, rewards=(not_a_number,)))
    assert "test_own_answers.py, line" in said
    assert "the reward is nan for problem" in said
    said = refused(tmp_path / "never", draws=dataclasses.replace(DRAWS, steps=20, rewards=(never,), patience=3))
    assert said.startswith("in 3 draws in a row all answers to each problem had one reward")
    assert not (tmp_path / "never" / "drawn" / "rollouts-000003.parquet").exists()
    said = refused(tmp_path / "rows", draws=dataclasses.replace(DRAWS, length=12))
    assert "takes" in said
    assert "raise training.batching.length" in said
    said = refused(tmp_path / "few", draws=dataclasses.replace(DRAWS, problems=9))
    assert said.startswith("a draw asks 9 problems, and there are 8")


def test_the_gate_on_ratios_looks_at_answers_of_the_student_as_it_is(tmp_path: Path) -> None:
    draws, gates = dataclasses.replace(DRAWS, reuse=2), Gates(truncated=0.0, looping=0.0, beyond=1e-9, action="stop")
    learn(tmp_path, draws=draws, gates=gates)
    assert max(line["ratio_far"] for line in metrics(tmp_path)) > 0


def test_gates_warn_and_stop(tmp_path: Path) -> None:
    said: list[str] = []
    program, source = own_answers(tmp_path / "warns", gates=Gates(truncated=0.01, looping=0.0))
    source.prepare(tmp_path, 0, Hooks())
    state = program.begin(None, Hooks(on_warning=said.append))
    for step in range(3):
        state, _ = program.step(state, source.batch_at(step, state))
    assert len(said) == 1
    assert "did not end within decoding.max_tokens (gates.truncated is 0.01)" in said[0]
    stopped = refused(tmp_path / "stops", gates=Gates(truncated=0.01, action="stop"))
    assert stopped.startswith("training stopped at step 1: ")


def test_gates_judge_every_step_at_its_own_number(tmp_path: Path) -> None:
    """Also the last one, those that are not logged, and before anything is saved of them."""
    gates = Gates(truncated=0.0, looping=0.0, kl=1e-7, action="stop")  # the first step's student is the one of the start
    for steps in (2, 4):
        directory, draws = tmp_path / str(steps), dataclasses.replace(DRAWS, steps=steps)
        training = dataclasses.replace(TRAINING, log_every=4, save_every=2)
        assert refused(directory, draws=draws, gates=gates, training=training).startswith("training stopped at step 2: ")
        assert not (directory / "checkpoints" / "2").exists()


def test_a_control_without_rewards_moves_away_from_what_it_writes(tmp_path: Path) -> None:
    draws = dataclasses.replace(DRAWS, advantages=Fixed(-1.0), patience=0)
    result = learn(tmp_path, draws=draws)
    drawn = rollouts(tmp_path, 0)
    assert {rollout.advantage for rollout in drawn} == {-1.0}
    after = logprobs(result.params, drawn)
    assert sum(map(np.sum, after)) < sum(sum(rollout.logprobs) for rollout in drawn)


def test_own_advantages_are_checked(tmp_path: Path) -> None:
    def wrong(rewards: np.ndarray) -> Any:
        return rewards.sum()

    said = refused(tmp_path, draws=dataclasses.replace(DRAWS, advantages=wrong))
    assert "one number for each rollout" in said


def test_advantages_of_the_source_are_those_of_the_function(tmp_path: Path) -> None:
    learn(tmp_path, draws=dataclasses.replace(DRAWS, steps=1, advantages=LeaveOneOut()))
    own = centered(tmp_path)
    for rollout in rollouts(tmp_path, 0):
        assert rollout.advantage == pytest.approx(own[rollout.id] * 4 / 3, abs=1e-12)
    assert isinstance(own_answers(tmp_path / "other").source, RolloutSource)


@pytest.mark.parametrize("problems", [3, 5, 7, 8])
def test_no_draw_asks_a_problem_twice(tmp_path: Path, problems: int) -> None:
    """Nor does a pass: a draw that a pass has no room for is the first one of the next."""
    draws = dataclasses.replace(DRAWS, steps=6, problems=problems, samples=1)
    source = own_answers(tmp_path, draws=draws).source
    asked = [[problem.id for problem in source._asked(draw, 0)] for draw in range(draws.steps)]
    assert {len(set(each)) for each in asked} == {problems}
    each_pass = len(PROBLEMS) // problems
    for first in range(0, draws.steps - each_pass + 1, each_pass):
        once = [problem for each in asked[first : first + each_pass] for problem in each]
        assert len(set(once)) == len(once)
    assert len({tuple(each) for each in asked}) == draws.steps


def test_rows_are_split_as_the_training_splits_them(tmp_path: Path) -> None:
    """Whatever draws: three answers to a row of 72 positions fill 6 rows, which 8 devices cannot share."""
    draws = dataclasses.replace(DRAWS, steps=1, length=72)
    wide = own_answers(tmp_path / "wide", draws=draws, mesh=Mesh(2, 4), drawn_on=Mesh(data=1))
    assert wide.source._shape.rows == 8
    narrow = own_answers(tmp_path / "narrow", draws=draws, mesh=Mesh(data=1), drawn_on=Mesh(2, 4))
    assert narrow.source._shape.rows == 6
    learned = learn(tmp_path / "learned", draws=draws, mesh=Mesh(2, 4), drawn_on=Mesh(data=1))
    assert learned.steps == 1


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("length", [24, 72])
@pytest.mark.parametrize("loss", [LOSS, Gspo()], ids=["tokens", "sequences"])
def test_as_many_rows_are_planned_as_a_step_has(tmp_path: Path, accumulation: int, length: int, loss: Any) -> None:
    training = dataclasses.replace(TRAINING, accumulation=accumulation, batching=Batching(length=length))
    stage = Policy(loss, problems=DRAWS.problems, rollouts=DRAWS.samples, training=training)
    prompt = max(len(renderer().prompt(problem.question)) for problem in PROBLEMS)
    for mesh, ways in ((Mesh(data=1), 1), (Mesh(2, 4), 8)):
        draws = dataclasses.replace(DRAWS, length=length)
        source = own_answers(tmp_path, draws=draws, training=training, loss=loss, mesh=mesh).source
        assert stage.rows(DECODING, prompt, ways) == source._shape.rows
        assert stage.rows(DECODING, ways=ways) <= source._shape.rows
