"""The model card of an exported model (README.md), made from the manifests and results of its run alone."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax import __version__
from w2sr_jax.configuration.words import name_of
from w2sr_jax.convert.exported import ExportedModel, RunModel, ancestry
from w2sr_jax.convert.markdown import Raw, code, environment, plain
from w2sr_jax.convert.measured import measured, written
from w2sr_jax.core import files, hub
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.experiment import BASE, GOLD, Teacher, TrainingStage
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.report import wording
from w2sr_jax.stages import examples, layout, models, tokenizer

TEMPLATE = "card.md.j2"
COUNTS = {name: name for name in ("steps", "tokens", "examples", "epochs")} | {
    "rollouts": "answers of its own",
    "rollout_tokens": "tokens of these",
    "flops": "FLOPs",
    "seconds": "seconds",
}
"""Measures of a training that the card names where they are known, and what they are called."""


def card(source: ExportedModel, config: ModelConfig, adapter: bool = False) -> str:
    """The text of README.md. `config`: the architecture that is written; `adapter`: only what LoRA trained is written."""
    facts = _imported(source) if source.run_model is None else _of_run(source.run_model)
    common = {
        "name": source.name,
        "family": _family(config),
        "config": config,
        "dtype": Raw(config.param_dtype),
        "parameters": Raw(f"{config.parameters():,}"),
        "decoding": Raw(", ".join(f"{plain(name)} {plain(value)}" for name, value in source.generation.items())),
        "has_tokenizer": source.tokenizer is not None,
        "chat": _has_template(source.tokenizer),
        "ends": source.generation.get("eos_token_id"),
        "adapter": source.adapter.base if adapter and source.adapter is not None else None,
        "w2sr": Raw(__version__),
    }
    templates = environment(str(Path(__file__).parent))
    templates.filters["settings"] = settings_text
    return templates.get_template(TEMPLATE).render(**common, **facts)


def settings_text(value: Any) -> str:
    """Settings in one line: a dataclass with the fields that are not at their defaults, a function by its name."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = []
        for field in dataclasses.fields(value):
            setting = getattr(value, field.name)
            standard = field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
            if standard is dataclasses.MISSING or setting != standard:
                own.append(f"{field.name}={settings_text(setting)}")
        return f"{type(value).__name__}({', '.join(own)})"
    if isinstance(value, tuple):
        return f"({', '.join(settings_text(item) for item in value)}{',' if len(value) == 1 else ''})"
    return name_of(value)


def _imported(source: ExportedModel) -> dict[str, Any]:
    origin = source.origin
    return {
        "run": None,
        "base_model": origin.get("repository"),
        "datasets": [],
        "tags": ["w2sr"],
        "parents": [_foreign_parent(str(origin.get("ref")), origin, files.digest_json(origin.get("files")))],
        "source_files": sorted(dict(origin.get("files") or {}).items()),
    }


