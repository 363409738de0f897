"""What a training on examples computes."""

from collections.abc import Mapping
from math import prod

import jax
import numpy as np

from w2sr_jax.batches.packing import Packed
from w2sr_jax.evaluation.cost import sampling_flops, training_flops
from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models import lora
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.training.frozen import FrozenModel
from w2sr_jax.training.settings import Training


def flops(
    config: ModelConfig,
    training: Training,
    objective: Objective,
    others: Mapping[str, FrozenModel | None],
    packed: Packed | None,
    tokens: int,
    initial: bool = False,
) -> float:
    """Floating-point operations of a training on so many tokens; `others` are the models that its loss looks at besides the
    student's initial parameters, `initial` says that these are computed anyway."""
    referenced, keeps = initial or INITIAL in models_of(objective.loss), training.reference_top > 0
    beside = [each.config.parameters() for each in others.values() if each is not None]
    frozen = sum([config.parameters() if referenced else 0, *beside])
    reference = 0 if keeps else frozen
    # A run's trainings share what is stored; each is charged for it, since any of them may be the one that computes it.
    once = sampling_flops(frozen, int(np.count_nonzero(packed.segments))) if frozen and keeps and packed is not None else 0
    trained, adapters = _trained(config, training)
    remade = config.remat in ("layers", "attention")
    return training_flops(config.parameters() + adapters, tokens, remade, reference, trained) + once


def trained_parameters(config: ModelConfig, training: Training) -> int:
    """How many parameters a training trains."""
    return _trained(config, training)[0]


def _trained(config: ModelConfig, training: Training) -> tuple[int, int]:
    """How many parameters a training trains, and how many of them are adapters'."""
    if not training.lora.rank:
        return config.parameters(), 0
    named = jax.tree_util.tree_leaves_with_path(lora.shapes(config, training.lora))
    adapters = sum(prod(leaf.shape) for path, leaf in named if len(path) > 1)
    return sum(prod(leaf.shape) for _, leaf in named), adapters
