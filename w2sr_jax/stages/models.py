"""The models of a run: what they are called, where they lie, and how their parameters are read."""

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax

from w2sr_jax.experiment import BASE, GOLD, Arm, Experiment, Teacher, model_name
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import resting, shardings
from w2sr_jax.parallel.placement import Placement, mesh_of
from w2sr_jax.stages import layout, tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.training import checkpoints
from w2sr_jax.training.steps import LINEAGE

if TYPE_CHECKING:
    from w2sr_jax.sampling.traces import Author
    from w2sr_jax.stages.train import Train

TEACHER_BASE = "teacher-base"
"""The role of a teacher's model before its training stages, and the name that losses have for it."""
TEACHER_STAGE = "teacher-stage"
"""The role of a teacher's model between its training stages."""
DIRECT = "base-direct"
"""The role of a base that is asked for the answer alone."""


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
    base: "Model | None" = None
    """The model beside whose parameters its checkpoint's adapters lie; None: the checkpoint holds all parameters."""
    lora: Lora = Lora()

    @property
    def checkpoints(self) -> str:
        """The name of the directory with its checkpoints."""
        return layout.within(self.directory, layout.CHECKPOINTS)

    @property
    def stage(self) -> str:
        """The name of the stage that makes it."""
        return layout.train_stage(self.directory)


def rung_directory(experiment: Experiment, index: int) -> str:
    return layout.rung(index, experiment.rungs[index].name)


def teacher(settings: Teacher) -> Model | None:
    """A teacher's own model of the run; None where it has none."""
    chain = teacher_chain(settings)
    return chain[-1] if chain else None


def teacher_chain(settings: Teacher) -> list[Model]:
    """The models that a teacher's own one goes through: the one that its start makes, then that of each training stage; the last
    one is the teacher. None where it has no model of its own."""
    writer, folder = settings.writer, layout.teacher(settings.name)
    if writer is None or writer.config is None:
        return []
    chain: list[Model] = []
    for number in range(len(writer.train) + 1):
        last, adapters = number == len(writer.train), Lora()
        if number and (training := writer.train[number - 1].training) is not None:
            adapters = training.lora
        own = settings.name if last else f"{settings.name}-{number or 'base'}"
        place = folder if last else layout.within(folder, f"stage-{number}" if number else "base")
        base = chain[-1] if adapters.rank else None
        role = "teacher" if last else TEACHER_STAGE if number else TEACHER_BASE
        chain.append(Model(own, place, writer.config, role, base=base, lora=adapters if base else Lora()))
    return chain


def writer(experiment: Experiment, rung: int, settings: Teacher) -> Model | None:
    """The model of the run that writes a teacher's traces for a rung; None where none does."""
    asked = settings.writer
    if asked is None:
        return None
    return teacher(settings) if asked.config is not None else student(experiment, rung - 1, asked.arm)


def student(experiment: Experiment, index: int, arm: str) -> Model:
    """A rung's base, its gold ceiling, or its student of an arm."""
    role = arm if arm in (BASE, GOLD) else "student"
    rung, directory = experiment.rungs[index], rung_directory(experiment, index)
    model = Model(model_name(index, experiment, arm), layout.arm(directory, arm), rung.model, role, arm, index)
    if arm == BASE:
        return model
    return students(experiment, index, rung.arm(arm))[-1]


def students(experiment: Experiment, index: int, arm: Arm) -> list[Model]:
    """The models that the training stages of an arm make, one after the other; the last is the arm's student."""
    rung, directory = experiment.rungs[index], rung_directory(experiment, index)
    name, role = model_name(index, experiment, arm.name), GOLD if arm.name == GOLD else "student"
    chain: list[Model] = []
    before = student(experiment, index, arm.after or BASE)
    stages = rung.stages_of(arm)
    for number, stage in enumerate(stages, 1):
        last = number == len(stages)
        own = name if last else f"{name}-{number}"
        folder = layout.arm(directory, arm.name, None if last else number)
        adapters = stage.training.lora if stage.training is not None else Lora()
        base = before if adapters.rank else None
        chain.append(Model(own, folder, rung.model, role, arm.name, index, base=base, lora=adapters if base else Lora()))
        before = chain[-1]
    return chain


