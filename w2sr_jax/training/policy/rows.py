"""Rollouts as the rows of a step: answers, each after its prompt, packed into rows of one length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from w2sr_jax.batches.batch import Batch, RolloutData
from w2sr_jax.batches.encode import VERDICT_CODES
from w2sr_jax.batches.packing import plan
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Rollout
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.spans import ANSWER, END, REASONING, answer_start


class Shape(NamedTuple):
    """`rows` of `length` positions, of which a step takes every `parts`-th at a time, see `training.accumulation`. `alone` says
    that a row holds one rollout at most."""

    rows: int
    length: int
    parts: int = 1
    alone: bool = False

    @classmethod
    def holding(cls, rollouts: int, longest: int, length: int, parts: int, ways: int, alone: bool = False) -> "Shape":
        """As many rows as so many rollouts fill, of at most `longest` positions each, in a multiple of `parts` × `ways`."""
        least = -(-rollouts // (1 if alone else length // longest))
        return cls(-(-least // (parts * ways)) * parts * ways, length, parts, alone)

    def row(self, number: int) -> int:
        """Where the row that is filled as number so and so lies: those of a part are filled before those of the next one, so that
        a step can pass over parts that hold nothing."""
        part, spot = divmod(number, self.rows // self.parts)
        return spot * self.parts + part


def batch(
    rollouts: Sequence[Rollout],
    problems: Sequence[Problem],
    weights: Float[np.ndarray, " N"],
    renderer: Renderer,
    style: str,
    shape: Shape,
) -> Batch:
    """Rollouts, of the problems beside them, in as few rows as hold them; rows that are left are empty. Supervised are the tokens
    that were drawn, each with the rollout's weight, advantage and the log-probabilities of the draw."""
    size = shape.rows, shape.length
    tokens, target = (np.full(size, renderer.pad, np.int32) for _ in range(2))
    positions, segments, span, verdict = (np.zeros(size, np.int32) for _ in range(4))
    weight, advantage, sampled = (np.zeros(size, np.float32) for _ in range(3))
    logprob = np.full(size, np.nan, np.float32)
    prompts = renderer.prompts([problem.question for problem in problems], style)
    spans = _spans(rollouts, renderer)
    for number, members in enumerate(_packed(rollouts, prompts, shape)):
        row, start = shape.row(number), 0
        for segment, index in enumerate(members, 1):
            rollout, prompt = rollouts[index], prompts[index]
            ids = [*prompt, *rollout.token_ids]
            end = start + len(ids) - 1
            read, drawn = slice(start, end), slice(start + len(prompt) - 1, end)
            tokens[row, read], target[row, read] = ids[:-1], ids[1:]
            positions[row, read], segments[row, read] = np.arange(len(ids) - 1), segment
            span[row, drawn], verdict[row, read] = spans[index], VERDICT_CODES[rollout.verdict]
            logprob[row, drawn], sampled[row, drawn] = rollout.logprobs, rollout.sampled
            weight[row, drawn], advantage[row, drawn] = weights[index], rollout.advantage
            start = end
    return Batch(tokens, positions, segments, target, span, verdict, logprob, weight, rollout=RolloutData(advantage, sampled))


def _packed(rollouts: Sequence[Rollout], prompts: Sequence[Sequence[int]], shape: Shape) -> list[list[int]]:
    """Rows of indices of rollouts. `UserError` where one is longer than a row."""
    lengths = [len(prompt) + len(rollout.token_ids) - 1 for rollout, prompt in zip(rollouts, prompts, strict=True)]
    for rollout, positions in zip(rollouts, lengths, strict=True):
        if positions > shape.length:
            raise UserError(
                f"a rollout of problem {rollout.problem_id} has {positions} positions with its prompt, and a row has "
                f"{shape.length}; raise training.batching.length, or lower decoding.max_tokens"
            )
    return [[index] for index in range(len(lengths))] if shape.alone else [list(row) for row in plan(lengths, shape.length)]


def _spans(rollouts: Sequence[Rollout], renderer: Renderer) -> list[list[int]]:
    """The span of each drawn token: as in an example with the same text, where the tokenizer writes it with the tokens that were
    drawn; otherwise all is reasoning but an end of turn."""
    texts = [rollout.text for rollout in rollouts]
    spans, ends = [], frozenset(renderer.end_tokens)
    encoded = renderer.tokenizer.encode_marked(texts, [answer_start(text) for text in texts])
    for rollout, (ids, mark) in zip(rollouts, encoded, strict=True):
        drawn = list(rollout.token_ids)
        same = mark is not None and drawn[: len(ids)] == list(ids)
        first = len(drawn) if not same or mark is None else mark
        spans.append([END if token in ends else ANSWER if at >= first else REASONING for at, token in enumerate(drawn)])
    return spans
