"""Where each use of each model of an experiment is computed: what the settings say, and what the model takes where they leave it
open. Nothing here looks at a device."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from w2sr_jax.experiment import Experiment
from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.placement import Need, Placement, Split
from w2sr_jax.parallel.settings import Mesh, Meshes
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages.training_cost import trained_parameters
from w2sr_jax.training.settings import Training

_MOMENTS = 2  # of AdamW
_FLOAT = 4
_VOCABULARY = 8  # what a vocabulary that is the tokenizer's is a multiple of


@dataclasses.dataclass(frozen=True)
class Owner:
    """A model as far as its placement goes: its architecture, its meshes, and where these are set."""

    config: ModelConfig
    meshes: Meshes
    where: str


def stated(experiment: Experiment) -> list[tuple[str, Mesh]]:
    """Every mesh that the settings of an experiment state, and where."""
    owners = [(f"teachers.{i} ({each.name}): meshes", each.meshes) for i, each in enumerate(experiment.teachers)]
    owners += [(f"rungs.{i} ({each.name}): meshes", each.meshes) for i, each in enumerate(experiment.rungs)]
    uses = [field.name for field in dataclasses.fields(Meshes)]
    every = [("mesh", experiment.mesh), *((f"{where}.{use}", getattr(own, use)) for where, own in owners for use in uses)]
    return [pair for pair in every if pair[1] != Mesh()]


def widest(experiment: Experiment) -> Mesh:
    """Of the meshes that an experiment states, one that takes the most devices."""
    return max((mesh for _, mesh in stated(experiment)), key=_least, default=Mesh())


def of_largest(experiment: Experiment) -> Placement:
    """Of training the students of the last rung."""
    index, rung = len(experiment.rungs) - 1, experiment.rungs[-1]
    owner = Owner(rung.model, rung.meshes, f"rungs.{index} ({rung.name})")
    return training(experiment, owner, rung.training, rung.objective)


def training(
    experiment: Experiment,
    owner: Owner,
    settings: Training | None,
    objective: Objective | None = None,
    others: Sequence[ModelConfig] = (),
    own: bool = False,
    initial: bool = False,
) -> Placement:
    """Of a training, or of the start of a model without one. `own` says that it is trained in a way of the user's own, which is
    taken for AdamW's on all parameters; `others` are the models that its loss looks at, `initial` says that the frozen initial
    model is there in any case."""
    asked, where = _asked((owner.meshes.training, f"{owner.where}: meshes.training"), (experiment.mesh, ""))
    config = _sized(experiment, owner.config)
    beside = [_sized(experiment, other) for other in others]
    taken = _training_bytes(config, settings or (Training() if own else None), objective, beside, initial)
    return Placement("training", asked, where, Need(taken, (_fsdp(config),)))


def reference(experiment: Experiment, owner: Owner, as_training: Placement) -> Placement:
    """Of storing the distributions of a loss's frozen models."""
    if owner.meshes.reference == Mesh():
        return as_training
    where, config = f"{owner.where}: meshes.reference", _sized(experiment, owner.config)
    return Placement("reference", owner.meshes.reference, where, Need(_held(config), (_fsdp(config),)))


def decoding(experiment: Experiment, owner: Owner, how: Decoding) -> Placement:
    """Of writing traces. Where the model says nothing, the devices of the experiment's mesh hold as many copies as its `tensor`,
    or the model's size, allows."""
    return _drawing(experiment, owner, how, "decoding", (owner.meshes.decoding, f"{owner.where}: meshes.decoding"))


def evaluation(experiment: Experiment, owner: Owner) -> Placement:
    """Of an evaluation, and of a probe's looks; as `decoding` where the model says nothing of it."""
    stated = (owner.meshes.evaluation, f"{owner.where}: meshes.evaluation")
    also = (owner.meshes.decoding, f"{owner.where}: meshes.decoding")
    return _drawing(experiment, owner, experiment.decoding, "evaluation", stated, also)


def _drawing(experiment: Experiment, owner: Owner, how: Decoding, use: str, *stated: tuple[Mesh, str]) -> Placement:
    config = _sized(experiment, owner.config)
    item = 1 if how.weights == "int8" else _item(config.dtype)
    splits = (Split("tensor", (config.kv_heads, config.heads, config.mlp_size, _vocabulary(owner.config))), _fsdp(config))
    need = Need(config.parameters() * item, splits)
    general = Mesh(tensor=experiment.mesh.tensor)
    asked, where = _asked(*stated, (general, ""))
    return Placement(use, asked, where, need, experiment.mesh if asked is general else Mesh())


def _asked(*stated: tuple[Mesh, str]) -> tuple[Mesh, str]:
    """The first mesh that says something, else the last one, and where it is set."""
    return next((pair for pair in stated if pair[0] != Mesh()), stated[-1])


def _training_bytes(
    config: ModelConfig, settings: Training | None, objective: Objective | None, others: Sequence[ModelConfig], initial: bool
) -> int:
    """Parameters, gradients, moments and frozen models."""
    if settings is None:
        return _held(config)
    named = objective is not None and INITIAL in models_of(objective.loss)
    looked = (initial or named) and not settings.reference_top
    frozen = 0 if settings.reference_top else sum(map(_held, others))
    count, held = trained_parameters(config, settings), _held(config)
    if settings.lora.rank:
        frozen += held if settings.lora.quantize == "none" else config.parameters()
        held = _FLOAT * count
    elif looked:
        frozen += held
    gradients = _FLOAT * count * (2 if settings.accumulation > 1 else 1)
    return held + frozen + gradients + _MOMENTS * _item(settings.moments) * count


def _least(mesh: Mesh) -> int:
    """The fewest devices that a mesh takes."""
    return max(1, mesh.data) * max(1, mesh.fsdp) * max(1, mesh.tensor)


def _held(config: ModelConfig) -> int:
    return config.parameters() * _item(config.param_dtype)


def _fsdp(config: ModelConfig) -> Split:
    return Split("fsdp", (config.width,))


def _vocabulary(config: ModelConfig) -> int:
    return config.vocab_size or _VOCABULARY


def _sized(experiment: Experiment, config: ModelConfig) -> ModelConfig:
    """The architecture with a likely vocabulary where it is the tokenizer's, so that a placement follows from settings alone."""
    if config.vocab_size:
        return config
    likely = -(-experiment.tokenizer.likely_vocabulary() // _VOCABULARY) * _VOCABULARY
    return dataclasses.replace(config, vocab_size=likely)


def _item(kind: str) -> int:
    return int(np.dtype(jnp.dtype(kind)).itemsize)
