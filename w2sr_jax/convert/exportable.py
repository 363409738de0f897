"""What can be exported: a model of a run, named by its directory or its name, or an imported model."""

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
class OfRun:
    """A finished model of a run."""

    run: RunStore
    experiment: Experiment
    model: Model


@dataclasses.dataclass(frozen=True)
class Adapter:
    """What LoRA trained of a model, to be read on a mesh, and what others call the model that it lies beside."""

    lora: Lora
    base: str
    read: Callable[[jax.sharding.Mesh], Any]


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to be written for others. `read` gives its parameters on a mesh; `foreign` is what `config.json` also says (token
    ids, context); `tokenizer` holds the tokenizer's files; `part` is None for an imported model, `origin` is where that is
    from."""

    name: str
    config: ModelConfig
    read: Callable[[jax.sharding.Mesh], Any]
    foreign: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Path | None
    part: OfRun | None
    origin: Mapping[str, Any]
    adapter: Adapter | None = None


def find(source: Path, model: str | None) -> Source:
    """What `source` names: RUN/rungs/0-NAME/ARM, RUN/teachers/NAME, RUN with `model` (`0-small.correct`), or what `w2sr import`
    wrote. `UserError` where that is nothing, more than one model, or one that is not finished."""
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
            f"{run} holds a run for each of its seeds; give one of them, such as {run / f'seed-{experiment.seeds[0]}'}"
        )
    found, store = _named(run, experiment, path.relative_to(run).as_posix(), model), RunStore(run)
    made = store.manifest(found.stage)
    if made is None:
        raise UserError(f"{found.name} is not finished: {run} has no stage {found.stage} yet; run `w2sr train {run}` first")
    if skip := skips.of(made):
        raise UserError(f"{found.name} was skipped, so that there is nothing to export: {sentences.printable(skip.reason)}")
    if models.origin(store, found).get("params_digest") not in made.artifacts.values():
        raise UserError(
            f"the checkpoint in {store.path(found.checkpoints)} is not the one that the stage "
            f"{found.stage} made; run `w2sr train {run}`"
        )
    return _of_run(OfRun(store, experiment, found))


def all_models(experiment: Experiment) -> list[Model]:
    """Every model of a run that has parameters of its own: teachers, and each rung's base, arms and ceiling."""
    every = [model for teacher in experiment.teachers if (model := models.teacher(teacher)) is not None]
    for index, rung in enumerate(experiment.rungs):
        every.append(models.student(experiment, index, BASE))
        every += [model for arm in rung.trained for model in models.students(experiment, index, arm)]
    return every


def ancestry(part: OfRun) -> list[tuple[Model, dict[str, Any]]]:
    """The model and those it started from, each with its checkpoint's lineage; the last one started from none of the run's."""
    known = {model.name: model for model in all_models(part.experiment)}
    found: list[tuple[Model, dict[str, Any]]] = []
    model: Model | None = part.model
    while model is not None and model not in [seen for seen, _ in found]:
        origin = models.origin(part.run, model)
        found.append((model, origin))
        model = known.get(str(origin.get("parent_checkpoint")))
    return found


def _named(run: Path, experiment: Experiment, below: str, name: str | None) -> Model:
    """The model that a directory below a run and a name mean."""
    known = all_models(experiment)
    below = below.partition(f"/{layout.CHECKPOINTS}")[0]
    if name is not None:
        fits = [model for model in known if model.name == name]
    else:
        fits = [model for model in known if model.directory == below]
        within = [model for model in known if model.directory.startswith(f"{below}/") and model.role == "student"]
        fits = fits or (within if len(within) == 1 else [])
    if len(fits) == 1:
        return fits[0]
    given = (
        f"has no model {name!r}"
        if name is not None
        else f"is a run; {below} in it is no single model"
        if below != "."
        else "is a run"
    )
    raise UserError(f"{run} {given}; name one with --model: {', '.join(model.name for model in known)}")


def _of_run(part: OfRun) -> Source:
    run, experiment, model = part.run, part.experiment, part.model
    renderer = tokenizer.renderer(run)
    config = models.sized(model.config, renderer)
    given = run.optional(f"{TOKENIZER}/{GENERATION}")
    ids = (_generation(given) if given else {}) | {
        "eos_token_id": list(renderer.end_tokens),
        "pad_token_id": renderer.pad,
    }
    origin = ancestry(part)[-1][1]
    context, family = origin.get("context"), origin.get("family")
    return Source(
        name=model.name,
        config=config,
        read=lambda mesh: models.parameters(run, model, config, mesh),
        foreign=ids | ({"max_position_embeddings": int(context)} if context else {}) | ({"model_type": family} if family else {}),
        generation=ids | _sampling(experiment.decoding),
        tokenizer=run.folder(TOKENIZER),
        part=part,
        origin={},
        adapter=_adapter(part, config) if model.base is not None else None,
    )


def _adapter(part: OfRun, config: ModelConfig) -> Adapter:
    run, model = part.run, part.model
    _, (base, origin), *_ = ancestry(part)
    ref = origin.get("checkpoint")
    if ref is not None and (Path(ref).expanduser() / RECORD).is_file():
        ref = read_record(Path(ref).expanduser()).source.get("ref")
    return Adapter(
        lora=model.lora,
        base=str(ref or base.name),
        read=lambda mesh: models.adapters(run, model, config, mesh),
    )


def _generation(path: Path) -> dict[str, Any]:
    """What a generation config says."""
    found = files.read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a JSON object; make its model again")
    return found


def _imported(path: Path) -> Source:
    files.check_tree(path)
    known = read_record(path)

    def read(mesh: jax.sharding.Mesh) -> Any:
        same_arrays(str(path), checkpoints.saved_shapes(path), transformer.shapes(known.config))
        return checkpoints.restore_params(path, models.parameter_shardings(known.config, mesh))

    ids = {name: known.kept[name] for name in _IDS if known.kept.get(name) is not None}
    given = path / TOKENIZER / GENERATION
    return Source(
        name=path.name,
        config=known.config,
        read=read,
        foreign=known.kept,
        generation=_generation(given) if given.is_file() else ids,
        tokenizer=path / TOKENIZER if (path / TOKENIZER).is_dir() else None,
        part=None,
        origin=known.source,
    )


def _sampling(decoding: Decoding) -> dict[str, Any]:
    """A run's decoding as transformers' defaults, without its limit of tokens, which was the evaluation's and would cut others'
    texts off; where sampling is off, transformers wants its settings to be absent."""
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
