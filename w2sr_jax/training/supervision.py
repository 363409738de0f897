"""What of its data a training learns from, known from the packed rows before anything is compiled."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.packing import TOGETHER, Packed, release
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.losses.inputs import TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.selection import counted
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.training.frozen import NO_MODELS, Models, teacher_known

MOST = 20_000
"""Steps that are gone through where some rows have nothing to learn from."""


class _Rows(NamedTuple):
    """Sums over the tokens of each row: `weight` of all, `learned` of those that the loss looks at; and where the teacher's
    confidence counts, the weight of tokens without one (`unknown`) and the factor that is left of the others (`confident`)."""

    weight: Float[np.ndarray, " N"]
    learned: Float[np.ndarray, " N"]
    unknown: Float[np.ndarray, " N"]
    confident: Float[np.ndarray, " N"]


class _Tokens(NamedTuple):
    """How many tokens there are, are imitated, and still have a weight; these by verdict (incorrect, unknown, correct), and at
    how many of them the teacher's distribution is known."""

    read: int
    imitated: int
    weighted: int
    verdicts: tuple[int, int, int]
    taught: int


def check(batches: Batches, objective: Objective, total: int, models: Models = NO_MODELS) -> str | None:
    """What is odd about the weights of the first `total` steps of a training, in words: steps in which nothing is learned.
    `models` are those, besides `initial`, that are given to it.

    `NothingToTrain` where nothing is learned in any: no token is imitated, the weights of all are 0, or the loss looks at none.
    `UserError` where the weights of a step sum to less than 0, since a step's loss is divided by that sum, and where the loss
    looks at a teacher whose distribution is known at no token.
    """
    rows, tokens = _look(batches.packed, objective, models)
    if not tokens.imitated:
        raise NothingToTrain(
            f"none of the {tokens.read:,} tokens of the data is imitated: the weight of every example, or of its tokens, is 0; "
            "give a teacher of the rung a weight above 0"
        )
    if not tokens.weighted:
        raise NothingToTrain(
            f"objective.weights gives weight 0 to each of the {tokens.imitated:,} tokens that would be imitated: "
            f"{_factors(objective.weights)}; give them a weight above 0"
        )
    if TEACHER in models_of(objective.loss) and TEACHER not in models and not tokens.taught:
        raise UserError(
            f"objective.loss looks at the teacher, whose distribution is known at none of the {tokens.weighted:,} tokens that "
            "have a weight; record it as the traces are written (decoding.record_top of the teacher, top_logprobs of a served "
            "one), or look at another model"
        )
    if not rows.learned.any():
        raise NothingToTrain(
            f"objective.loss looks at none of the {tokens.weighted:,} tokens that have a weight, which are {_verdicts(tokens)}: "
            "its value and its gradient are 0 on all of them; add a term for them, or train on other traces"
        )
    return _steps(batches, rows, total)


def _look(packed: Packed, objective: Objective, models: Models) -> tuple[_Rows, _Tokens]:
    table, untaught = counted(objective), counted(objective, unknown=(TEACHER,))
    gamma = objective.weights.confidence_gamma if type(objective.weights) is TokenWeights else 0.0
    parts: list[list[np.ndarray]] = []
    read = imitated = weighted = taught = 0
    verdicts = np.zeros(3, np.int64)
    for start in range(0, len(packed.weight), TOGETHER):
        part = slice(start, start + TOGETHER)
        verdict = packed.verdict[part]
        factor, looked_at = table.of(packed.span[part], verdict)
        weight = packed.weight[part] * factor
        available = teacher_known(packed, part, models)
        looked_at = np.where(available, looked_at, untaught.of(packed.span[part], verdict)[1])
        stated = ~np.isnan(packed.teacher_logprob[part])
        left = np.exp(np.float32(gamma) * np.where(stated, packed.teacher_logprob[part], np.float32(0)))
        parts.append(
            [
                weight.sum(axis=1),
                np.abs(weight * looked_at).sum(axis=1),
                (weight * ~stated).sum(axis=1),
                (weight * stated * left).sum(axis=1),
            ]
        )
        read += int(np.count_nonzero(packed.segments[part]))
        imitated += int(np.count_nonzero(packed.weight[part]))
        weighted += int(np.count_nonzero(weight))
        taught += int(np.count_nonzero((weight != 0) & available))
        verdicts += [np.count_nonzero((np.sign(verdict) == sign) & (weight != 0)) for sign in (-1, 0, 1)]
        release(packed)
    sums = [np.concatenate(each) for each in zip(*parts, strict=True)]
    return _Rows(*sums), _Tokens(read, imitated, weighted, tuple(map(int, verdicts)), taught)  # type: ignore[arg-type]


def _steps(batches: Batches, rows: _Rows, total: int) -> str | None:
    """Whether, and how often, a step has nothing to learn from."""
    total_weight = np.where(rows.confident > 0.0, rows.weight, rows.unknown)
    idle = (rows.learned == 0.0) | (total_weight <= 0.0)
    if not idle.any() and (rows.weight > 0.0).all():
        return None
    looked = min(total, MOST)
    empty, first = 0, 0
    for step in range(looked):
        some = batches.rows_at(step)
        weight = float(rows.weight[some].sum())
        if weight < 0.0:
            raise UserError(
                f"the token weights of step {step + 1} sum to {weight:g}; a step's loss is divided by that sum, so that it must "
                "be above 0"
            )
        left = weight if rows.confident[some].sum() > 0.0 else float(rows.unknown[some].sum())
        if left <= 0.0 or not rows.learned[some].any():
            empty, first = empty + 1, first or step + 1
    if not empty:
        return None
    of = f"{total:,}" if looked == total else f"the first {looked:,}"
    if empty == total:
        raise NothingToTrain(
            f"none of the {total:,} steps of training has a token to learn from: the tokens of their rows have weight 0, or the "
            "loss looks at none of them; train for more steps, or give them a weight above 0"
        )
    return (
        f"{empty:,} of {of} steps, the first of them step {first}, have no token to learn from (weight 0, or the loss looks at "
        "none of them): parameters change there only by momentum and weight decay"
    )


def _factors(weights: TokenWeights) -> str:
    names = ("reasoning", "answer", "end", "correct", "incorrect", "unknown")
    zero = [f"{name} is 0" for name in names if getattr(weights, name, 1.0) == 0.0]
    return " and ".join(zero) or f"they are {weights}"


def _verdicts(tokens: _Tokens) -> str:
    names = ("of incorrect traces", "of ungraded traces", "of correct traces")
    return ", ".join(f"{count:,} {name}" for count, name in zip(tokens.verdicts, names, strict=True) if count)
