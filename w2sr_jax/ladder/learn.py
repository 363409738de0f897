"""Training of teachers, bases and students: examples and initial parameters in, checkpoints out."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from w2sr_jax import files, records, seeds
from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import encode
from w2sr_jax.batches.packing import pack
from w2sr_jax.errors import UserError
from w2sr_jax.evaluation.cost import training_flops
from w2sr_jax.experiment import FromCheckpoint, FromParent, ModelTeacher, Pretraining
from w2sr_jax.keys import key
from w2sr_jax.ladder import models, prepare
from w2sr_jax.ladder.models import Model
from w2sr_jax.ladder.task import Context, Made
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models import grow, hf, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.processes import place
from w2sr_jax.records import Example, Problem
from w2sr_jax.saved import encode as encode_settings
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.loop import fit
from w2sr_jax.training.settings import Training

PACKING = "packing.npz"


def gold(problems: Sequence[Problem]) -> list[Example]:
    """The worked solutions of problems as examples; problems without one are left out."""
    return [
        _example(problem.id, problem.question, problem.solution, "reason") for problem in problems if problem.solution is not None
    ]


def documents(problems: Sequence[Problem]) -> list[Example]:
    """Problems with their answers and without any reasoning, as texts to pretrain on."""
    return [
        _example(problem.id, problem.question, f"#### {problem.answer}", "document")
        for problem in problems
        if problem.answer is not None
    ]


def train_teacher(context: Context, teacher: ModelTeacher) -> Made:
    """Train a teacher on gold solutions of the teacher split, or take its checkpoint."""
    model = models.teacher(teacher)
    config = models.sized(teacher.model, prepare.renderer(context.run))
    if teacher.checkpoint is not None:
        return _keep(context, model, config, _stored(Path(teacher.checkpoint), config), {"checkpoint": teacher.checkpoint})
    examples = gold(prepare.read(context.run, prepare.TEACHER))
    if not examples:
        raise UserError(f"teacher {teacher.name!r} has nothing to learn from: the teacher split holds no problem with a solution")
    return _train(context, model, config, examples, _fresh(context, model, config), teacher.training, Objective(), {})


def make_base(context: Context, index: int) -> Made:
    """The initial weights of a rung's students."""
    experiment = context.experiment
    rung, model = experiment.rungs[index], models.student(experiment, index, "base")
    config = models.sized(rung.model, prepare.renderer(context.run))
    start = rung.start
    if isinstance(start, Pretraining):
        problems = prepare.read(context.run, prepare.PRETRAIN)
        lines = prepare.facts(experiment)[: start.facts]
        examples = [*(_example("", "", line, "plain") for line in lines), *documents(problems)]
        return _train(context, model, config, examples, _fresh(context, model, config), start.training, Objective(), {})
    if isinstance(start, FromParent):
        parent = models.student(experiment, index - 1, start.arm)
        smaller = models.sized(parent.config, prepare.renderer(context.run))
        params = models.parameters(context.run, parent, smaller, models.device_mesh(experiment))
        if smaller != config:
            params = grow.grow(smaller, params, config, key(context.seed, "grow", model.name))
        return _keep(context, model, config, params, _parent(context, parent))
    if isinstance(start, FromCheckpoint):
        return _keep(context, model, config, _stored(Path(start.path), config), {"checkpoint": start.path})
    return _keep(context, model, config, _fresh(context, model, config), {})


def train_arm(context: Context, index: int, arm: str) -> Made:
    """Train a rung's student of one arm, or its gold ceiling, from the rung's base."""
    experiment = context.experiment
    rung, model, base = experiment.rungs[index], models.student(experiment, index, arm), models.student(experiment, index, "base")
    config = models.sized(rung.model, prepare.renderer(context.run))
    params = models.parameters(context.run, base, config, models.device_mesh(experiment))
    examples = records.read(context.run / model.directory / "curated.parquet", Example)
    return _train(context, model, config, examples, params, rung.training, rung.objective, _parent(context, base))


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
) -> Made:
    directory, renderer = context.run / model.directory, prepare.renderer(context.run)
    encoded, rejected = encode(examples, renderer, training.batching.length)
    if not encoded:
        raise UserError(
            f"{model.name}: none of the {len(examples)} examples fits into rows of {training.batching.length} tokens; "
            "raise training.batching.length"
        )
    packed = pack(encoded, training.batching.length, renderer.pad, training.batching.pack)
    packed.save(directory / PACKING)
    order = seeds.words(context.seed, "order", model.name, training.seed)[0]
    batches = Batches(packed, training.batching, order)
    settings = steering(config, training, objective, context.seed)
    result = fit(
        directory,
        config,
        params,
        batches,
        training,
        objective,
        models.device_mesh(context.experiment),
        {"data_digest": packed.digest, "config_hash": settings, **parent},
        lambda event: context.watcher.progress(event["step"], event["total"], _words(event)),
    )
    reference = config.parameters() if needs_reference(objective.loss) else 0
    measures = {
        "parameters": config.parameters(),
        "steps": result.steps,
        "tokens": result.tokens,
        "examples": len(encoded),
        "rejected": dict(rejected),
        "epochs": round(result.steps / batches.steps_per_epoch, 2),
        "flops": training_flops(config.parameters(), result.tokens, config.remat, reference_parameters=reference),
    }
    note = f"{result.steps} steps on {len(encoded):,} examples, loss {result.metrics.get('loss', float('nan')):.3f}"
    if rejected:
        note += f", {sum(rejected.values())} too long"
    outputs = [directory / PACKING, directory / journal.METRICS]
    return Made(outputs, {f"{model.directory}/{models.CHECKPOINTS}": result.params_digest}, measures, note)


def _keep(context: Context, model: Model, config: ModelConfig, params: Any, origin: dict[str, str]) -> Made:
    """Save parameters that need no training as a checkpoint like any other."""
    mesh = models.device_mesh(context.experiment)
    params = place(params, models.placement(config, mesh))
    digest = checkpoints.save_params(model.checkpoints(context.run), params, origin)
    origins = [f"{name.replace('_', ' ')} {value}" for name, value in origin.items() if not name.endswith("digest")]
    return Made(
        artifacts={f"{model.directory}/{models.CHECKPOINTS}": digest},
        measures={"parameters": config.parameters(), **origin},
        note=", ".join([f"{config.parameters():,} parameters", *origins]),
    )


def _stored(path: Path, config: ModelConfig) -> Any:
    """Parameters from a local Hugging Face directory or from a checkpoint of ours."""
    if (path / "config.json").is_file():
        found, params = hf.load(path)
        if dataclasses.replace(found, dtype=config.dtype, param_dtype=config.param_dtype, remat=config.remat) != config:
            raise UserError(f"{path} holds another architecture than the rung's model: {found} instead of {config}")
        return params
    return checkpoints.restore_params(path)


def _fresh(context: Context, model: Model, config: ModelConfig) -> Any:
    return transformer.init(config, key(context.seed, "init", model.name))


def _parent(context: Context, model: Model) -> dict[str, str]:
    """What a checkpoint's lineage says of the model it starts from."""
    return {"parent_checkpoint": model.name, "parent_digest": models.digest(context.run, model)}


def _example(problem: str, question: str, response: str, style: str) -> Example:
    identity = files.digest_json([problem, question, response, style])[:16]
    return Example(identity, problem, "", "gold", question, response, style, "correct", 1.0)


def _words(event: Any) -> str:
    return f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"
