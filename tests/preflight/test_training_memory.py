"""What a training takes on a device counts the frozen models that its loss looks at, unless their distributions are stored."""

import dataclasses
from typing import Any

import pytest

from w2sr_jax.experiment import Policy
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import Gspo
from w2sr_jax.losses.token import ForwardKL, Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.preflight.meshes import shape
from w2sr_jax.preflight.models import training_bytes
from w2sr_jax.preflight.subject import Trained
from w2sr_jax.training.settings import Training

STUDENT = ModelConfig(vocab_size=64, width=16, layers=1, heads=2, kv_heads=2, mlp=32)
TEACHER = dataclasses.replace(STUDENT, width=32)


def taken(loss: Any, others: tuple[ModelConfig, ...] = (), reference_top: int = 0) -> int:
    training = Training(reference_top=reference_top)
    trained = Trained("rungs.0", None, training, Objective(loss))  # type: ignore[arg-type]
    return training_bytes(trained, STUDENT, shape(Mesh(data=1)), others)


@pytest.mark.parametrize("reference_top", [0, 4])
def test_every_frozen_model_takes_its_parameters(reference_top: int) -> None:
    plain = taken(Nll())
    each = (0, 0) if reference_top else (4 * STUDENT.parameters(), 4 * TEACHER.parameters())
    assert taken(Nll() + ReverseKL(), reference_top=reference_top) == plain + each[0]
    assert taken(Nll() + ForwardKL("teacher"), (TEACHER,), reference_top) == plain + each[1]
    assert taken(Nll() + ReverseKL() + ForwardKL("teacher"), (TEACHER,), reference_top) == plain + sum(each)


def test_a_start_that_is_watched_takes_its_parameters_and_one_that_is_not_takes_none() -> None:
    def of(stage: Policy) -> int:
        trained = Trained("rungs.0", None, Training(), stage.objective, stage)  # type: ignore[arg-type]
        return training_bytes(trained, STUDENT, shape(Mesh(data=1)))

    assert of(Policy()) == taken(Nll()) + 4 * STUDENT.parameters()
    assert of(Policy(watch_start=False)) == of(Policy(Gspo())) == taken(Nll())
