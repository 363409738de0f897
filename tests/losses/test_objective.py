"""The objective as an experiment states it, and as the command line overrides it."""

import dataclasses

import pytest
import tyro

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import WarmUp
from w2sr_jax.losses.token import GeneralizedCrossEntropy, Nll, ReverseKL
from w2sr_jax.losses.weights import TokenWeights


def test_by_default_plain_imitation() -> None:
    assert Objective() == Objective(loss=Nll(), weights=TokenWeights(), trim=0.0)
    assert hash(Objective()) == hash(Objective())


def mine(tokens: object) -> object:
    return tokens


@pytest.mark.parametrize("loss", [Nll(), GeneralizedCrossEntropy(), Nll() + WarmUp(0.1) * ReverseKL(), mine])
def test_the_command_line_keeps_any_loss(loss) -> None:
    result = tyro.cli(Objective, default=Objective(loss), args=["--trim", "0.05", "--weights.answer", "2"])
    assert result == Objective(loss, TokenWeights(answer=2.0), trim=0.05)


def test_the_command_line_reaches_into_the_loss() -> None:
    changed = tyro.cli(Objective, default=Objective(GeneralizedCrossEntropy()), args=["--loss.q", "0.3"])
    assert changed.loss == GeneralizedCrossEntropy(0.3)
    composed = Objective(Nll() + WarmUp(0.1) * ReverseKL())
    changed = tyro.cli(Objective, default=composed, args=["--loss.terms.1.coefficient.value", "0.3"])
    assert changed.loss == Nll() + WarmUp(0.3) * ReverseKL()


@pytest.mark.parametrize(("field", "value"), [("trim", 1.0), ("trim", -0.1), ("block", 0)])
def test_refused_settings(field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        dataclasses.replace(Objective(), **{field: value})
