"""Rollouts packed into the rows of a step, and micro-batches that hold none."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from own_answers import PROBLEMS, renderer

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Rollout
from w2sr_jax.training.accumulation import gradient, micro_batches
from w2sr_jax.training.policy import rows
from w2sr_jax.training.policy.rows import Shape


def rollout(number: int, tokens: int, problem: Problem) -> Rollout:
    ids = tuple(np.random.default_rng(number).integers(0, renderer().vocab_size, tokens).tolist())
    numbers = tuple(-(number + at / 100) for at in range(tokens))
    own = Rollout(f"{number}", 0, problem.id, number, renderer().decode(list(ids)), None, "correct", "length", tokens)
    return dataclasses.replace(own, token_ids=ids, logprobs=numbers, sampled=numbers, advantage=number + 0.5)


LENGTHS = (3, 9, 1, 5, 7, 2)
PROMPT = len(renderer().prompt(PROBLEMS[0].question))


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_every_rollout_is_in_the_rows_once_and_as_it_was_drawn(parts: int) -> None:
    drawn = [rollout(number, tokens, PROBLEMS[number]) for number, tokens in enumerate(LENGTHS)]
    weights = np.arange(1, len(drawn) + 1) / 10
    shape = Shape.holding(8, PROMPT + 9, 3 * (PROMPT + 9), parts, 1)
    assert (shape.rows, shape.length) == ({1: 3, 2: 4, 4: 4}[parts], 3 * (PROMPT + 9))
    batch = rows.batch(drawn, PROBLEMS[: len(drawn)], weights, renderer(), "reason", shape)
    assert batch.rollout is not None
    seen = []
    for row in range(shape.rows):
        for segment in range(1, batch.segments[row].max() + 1):
            (at,) = np.nonzero(batch.segments[row] == segment)
            own = at[batch.weight[row, at] > 0]
            (number,) = {round(float(value) - 0.5) for value in batch.rollout.advantage[row, own]}
            one, prompt = drawn[number], renderer().prompt(PROBLEMS[number].question)
            assert [*batch.tokens[row, at], batch.target[row, at[-1]]] == [*prompt, *one.token_ids]
            assert list(batch.target[row, own]) == list(one.token_ids)
            assert list(batch.positions[row, at]) == list(range(len(at)))
            np.testing.assert_allclose(batch.weight[row, own], weights[number])
            np.testing.assert_allclose(batch.rollout.sampled[row, own], one.sampled)
            np.testing.assert_allclose(batch.teacher_logprob[row, own], one.logprobs)
            seen.append(number)
    assert sorted(seen) == list(range(len(drawn)))
    assert not batch.weight[batch.segments == 0].any()
    filled = micro_batches(jnp.asarray(batch.segments).any(axis=1)[:, None], parts, None)[..., 0].reshape(-1)
    assert not np.any(np.diff(np.asarray(filled, int)) > 0)  # part by part


def test_a_rollout_that_is_longer_than_a_row_is_refused() -> None:
    with pytest.raises(UserError, match="positions with its prompt, and a row has"):
        rows.batch([rollout(0, 9, PROBLEMS[0])], PROBLEMS[:1], np.ones(1), renderer(), "reason", Shape(1, PROMPT + 3))


def test_as_many_rows_as_hold_the_longest() -> None:
    assert Shape.holding(16, 10, 10, 1, 1) == Shape(16, 10, 1)
    assert Shape.holding(16, 10, 39, 1, 1) == Shape(6, 39, 1)
    assert Shape.holding(16, 10, 39, 2, 2) == Shape(8, 39, 2)
    assert Shape.holding(16, 10, 39, 1, 1, alone=True) == Shape(16, 39, 1, True)


def test_losses_on_sequences_have_each_rollout_in_a_row_of_its_own() -> None:
    drawn = [rollout(number, tokens, PROBLEMS[number]) for number, tokens in enumerate(LENGTHS)]
    shape = Shape.holding(len(drawn), PROMPT + 9, 3 * (PROMPT + 9), 1, 1, alone=True)
    batch = rows.batch(drawn, PROBLEMS[: len(drawn)], np.ones(len(drawn)), renderer(), "reason", shape)
    assert (batch.weight > 0).sum(axis=1).tolist() == list(LENGTHS)
    assert batch.segments.max() == 1


def test_parts_that_add_nothing_are_passed_over() -> None:
    """They would make everything NaN."""
    parts = jnp.array([[1.0, 2.0], [jnp.nan, jnp.nan], [3.0, 4.0], [jnp.nan, jnp.nan]])

    def sums(params, frozen, part, progress):
        return params * part.sum(), part.sum()

    slope, total = gradient(sums, lambda: jnp.zeros(()), jnp.ones(()), None, parts, 0.0, 4, None, lambda p: p[0] == p[0])
    assert (float(slope), float(total)) == (10.0, 10.0)
