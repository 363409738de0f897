"""The model that is to be exported: one of a run, named by its directory or its name, or an imported one."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.configuration import saved
from w2sr_jax.convert.importing import TOKENIZER
from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import BASE, Experiment
from w2sr_jax.graph import skips
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import layout, models, tokenizer
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.weights import RECORD, read_record, same_arrays
from w2sr_jax.training import checkpoints

GENERATION = "generation_config.json"

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclasses.dataclass(frozen=True)
class RunModel:
    """A finished model of a run."""

    run: RunStore
    experiment: Experiment
    model: Model


@dataclasses.dataclass(frozen=True)
class Adapter:
    """The adapters that LoRA trained, which `read` puts on a mesh, and the base model by a name that others know."""

    lora: Lora
    base: str
    read: Callable[[jax.sharding.Mesh], Any]


@dataclasses.dataclass(frozen=True)
class ExportedModel:
    """A model to be exported. `read` puts its parameters on a mesh; `extra` are further fields of `config.json` (token ids,
    context, family); `generation` is its `generation_config.json`; `tokenizer` is the directory of the tokenizer's files;
    `run_model` is None for an imported model, whose source `origin` describes."""

    name: str
    config: ModelConfig
    read: Callable[[jax.sharding.Mesh], Any]
    extra: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Path | None
    run_model: RunModel | None
    origin: Mapping[str, Any]
    adapter: Adapter | None = None


def find(source: Path, model: str | None) -> ExportedModel:
    """The model that `source` names: RUN/rungs/0-NAME/ARM, RUN/teachers/NAME, RUN with `model` (`0-small.correct`), or what `w2sr
    import` wrote. `UserError` where it names no model, several, or one that is not finished."""
    path = Path(source).expanduser().absolute()
    if (path / RECORD).is_file():
        if model is not None:
            raise UserError(f"{source} is an imported model, not a run; leave --model away")
        return _imported(path)
    run = next((each for each in (path, *path.parents) if (each / saved.EXPERIMENT).is_file()), None)
    if run is None:
        there = "is" if path.exists() else "does not exist, or is"
        raise UserError(
            f"{source} {there} neither a model of a run (RUN/rungs/0-NAME/ARM), nor a run (RUN with --model 0-NAME.ARM), nor "
            f"what `w2sr import` wrote"
        )
    files.check_tree(run)
    experiment = saved.load(run)
    if len(experiment.seeds) > 1:
        raise UserError(
            f"{run} holds a run for each of its seeds; give one of them, such as {run / layout.seed(experiment.seeds[0])}"
        )
    chosen, store = _named(run, experiment, path.relative_to(run).as_posix(), model), RunStore(run)
    manifest = store.manifest(chosen.stage)
    if manifest is None:
        raise UserError(f"{chosen.name} is not finished: {run} has no stage {chosen.stage} yet; run `w2sr train {run}` first")
    if skip := skips.of(manifest):
        raise UserError(f"{chosen.name} was skipped, so that there is nothing to export: {sentences.printable(skip.reason)}")
    if models.origin(store, chosen).get("params_digest") not in manifest.artifacts.values():
        raise UserError(
            f"the checkpoint in {store.path(chosen.checkpoints)} is not the one that the stage "
            f"{chosen.stage} made; run `w2sr train {run}`"
        )
    return _of_run(RunModel(store, experiment, chosen))


def all_models(experiment: Experiment) -> list[Model]:
    """Every model of a run that has parameters of its own: teachers, and each rung's base, arms and ceiling."""
    every = [model for teacher in experiment.teachers if (model := models.teacher(teacher)) is not None]
    for index, rung in enumerate(experiment.rungs):
        every.append(models.student(experiment, index, BASE))
        every += [model for arm in rung.trained for model in models.students(experiment, index, arm)]
    return every


def ancestry(run_model: RunModel) -> list[tuple[Model, dict[str, Any]]]:
    """The model and those it started from, each with its checkpoint's lineage; the last one started from none of the run's."""
    by_name = {model.name: model for model in all_models(run_model.experiment)}
    lineage: list[tuple[Model, dict[str, Any]]] = []
    model: Model | None = run_model.model
    while model is not None and model not in [seen for seen, _ in lineage]:
        origin = models.origin(run_model.run, model)
        lineage.append((model, origin))
        model = by_name.get(str(origin.get("parent_checkpoint")))
    return lineage


