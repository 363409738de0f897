"""Training of teachers, bases and students: examples and initial parameters in, checkpoints out."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import prod
from typing import Any

import jax
import numpy as np

from w2sr_jax.batches.encode import END_SPELT, OVER_LENGTH
from w2sr_jax.configuration.encoding import encode as encode_settings
from w2sr_jax.core import files
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.keys import key
from w2sr_jax.core.records import Example
from w2sr_jax.evaluation.cost import sampling_flops, training_flops
from w2sr_jax.experiment import FromCheckpoint, FromParent, ModelTeacher, Pretraining
from w2sr_jax.graph import manifest
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.losses.contract import check_objective
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models import finite, grow, lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.processes import put
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages import models, probing, problems, weights
from w2sr_jax.stages import remarks as remarked
from w2sr_jax.stages.models import Model
from w2sr_jax.training import checkpoints, journal, supervision
from w2sr_jax.training.imitation import REFERENCES, ReferenceStore, imitation, reference_mass
from w2sr_jax.training.loop import fit
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.settings import Training


def train_teacher(context: Context, teacher: ModelTeacher) -> Made:
    """Train a teacher on gold solutions of the teacher split, or take its checkpoint."""
    model = models.teacher(teacher)
    config = models.sized(teacher.model, problems.renderer(context.run))
    if teacher.checkpoint is not None:
        return _keep(context, model, config, *_given(context, teacher.checkpoint, config))
    examples = batching.examples_of(context.run, context.experiment, model)
    if not examples:
        raise UserError(f"teacher {teacher.name!r} has nothing to learn from: the teacher split holds no problem with a solution")
    return _train(context, model, config, examples, _fresh(context, model, config), teacher.training, Objective(), {})


def make_base(context: Context, index: int) -> Made:
    """The initial weights of a rung's students."""
    experiment = context.experiment
    rung, model = experiment.rungs[index], models.student(experiment, index, "base")
    config = models.sized(rung.model, problems.renderer(context.run))
    start = rung.start
    if isinstance(start, Pretraining):
        examples = batching.examples_of(context.run, experiment, model)
        return _train(context, model, config, examples, _fresh(context, model, config), start.training, Objective(), {})
    if isinstance(start, FromParent):
        parent = models.student(experiment, index - 1, start.arm)
        smaller = models.sized(parent.config, problems.renderer(context.run))
        params = models.parameters(context.run, parent, smaller, models.device_mesh(experiment))
        if smaller != config:
            params = grow.grow(smaller, params, config, key(context.seed, "grow", model.name))
        return _keep(context, model, config, params, _parent(context, parent))
    if isinstance(start, FromCheckpoint):
        return _keep(context, model, config, *_given(context, start.path, config))
    return _keep(context, model, config, _fresh(context, model, config), {})


def train_arm(context: Context, index: int, arm: str) -> Made:
    """Train a rung's student of one arm, or its gold ceiling, from the rung's base."""
    experiment = context.experiment
    rung, model, base = experiment.rungs[index], models.student(experiment, index, arm), models.student(experiment, index, "base")
    config = models.sized(rung.model, problems.renderer(context.run))
    read = partial(models.parameters, context.run, base, config, models.device_mesh(experiment))
    examples = batching.examples_of(context.run, experiment, model)
    if not examples:
        raise NothingToTrain(_emptied(context, index, arm))
    looks = partial(probing.training_probe, context, model, config, read, rung.probe)
    return _train(context, model, config, examples, read, rung.training, rung.objective, _parent(context, base), looks)


def _emptied(context: Context, index: int, arm: str) -> str:
    """Why an arm has no examples, as its curation said."""
    curation = manifest.load(context.run, f"{models.rung_directory(context.experiment, index)}/curation")
    said = curation.measures.get("emptied", {}) if curation else {}
    return str(said.get(arm) or "its curation kept no trace")


def steering(config: ModelConfig, training: Training, objective: Objective, seed: int) -> str:
    """Digest of all that steers a training besides its data. It is the same in every process, also with a function as a loss, so
    that an interrupted training recognises its own checkpoints."""
    return files.digest_json(encode_settings((config, training, objective, seed)))


