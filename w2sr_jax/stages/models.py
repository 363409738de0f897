"""Where the models of a run live, and how their parameters are read."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.experiment import BASE, GOLD, Experiment, FromParent, ModelTeacher, Pretraining, model_name
from w2sr_jax.graph import verified
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh, shardings
from w2sr_jax.text.render import Renderer
from w2sr_jax.training import checkpoints
from w2sr_jax.training.steps import LINEAGE

CHECKPOINTS = "checkpoints"
DIRECT = "base-direct"


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of a run: its name in tables, its directory under the run, its architecture, how it is asked when evaluated."""

    name: str
    directory: str
    config: ModelConfig
    role: str
    arm: str | None = None
    rung: int | None = None
    style: str = "reason"
    base: str | None = None
    """Directory of the model whose parameters its checkpoint's adapters lie beside; None: the checkpoint holds all parameters."""
    lora: Lora = Lora()

    @property
    def task(self) -> str:
        """The task that makes it."""
        return _task(self.directory)

    def checkpoints(self, run: Path) -> Path:
        return run / self.directory / CHECKPOINTS


def rung_directory(experiment: Experiment, index: int) -> str:
    return f"rungs/{index}-{experiment.rungs[index].name}"


def teacher(settings: ModelTeacher) -> Model:
    return Model(settings.name, f"teachers/{settings.name}", settings.model, "teacher")


def student(experiment: Experiment, index: int, arm: str) -> Model:
    """A rung's base, its gold ceiling, or its student of an arm."""
    role = arm if arm in (BASE, GOLD) else "student"
    rung, directory = experiment.rungs[index], rung_directory(experiment, index)
    found = Model(model_name(index, experiment, arm), f"{directory}/{arm}", rung.model, role, arm, index)
    if arm == BASE or not rung.training.lora.rank:
        return found
    return dataclasses.replace(found, base=f"{directory}/{BASE}", lora=rung.training.lora)


def evaluated(experiment: Experiment, index: int) -> list[Model]:
    """A rung's models in the order of tables: base (and the same base asked for the answer alone), arms, ceiling."""
    rung, base = experiment.rungs[index], student(experiment, index, BASE)
    found = [base]
    if _asked_directly(experiment, index):
        found.append(dataclasses.replace(base, name=f"{base.name}-direct", role=DIRECT, arm=DIRECT, style="direct"))
    return found + [student(experiment, index, arm) for arm in (*rung.arms, *((GOLD,) if rung.gold else ()))]


def all_evaluated(experiment: Experiment) -> list[Model]:
    """All models that are evaluated, teachers first."""
    found = [teacher(each) for each in experiment.teachers if isinstance(each, ModelTeacher)]
    for index in range(len(experiment.rungs)):
        found.extend(evaluated(experiment, index))
    return found


def before(experiment: Experiment, index: int) -> Model:
    """What a rung's students are held against in the error ledger: their base, asked in the way it knows. One that has never seen
    a chain of thought is asked for the answer alone."""
    found = {model.role: model for model in evaluated(experiment, index)}
    return found.get(DIRECT, found[BASE])


def _asked_directly(experiment: Experiment, index: int) -> bool:
    """Whether a rung's base, or the one that it was grown from, was pretrained in the run, on answers without reasoning."""
    start = experiment.rungs[index].start
    if isinstance(start, FromParent) and start.arm == BASE:
        return _asked_directly(experiment, index - 1)
    return isinstance(start, Pretraining)


def sized(config: ModelConfig, renderer: Renderer) -> ModelConfig:
    """The architecture with its vocabulary: unless it says otherwise the tokenizer's, rounded up to a multiple of 8."""
    return config if config.vocab_size else dataclasses.replace(config, vocab_size=-(-renderer.vocab_size // 8) * 8)


def device_mesh(experiment: Experiment) -> jax.sharding.Mesh:
    return make_mesh(experiment.mesh)


def placement(config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """Where each parameter lies."""
    return shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))


def digest(run: Path, model: Model) -> str:
    """The digest of a trained model's parameters."""
    made = verified.manifest(run, model.task)
    return next(iter(made.artifacts.values()), "") if made else ""


def origin(run: Path, model: Model) -> dict[str, Any]:
    """The lineage of the checkpoint that a model's training made."""
    made = verified.artifact(run, model.task)
    verified.part(run, made, f"{LINEAGE}/metadata")
    return checkpoints.read_lineage(made.path)


def parameters(run: Path, model: Model, config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """A trained model's parameters, on the mesh; adapters are merged into those of their base. They are those that its training
    made, whatever checkpoints lie beside them. `UserError` where they are not."""
    places = placement(config, mesh)
    if model.base is None:
        return _trained(run, model.task, places)
    base = _trained(run, _task(model.base), places)
    return jax.jit(partial(lora.merge, config, model.lora), out_shardings=places)(base, adapters(run, model, config, mesh))


def adapters(run: Path, model: Model, config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """What a training with LoRA made, on the mesh; as `parameters` otherwise."""
    return _trained(run, model.task, shardings(mesh, lora.logical_axes(config, model.lora), lora.shapes(config, model.lora)))


def _trained(run: Path, task: str, places: Any) -> Any:
    made = verified.artifact(run, task)
    return checkpoints.restore_params(made.path, places, made.digest)


def _task(directory: str) -> str:
    return f"{directory}/train"
