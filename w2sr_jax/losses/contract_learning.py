"""What a loss on rollouts asks for besides tokens, tried: the function that makes advantages of rewards, and the denominator."""

from typing import Any

import numpy as np

from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.advantages import Advantages, advantages
from w2sr_jax.losses.contract_trace import name
from w2sr_jax.losses.policy import check_advantages, check_denominator, learning

_TRIED = (
    np.array([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.25, -1.0, 2.0, 0.5]]),
    np.array([[0.0, 1.0]]),
)
"""Rewards: of problems whose rollouts differ, and of such where all are wrong or all are right."""


def check_learning(loss: Any) -> None:
    """`UserError` where the advantages or the denominator that a loss on tokens or sequences, or a term of it, asks for cannot be
    used."""
    asked = learning(loss)
    if asked.denominator is not None:
        check_denominator(name(loss), asked.denominator)
    if asked.advantages is not None:
        check_advantages(name(loss), asked.advantages)
        check_rule(asked.advantages)


def check_rule(rule: Advantages) -> None:
    """`UserError` where a function does not make one finite number of each reward, the same ones each time, with the file and
    line of a user's own."""
    if usercode.is_ours(rule):
        return
    for rewards in _TRIED:
        with usercode.calling(rule):
            first, second = advantages(rule, rewards), advantages(rule, rewards)
        if not np.array_equal(first, second):
            raise UserError(
                f"{usercode.defined(rule)}: {name(rule)} makes other advantages of the same rewards each time, so that a "
                "training could not be repeated"
            )