def _train(
    context: Context,
    model: Model,
    config: ModelConfig,
    examples: Sequence[Example],
    params: Any,
    training: Training,
    objective: Objective,
    parent: dict[str, str],
    ask: Callable[[], probing.TrainingProbe | None] = lambda: None,
) -> Made:
    """`ask` makes the looks of the training, which computes answers of its base: after all that is known without."""
    check_objective(objective, vocab_size=config.vocab_size, where=f"{model.name}: objective")
    directory = context.run / model.directory
    path = directory / batching.PACKING
    lessons = batching.lessons(model, examples, problems.renderer(context.run), training, context.seed, path)
    remarks = remarked.remarked(lessons.renderer, examples)
    for warning in remarked.warnings(model.name, len(examples), remarks):
        context.watcher.warn(warning)
    batches, packed = lessons.batches, lessons.batches.packed
    lessons.renderer.check_ids(int(max(packed.tokens.max(), packed.target.max())), config.vocab_size)
    with _about(context, model):
        supervision.check(batches, objective, lessons.total)
    looks = ask()
    count, rejected = len(lessons.encoded), lessons.rejected
    del lessons
    owner = {"data_digest": packed.digest, "config_hash": steering(config, training, objective, context.seed), **parent}
    _clear_foreign(context, model, owner)
    with context.stop.deferred() as asked, _about(context, model):
        store = ReferenceStore(
            context.run / REFERENCES,
            lambda done, rows: context.watcher.progress(done, rows, "rows of the frozen reference"),
        )
        hooks = Hooks(
            on_event=lambda event: context.watcher.progress(event["step"], event["total"], _words(event)),
            on_warning=lambda words: context.watcher.warn(f"{model.name}: {words}"),
            stop=asked,
            probe=looks.probing() if looks else None,
        )
        mesh = models.device_mesh(context.experiment)
        program, source = imitation(config, params, batches, training, objective, mesh, store)
        result = fit(program, source, directory, owner, training.loop, hooks)
    referenced, kept = needs_reference(objective.loss), training.reference_top > 0
    reference = config.parameters() if referenced and not kept else 0
    # A run's trainings share what is kept; each is charged for it, since any of them may be the one that computes it.
    once = sampling_flops(config.parameters(), int(np.count_nonzero(packed.segments))) if referenced and kept else 0
    trained, adapters = _trained(config, training)
    remade = config.remat in ("layers", "attention")
    measures = {
        "parameters": config.parameters(),
        "trained_parameters": trained,
        "steps": result.steps,
        "tokens": result.tokens,
        "examples": count,
        "rejected": dict(rejected),
        "epochs": round(result.steps / batches.steps_per_epoch, 2),
        "flops": training_flops(config.parameters() + adapters, result.tokens, remade, reference, trained)
        + once
        + sampling_flops(config.parameters(), sum(line["tokens"] for line in journal.read(directory / journal.PROBE))),
    }
    note = f"{result.steps} steps on {count:,} examples, loss {result.metrics.get('loss', float('nan')):.3f}"
    mass = reference_mass(result)
    if mass is not None:
        measures["reference_mass"] = mass
        note += f", {mass:.1%} of the reference's mass kept"
    if remarks:
        measures["remarks"] = remarked.counts(remarks)
    if rejected[OVER_LENGTH]:
        note += f", {rejected[OVER_LENGTH]} too long"
    if rejected[END_SPELT]:
        note += f", {rejected[END_SPELT]} left out for an end of turn spelt out"
    outputs = [directory / batching.PACKING, directory / journal.METRICS, *([directory / journal.PROBE] if looks else [])]
    artifact = f"{model.directory}/{models.CHECKPOINTS}/{result.checkpoint.name}"
    return Made(outputs, {artifact: result.params_digest}, measures, note)


@contextlib.contextmanager
def _about(context: Context, model: Model) -> Iterator[None]:
    """Says of a training that has nothing to learn from where its settings stand."""
    try:
        yield
    except NothingToTrain as error:
        where = model.name if model.rung is None else f"rungs.{model.rung} ({context.experiment.rungs[model.rung].name})"
        raise NothingToTrain(f"{where}: {error}") from None


def _trained(config: ModelConfig, training: Training) -> tuple[int, int]:
    """How many parameters a training trains, and how many of them are adapters'."""
    if not training.lora.rank:
        return config.parameters(), 0
    named = jax.tree_util.tree_leaves_with_path(lora.shapes(config, training.lora))
    adapters = sum(prod(leaf.shape) for path, leaf in named if len(path) > 1)
    return sum(prod(leaf.shape) for _, leaf in named), adapters


def _clear_foreign(context: Context, model: Model, owner: dict[str, str]) -> None:
    """Remove checkpoints of other data or settings, with a warning. The run is one experiment's, so they can only stem from
    inputs that have changed since."""
    folder = model.checkpoints(context.run)
    try:
        known = checkpoints.read_lineage(folder)
    except UserError:  # none, or none that can be read: fit says so
        return
    changed = [name.replace("_", " ") for name, value in owner.items() if known.get(name) != value]
    if changed:
        reason = f"its {' and '.join(changed)} changed after its checkpoints were made"
        context.watcher.warn(f"{model.name} is trained from the start, since {reason}")
        files.remove(folder)


def _keep(context: Context, model: Model, config: ModelConfig, params: Any, origin: dict[str, str]) -> Made:
    """Save parameters that need no training as a checkpoint like any other."""
    mesh = models.device_mesh(context.experiment)
    params = put(params, models.placement(config, mesh))
    broken = finite.not_finite(params)
    if broken:
        source = origin.get("checkpoint") or origin.get("parent_checkpoint") or "what it starts from"
        raise UserError(f"{model.name}: {source} cannot be used: {finite.words(broken)}; take another checkpoint")
    digest = checkpoints.save_params(model.checkpoints(context.run), params, origin)
    told = ("checkpoint", "revision", "parent_checkpoint")
    origins = [f"{name.replace('_', ' ')} {origin[name]}" for name in told if name in origin]
    return Made(
        artifacts={f"{model.directory}/{models.CHECKPOINTS}/0": digest},
        measures={"parameters": config.parameters(), **origin},
        note=", ".join([f"{config.parameters():,} parameters", *origins]),
    )


def _given(context: Context, reference: str, config: ModelConfig) -> weights.Stored:
    """Parameters that the user gave by name, on the mesh."""
    problems.renderer(context.run).check_vocabulary(config.vocab_size)
    return weights.load(reference, config, models.placement(config, models.device_mesh(context.experiment)))


def _fresh(context: Context, model: Model, config: ModelConfig) -> Any:
    return transformer.init(config, key(context.seed, "init", model.name))


def _parent(context: Context, model: Model) -> dict[str, str]:
    """What a checkpoint's lineage says of the model it starts from."""
    return {"parent_checkpoint": model.name, "parent_digest": models.digest(context.run, model)}


def _words(event: Any) -> str:
    return f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"