def _named(run: Path, experiment: Experiment, below: str, name: str | None) -> Model:
    """The model that a directory below a run and a name mean."""
    every = all_models(experiment)
    below = below.partition(f"/{layout.CHECKPOINTS}")[0]
    if name is not None:
        fits = [model for model in every if model.name == name]
    else:
        fits = [model for model in every if model.directory == below]
        within = [model for model in every if model.directory.startswith(f"{below}/") and model.role == "student"]
        fits = fits or (within if len(within) == 1 else [])
    if len(fits) == 1:
        return fits[0]
    reason = (
        f"has no model {name!r}"
        if name is not None
        else f"is a run; {below} in it is no single model"
        if below != "."
        else "is a run"
    )
    raise UserError(f"{run} {reason}; name one with --model: {', '.join(model.name for model in every)}")


def _of_run(run_model: RunModel) -> ExportedModel:
    run, experiment, model = run_model.run, run_model.experiment, run_model.model
    renderer = tokenizer.renderer(run)
    config = models.sized(model.config, renderer)
    generation = run.optional(f"{TOKENIZER}/{GENERATION}")
    ids = (_generation(generation) if generation else {}) | {
        "eos_token_id": list(renderer.end_tokens),
        "pad_token_id": renderer.pad,
    }
    origin = ancestry(run_model)[-1][1]
    context, family = origin.get("context"), origin.get("family")
    return ExportedModel(
        name=model.name,
        config=config,
        read=lambda mesh: models.parameters(run, model, config, mesh, spread=True),
        extra=ids | ({"max_position_embeddings": int(context)} if context else {}) | ({"model_type": family} if family else {}),
        generation=ids | _sampling(experiment.decoding),
        tokenizer=run.folder(TOKENIZER),
        run_model=run_model,
        origin={},
        adapter=_adapter(run_model, config) if model.base is not None and model.base.base is None else None,
    )


def _adapter(run_model: RunModel, config: ModelConfig) -> Adapter:
    run, model = run_model.run, run_model.model
    _, (base, origin), *_ = ancestry(run_model)
    ref = origin.get("checkpoint")
    if ref is not None and (Path(ref).expanduser() / RECORD).is_file():
        ref = read_record(Path(ref).expanduser()).source.get("ref")
    return Adapter(
        lora=model.lora,
        base=str(ref or base.name),
        read=lambda mesh: models.adapters(run, model, config, mesh),
    )


def _generation(path: Path) -> dict[str, Any]:
    """The fields of a `generation_config.json`."""
    fields = files.read_json(path)
    if not isinstance(fields, dict):
        raise UserError(f"{path} is not a JSON object; make its model again")
    return fields


def _imported(path: Path) -> ExportedModel:
    files.check_tree(path)
    record = read_record(path)

    def read(mesh: jax.sharding.Mesh) -> Any:
        same_arrays(str(path), checkpoints.saved_shapes(path), transformer.shapes(record.config))
        return checkpoints.restore_params(path, models.resting_shardings(record.config, mesh))

    ids = {name: record.extras[name] for name in _IDS if record.extras.get(name) is not None}
    generation = path / TOKENIZER / GENERATION
    return ExportedModel(
        name=path.name,
        config=record.config,
        read=read,
        extra=record.extras,
        generation=_generation(generation) if generation.is_file() else ids,
        tokenizer=path / TOKENIZER if (path / TOKENIZER).is_dir() else None,
        run_model=None,
        origin=record.source,
    )


def _sampling(decoding: Decoding) -> dict[str, Any]:
    """A run's decoding as defaults for transformers. Its limit of tokens was the evaluation's and is left out; where sampling is
    off, transformers wants its settings to be absent."""
    penalty = {} if decoding.repetition_penalty == 1 else {"repetition_penalty": decoding.repetition_penalty}
    if decoding.temperature == 0:
        return {"do_sample": False, **penalty}
    return {
        **penalty,
        **({"min_p": decoding.min_p} if decoding.min_p else {}),
        "do_sample": True,
        "temperature": decoding.temperature,
        "top_p": decoding.top_p,
        "top_k": decoding.top_k,
    }