def _of_run(subject: RunModel) -> dict[str, Any]:
    run, experiment, model = subject.run, subject.experiment, subject.model
    manifest = run.manifest(model.stage)
    if manifest is None:
        raise UserError(f"the manifest of {model.stage} in {run.directory} is not there; run `w2sr train {run.directory}` first")
    parents = _parents(subject)
    rung = experiment.rungs[model.rung] if model.rung is not None else None
    trained = "steps" in manifest.measures
    learner = rung is not None and model.arm != BASE
    taught = rung is not None and learner and model.arm != GOLD and examples.learns_from_traces(experiment, model)
    recipe, training = examples.recipe_of(experiment, model), examples.training_of(experiment, model)
    return {
        "run": experiment.name,
        "seed": experiment.seeds[0],
        "base_model": next((parent["repository"] for parent in parents if parent["repository"]), None),
        "datasets": _datasets(subject),
        "tags": ["w2sr", "weak-to-strong", "reasoning"],
        "what": _what(subject),
        "parents": parents,
        "source_files": [],
        "teachers": [_teacher(subject, name) for name in rung.teachers] if rung and taught else [],
        "curation": _curation(subject) if taught or model.arm == GOLD else None,
        "curation_settings": settings_text(rung.curation) if rung and taught else None,
        "problems": settings_text(experiment.problems),
        "data": _data(subject),
        "objective": examples.objective_of(experiment, model),
        "preference": examples.preference_of(experiment, model),
        "training": training if trained else None,
        "recipe": recipe,
        "signal": recipe.signal if isinstance(recipe, TrainingStage) else "traces",
        "own": {"rewards": Raw("rewards of its own answers (reinforcement)"), "answers": Raw("its own answers")},
        "counts": [(Raw(word), manifest.measures[name]) for name, word in COUNTS.items() if name in manifest.measures],
        "lora": settings_text(lora) if (lora := getattr(training, "lora", None)) is not None and lora.rank else None,
        "measures": manifest.measures,
        "trained": trained,
        "learner": learner or rung is None,
        "digest": next(iter(manifest.artifacts.values())),
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items())),
        "environment": ", ".join(f"{name} {value}" for name, value in sorted(manifest.environment.items()) if value),
        "tokenizer": experiment.tokenizer,
        "grader": settings_text(experiment.grader),
        **vars(measured(subject)),
    }


def _what(subject: RunModel) -> Raw:
    """What the model is. The template adds names from the user's settings, which are escaped."""
    model, words = (
        subject.model,
        {BASE: "the base that its students start from", GOLD: "its ceiling: trained on gold solutions"},
    )
    if model.rung is None:
        return Raw("a teacher")
    arm = str(model.arm)
    if arm in words:
        return Raw(words[arm])
    settings = subject.experiment.rungs[model.rung].arm(arm)
    selected = wording.ARM_NOTES.get(arm, "selected traces") if settings.select.curates else "no traces"
    return Raw(f"the student of arm {arm} ({plain(settings.title)}: {selected})")


def _parents(subject: RunModel) -> list[dict[str, Any]]:
    """The models that it started from, the nearest first: `text` may hold markup, `name` is as the user wrote it; `digest`;
    `repository` for a model of the Hub."""
    parents: list[dict[str, Any]] = []
    for model, origin in ancestry(subject):
        if "parent_checkpoint" in origin:
            parents.append(
                {
                    "text": Raw("another model of the run,"),
                    "name": origin["parent_checkpoint"],
                    "digest": origin.get("parent_digest"),
                    "revision": None,
                    "repository": None,
                }
            )
        elif "checkpoint" in origin:
            parents.append(_foreign_parent(str(origin["checkpoint"]), origin, origin.get("weights_digest")))
        else:
            start = subject.experiment.rungs[model.rung].start if model.rung is not None else None
            pretrained = start is not None and start.training is not None and model.arm == BASE
            text = "random weights, pretrained in the run on questions with bare answers:" if pretrained else "random weights:"
            parents.append(
                {
                    "text": Raw(text),
                    "name": settings_text(start) if start else model.name,
                    "digest": None,
                    "revision": None,
                    "repository": None,
                }
            )
    return parents


def _foreign_parent(ref: str, origin: Mapping[str, Any], digest: Any) -> dict[str, Any]:
    repository = origin.get("repository")
    text = f"the Hub model {code(repository)}, given as" if repository else "a directory that is not part of the run,"
    return {"text": Raw(text), "name": ref, "digest": digest, "revision": origin.get("revision"), "repository": repository}


def _teacher(subject: RunModel, name: str) -> dict[str, Any]:
    folder = models.rung_directory(subject.experiment, subject.model.rung or 0)
    teacher = subject.experiment.teacher(name)
    manifest = subject.run.manifest(layout.traces_stage(folder, name))
    measures = manifest.measures if manifest else {}
    graded = measures.get("graded") or 0
    return {
        "name": name,
        "kind": _teacher_kind(subject, teacher),
        "traces": Raw(wording.count(measures.get("traces"))),
        "right": Raw(wording.percent(measures["correct"] / graded if graded else None)),
        "decoding": None if teacher.decoding is None else settings_text(teacher.decoding),
    }


