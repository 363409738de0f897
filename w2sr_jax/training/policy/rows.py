"""Rollouts as the rows of a step: one answer in each, after its prompt, padded to one length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from w2sr_jax.batches.batch import Batch, RolloutData
from w2sr_jax.batches.encode import VERDICT_CODES
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Rollout
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.spans import ANSWER, END, REASONING, answer_start


class Shape(NamedTuple):
    """`rows` of `length` positions."""

    rows: int
    length: int


def batch(
    rollouts: Sequence[Rollout],
    problems: Sequence[Problem],
    weights: Float[np.ndarray, " N"],
    renderer: Renderer,
    style: str,
    shape: Shape,
) -> Batch:
    """One row for each of some rollouts, of the problems beside them; rows that are left are empty. Supervised are the tokens
    that were drawn, each with the rollout's weight, advantage and the log-probabilities of the draw."""
    tokens, target = (np.full(shape, renderer.pad, np.int32) for _ in range(2))
    segments, span, verdict = (np.zeros(shape, np.int32) for _ in range(3))
    weight, advantage, sampled = (np.zeros(shape, np.float32) for _ in range(3))
    logprob = np.full(shape, np.nan, np.float32)
    prompts = renderer.prompts([problem.question for problem in problems], style)
    spans = _spans(rollouts, renderer)
    for row, (rollout, prompt) in enumerate(zip(rollouts, prompts, strict=True)):
        ids = [*prompt, *rollout.token_ids]
        if len(ids) - 1 > shape.length:
            raise UserError(
                f"a rollout of problem {rollout.problem_id} has {len(ids) - 1} positions with its prompt, and a row has "
                f"{shape.length}; raise training.batching.length, or lower decoding.max_tokens"
            )
        read, drawn = slice(0, len(ids) - 1), slice(len(prompt) - 1, len(ids) - 1)
        tokens[row, read], target[row, read], segments[row, read] = ids[:-1], ids[1:], 1
        span[row, drawn], verdict[row, read] = spans[row], VERDICT_CODES[rollout.verdict]
        logprob[row, drawn], sampled[row, drawn] = rollout.logprobs, rollout.sampled
        weight[row, drawn], advantage[row, drawn] = weights[row], rollout.advantage
    positions = np.broadcast_to(np.arange(shape.length, dtype=np.int32), shape) * segments
    return Batch(tokens, positions, segments, target, span, verdict, logprob, weight, rollout=RolloutData(advantage, sampled))


def _spans(rollouts: Sequence[Rollout], renderer: Renderer) -> list[list[int]]:
    """The span of each drawn token: as in an example with the same text, where the tokenizer writes it with the tokens that were
    drawn; otherwise all is reasoning but an end of turn."""
    texts = [rollout.text for rollout in rollouts]
    spans = []
    encoded = renderer.tokenizer.encode_marked(texts, [answer_start(text) for text in texts])
    for rollout, (ids, mark) in zip(rollouts, encoded, strict=True):
        drawn = list(rollout.token_ids)
        same = mark is not None and drawn[: len(ids)] == list(ids)
        first = len(drawn) if not same or mark is None else mark
        spans.append(
            [END if token in renderer.end_tokens else ANSWER if at >= first else REASONING for at, token in enumerate(drawn)]
        )
    return spans
