"""Which tokens a loss and its weights count at all, from their settings: what no training needs to be begun for. No jax."""

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from w2sr_jax.losses.inputs import TokenLoss
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import never
from w2sr_jax.losses.token import ForwardKL, Jsd, OnCorrect, OnIncorrect, OnSpans, ReverseKL, Sum, Unlikelihood, Weighted
from w2sr_jax.losses.weights import TokenWeights

SPANS, VERDICTS = 4, 3
"""Sizes of the tables here: spans 0 to 3, verdicts -1 to 1."""


class Counted(NamedTuple):
    """By span and verdict + 1: the factor on a token's weight, and whether the loss looks at such a token. Of what a user wrote
    it is not known: there the factor is 1, and the loss looks at all."""

    factor: Float[np.ndarray, "4 3"]
    looked_at: Bool[np.ndarray, "4 3"]

    def of(self, span: Int[np.ndarray, "*N"], verdict: Int[np.ndarray, "*N"]) -> tuple[np.ndarray, np.ndarray]:
        """Both for some tokens."""
        cell = np.clip(span, 0, SPANS - 1), np.sign(verdict).astype(np.int8) + 1
        return self.factor[cell], self.looked_at[cell]


def counted(objective: Objective, unknown: Collection[str] = ()) -> Counted:
    """The tables of an objective, for tokens at which the distributions of the models in `unknown` are not known."""
    return Counted(_factors(objective.weights), _looked_at(objective.loss, unknown))


def nothing(objective: Objective, verdict: int) -> str:
    """Why nothing is learned from traces of a verdict, all of which count alike, naming the setting; "" where something is."""
    table = counted(objective)
    factor, looked_at = table.factor[1:, verdict + 1], table.looked_at[1:, verdict + 1]
    kind = ("incorrect", "ungraded", "correct")[verdict + 1]
    if not factor.any():
        return f"objective.weights gives {kind} traces the weight 0"
    return "" if (looked_at & (factor != 0)).any() else f"objective.loss looks at no token of {kind} traces"


def _factors(weights: TokenWeights) -> Float[np.ndarray, "4 3"]:
    if type(weights) is not TokenWeights:
        return np.ones((SPANS, VERDICTS))
    by_span = np.array([1.0, weights.reasoning, weights.answer, weights.end])
    by_verdict = np.array([weights.incorrect, weights.unknown, weights.correct])
    return by_span[:, None] * by_verdict[None]


def _looked_at(loss: TokenLoss, unknown: Collection[str] = ()) -> Bool[np.ndarray, "4 3"]:
    span, verdict = np.indices((SPANS, VERDICTS))
    every: Any = np.ones((SPANS, VERDICTS), bool)
    if type(loss) is Sum:
        return np.logical_or.reduce([~every, *(_looked_at(term, unknown) for term in loss.terms)])
    if type(loss) is ForwardKL or type(loss) is ReverseKL or type(loss) is Jsd:
        return ~every if loss.model in unknown else every
    if type(loss) is Unlikelihood:
        return verdict == 0
    if type(loss) is Weighted:
        return ~every if never(loss.coefficient) else _looked_at(loss.loss, unknown)
    if type(loss) is OnCorrect:
        return (verdict == 2) & _looked_at(loss.loss, unknown)
    if type(loss) is OnIncorrect:
        return (verdict == 0) & _looked_at(loss.loss, unknown)
    if type(loss) is OnSpans:
        return np.array([False, loss.reasoning, loss.answer, loss.end])[span] & _looked_at(loss.loss, unknown)
    return every