def _teacher_kind(subject: RunModel, teacher: Teacher) -> Raw:
    model, described = models.teacher(teacher), teacher.described
    count = ""
    if model is not None:
        count = f"a model of {models.sized(model.config, tokenizer.renderer(subject.run)).parameters():,} parameters, "
    return Raw(count + described.words + (code(described.name) if described.name else ""))


def _curation(subject: RunModel) -> dict[str, Any] | None:
    """The curated examples of the model's arm; for the ceiling only their number."""
    folder = models.rung_directory(subject.experiment, subject.model.rung or 0)
    manifest = subject.run.manifest(layout.curation_stage(folder))
    if manifest is None or subject.model.arm is None:
        return None
    examples = dict(manifest.measures.get("kept") or {}).get(subject.model.arm)
    funnels = written(subject.run, layout.within(folder, layout.FUNNELS), dict[str, Funnel]) or {}
    funnel = funnels.get(subject.model.arm)
    accuracy = funnel.teacher_accuracy if funnel else None
    return {
        "kept": Raw(wording.count(examples)),
        "given": Raw(wording.count(funnel.given)) if funnel else None,
        "right": Raw(wording.percent(accuracy)) if accuracy is not None else None,
        "reasons": [(name, Raw(f"{count:,}")) for name, count in sorted(funnel.rejections.items())] if funnel else [],
    }


def _data(subject: RunModel) -> list[tuple[str, str]]:
    """The files that the model was trained on and its results come from, with their digests."""
    run, model = subject.run, subject.model
    digests = {**_outputs(run, layout.PROBLEMS), **_outputs(run, layout.TOKENIZER)}
    if model.rung is not None and model.arm != BASE:
        folder = models.rung_directory(subject.experiment, model.rung)
        taught = model.arm != GOLD and examples.learns_from_traces(subject.experiment, model)
        teachers = subject.experiment.rungs[model.rung].teachers if taught else ()
        for name in teachers:
            digests |= _outputs(run, layout.traces_stage(folder, name))
        own = (layout.within(layout.arm(folder, str(model.arm)), ""), layout.within(folder, layout.FUNNELS))
        curated = _outputs(run, layout.curation_stage(folder))
        digests |= {name: digest for name, digest in curated.items() if name.startswith(own)}
    packing = layout.within(model.directory, layout.PACKING)
    digests |= {name: digest for name, digest in _outputs(run, model.stage).items() if name == packing}
    return sorted(digests.items())


def _outputs(run: RunStore, stage: str) -> dict[str, str]:
    """The files that a stage wrote, with their digests; none where it has not finished."""
    manifest = run.manifest(stage)
    return dict(manifest.outputs) if manifest else {}


def _datasets(subject: RunModel) -> list[str]:
    """Hub ids of the data sets that problems are read from, as the front matter wants them."""
    repositories = []
    sources = [source for source in (subject.experiment.problems, subject.experiment.test_problems) if source is not None]
    for path in (path for source in sources for path in source.paths()):
        if path.startswith("hf:"):
            reference = hub.reference(path.removeprefix("hf:").partition(":")[0])
            repositories += [reference.repository] if reference else []
    return list(dict.fromkeys(repositories))


def _has_template(tokenizer: Path | None) -> bool:
    """Whether a tokenizer has a chat template, in a file of its own or among its settings."""
    if tokenizer is None:
        return True
    settings = tokenizer / "tokenizer_config.json"
    return (tokenizer / "chat_template.jinja").is_file() or bool(
        settings.is_file() and files.read_json(settings).get("chat_template")
    )


def _family(config: ModelConfig) -> Raw:
    if config.norm_offset:
        return Raw("Gemma 3")
    if config.window is not None:
        return Raw("Mistral")
    return Raw("Qwen3" if config.qk_norm else "Qwen2" if config.qkv_bias else "Llama")