def evaluated(experiment: Experiment, index: int) -> list[Model]:
    """A rung's models in the order of tables: base (and the same base asked for the answer alone), arms, ceiling."""
    base = student(experiment, index, BASE)
    models = [base]
    if answers_directly(experiment, index):
        models.append(dataclasses.replace(base, name=f"{base.name}-direct", role=DIRECT, arm=DIRECT, style="direct"))
    return models + [student(experiment, index, arm.name) for arm in experiment.rungs[index].trained]


def teacher_of(experiment: Experiment, model: Model) -> int:
    """The index of the teacher whose own model, now or before some of its training stages, this is."""
    chains = (teacher_chain(each) for each in experiment.teachers)
    return next(index for index, chain in enumerate(chains) if model.name in [one.name for one in chain])


def measured(settings: Teacher) -> list[Model]:
    """Of a teacher's own models those that are evaluated: the teacher, and its model before its training stages."""
    return [model for model in teacher_chain(settings) if model.role in ("teacher", TEACHER_BASE)]


def all_evaluated(experiment: Experiment) -> list[Model]:
    """All models that are evaluated, teachers first."""
    models = [model for each in experiment.teachers for model in measured(each)]
    for index in range(len(experiment.rungs)):
        models.extend(evaluated(experiment, index))
    return models


def before(experiment: Experiment, index: int) -> Model:
    """What a rung's students are held against in the error ledger: their base, asked in the way it knows. One that has never seen
    a chain of thought is asked for the answer alone."""
    by_role = {model.role: model for model in evaluated(experiment, index)}
    return by_role.get(DIRECT, by_role[BASE])


def answers_directly(experiment: Experiment, index: int) -> bool:
    """Whether a rung's base, or the one that it was grown from, has learned to answer without reasoning."""
    start = experiment.rungs[index].start
    parent = start.parent == BASE and index > 0 and answers_directly(experiment, index - 1)
    return start.answers_directly(parent)


def sized(config: ModelConfig, renderer: Renderer) -> ModelConfig:
    """The architecture with its vocabulary: unless it says otherwise the tokenizer's, rounded up to a multiple of 8."""
    return config if config.vocab_size else dataclasses.replace(config, vocab_size=-(-renderer.vocab_size // 8) * 8)


def parameter_shardings(config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """On which devices each parameter lies."""
    return shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))


def resting_shardings(config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """On which devices each parameter of a model that decodes lies: spread over all of them, as far as that can be."""
    return resting(mesh, transformer.logical_axes(config), transformer.shapes(config))


def digest(store: RunStore, model: Model) -> str:
    """The digest of a trained model's parameters."""
    manifest = store.manifest(model.stage)
    return next(iter(manifest.artifacts.values()), "") if manifest else ""


def origin(store: RunStore, model: Model) -> dict[str, Any]:
    """The lineage of the checkpoint that a model's training made."""
    artifact = store.artifact(model.stage)
    store.part(artifact, f"{LINEAGE}/metadata")
    return checkpoints.read_lineage(artifact.path)


def parameters(store: RunStore, model: Model, config: ModelConfig, mesh: jax.sharding.Mesh, spread: bool = False) -> Any:
    """A trained model's parameters, on the mesh, `spread` over it as those of an author are; adapters are merged into those of
    their base. They are those that its training made, whatever checkpoints lie beside them. `UserError` where they are not."""
    placement = (resting_shardings if spread else parameter_shardings)(config, mesh)
    if model.base is None:
        return _restored(store, model.stage, placement)
    base = parameters(store, model.base, config, mesh, spread)
    return jax.jit(partial(lora.merge, config, model.lora), out_shardings=placement)(base, adapters(store, model, config, mesh))


def adapters(store: RunStore, model: Model, config: ModelConfig, mesh: jax.sharding.Mesh) -> Any:
    """What a training with LoRA made, on the mesh; as `parameters` otherwise."""
    return _restored(store, model.stage, shardings(mesh, lora.logical_axes(config, model.lora), lora.shapes(config, model.lora)))


def author_of(store: RunStore, training: "Train", name: str, placed: Placement) -> "Author":
    """A trained model of the run, ready to write under `name` where it is placed."""
    from w2sr_jax.sampling.traces import Author

    renderer, mesh = tokenizer.renderer(store), mesh_of(placed)
    config = sized(training.model.config, renderer)
    params = parameters(store, training.model, config, mesh, spread=True)
    return Author(name, config, params, renderer, training.seed, digest(store, training.model), mesh)


def _restored(store: RunStore, stage: str, placement: Any) -> Any:
    artifact = store.artifact(stage)
    return checkpoints.restore_params(store.arrays(artifact), placement, artifact.digest)
