"""The frozen models beside the student whose distributions a loss looks at: which are given to a training, and how."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from w2sr_jax.batches.packing import TOGETHER, Packed, release
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig


@dataclasses.dataclass(frozen=True)
class FrozenModel:
    """A model of the student's tokenizer that is not trained here."""

    config: ModelConfig
    parameters: Callable[[], Any]
    """Gives its parameters, a pytree; called once, and only where something is computed with them."""
    digest: str
    """`params_digest` of the parameters; what is stored of the model is found by it."""


Models = Mapping[str, FrozenModel | None]
"""By name, the models that a loss looks at, besides `initial`. A `teacher` that is a model stands for the author of all traces;
None: its distribution is known at no token, and the training is to go on without, as on gold solutions. A `teacher` that is
absent is the one that was recorded with the traces."""

NO_MODELS: Models = {}


def check_models(model: ModelConfig, objective: Objective, models: Models, known: int | None = None) -> None:
    """`UserError` where the loss names a model that is not given, or that has another vocabulary than the student. With `known`,
    the number of ids that texts can have, a model may differ in rows beyond: models of one family are padded differently."""
    for name in models_of(objective.loss):
        other = models.get(name)
        if other is None and name not in (INITIAL, TEACHER):
            raise UserError(
                f"objective.loss looks at the model {name!r}, which this training is not given; it may look at {INITIAL!r}, at "
                f"{TEACHER!r}, or at a model that the experiment makes before"
            )
        padded = known is not None and other is not None and other.config.vocab_size >= known
        if other is not None and name != INITIAL and other.config.vocab_size != model.vocab_size and not padded:
            raise UserError(
                f"objective.loss looks at the model {name!r}, whose vocabulary has {other.config.vocab_size:,} tokens and the "
                f"student's {model.vocab_size:,}; they can only be compared over one vocabulary"
            )


def computed(objective: Objective, models: Models) -> dict[str, FrozenModel]:
    """The models besides `initial` that the loss looks at and that have parameters."""
    return {name: other for name in models_of(objective.loss) if name != INITIAL and (other := models.get(name)) is not None}


def recorded(objective: Objective, packed: Packed, models: Models) -> bool:
    """Whether the loss looks at what was recorded of the teacher's distributions."""
    return TEACHER in models_of(objective.loss) and TEACHER not in models and packed.top is not None


def known_share(packed: Packed) -> float:
    """The share of the imitated tokens at which the recorded distribution of their teacher is known."""
    covered = imitated = 0
    for start in range(0, len(packed.weight), TOGETHER):
        part = slice(start, start + TOGETHER)
        counted = packed.weight[part] != 0
        imitated += int(np.count_nonzero(counted))
        covered += int(np.count_nonzero(counted & teacher_known(packed, part)))
        release(packed)
    return covered / max(imitated, 1)


def teacher_known(packed: Packed, rows: slice, models: Models = NO_MODELS) -> Bool[np.ndarray, "R L"]:
    """Where the distribution of the teacher is known in some rows."""
    shape = packed.weight[rows].shape
    if TEACHER in models:
        return np.full(shape, models[TEACHER] is not None)
    return np.zeros(shape, bool) if packed.top is None else np.asarray(packed.top.ids[rows, :, 0] >= 0)
