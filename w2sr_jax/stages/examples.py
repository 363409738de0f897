"""What each model is trained on, and the batches made of it: the same for training and for the question which step saw what."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from w2sr_jax.batches import packing
from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import END_SPELT, Encoded, encoded
from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.stored import StoredExamples
from w2sr_jax.core import files, keys, records
from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.core.records import Example, Problem
from w2sr_jax.experiment import BASE, Experiment, ModelTeacher, Pretraining
from w2sr_jax.graph import verified
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages.models import Model
from w2sr_jax.text.render import Renderer
from w2sr_jax.training.settings import Training

CURATED, PACKING = "curated.parquet", "packing.npz"


@dataclasses.dataclass(frozen=True)
class Lessons:
    """A model's examples as its training meets them. `rejected` counts those left out, by reason; `total` counts the steps."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]
    rejected: Counter[str]
    batches: Batches
    total: int
    renderer: Renderer


def lessons(
    model: Model,
    examples: Sequence[Example],
    renderer: Renderer,
    training: Training,
    seed: int,
    path: Path | None = None,
) -> Lessons:
    """Encode, pack and order the examples of one training; `seed` is the run's. With a `path`, packed rows are written there, and
    neither they nor the encoded examples, which lie beside them until they are forgotten, are held in memory. `NothingToTrain`
    where none fits into a row."""
    batching = training.batching
    rejected: Counter[str] = Counter()
    found = encoded(examples, renderer, batching.length, rejected)
    every: Sequence[Encoded] = list(found) if path is None else StoredExamples(path.parent, found)
    if not every:
        spelt = f", and {rejected[END_SPELT]} spell out an end of turn in their midst" if rejected[END_SPELT] else ""
        raise NothingToTrain(
            f"{model.name}: none of the {len(examples)} examples fits into rows of {batching.length} tokens{spelt}; "
            "raise training.batching.length"
        )
    how = (every, batching.length, renderer.pad, batching.pack)
    packed = packing.pack(*how) if path is None else packing.write(path, *how)
    ordered = batches(packed, model, training, seed)
    return Lessons(examples, every, rejected, ordered, training.total_steps(ordered.steps_per_epoch), renderer)


def batches(packed: Packed, model: Model, training: Training, seed: int) -> Batches:
    """Packed rows in the order in which the model's training meets them."""
    return Batches(packed, training.batching, keys.words(seed, "order", model.name, training.seed)[0])


def examples_of(run: Path, experiment: Experiment, model: Model) -> Sequence[Example]:
    """What a model of the run is trained on: a teacher on gold solutions, a base on texts without reasoning, an arm on what was
    curated for it, which stays on the disk. None for a base or a teacher that is not trained in the run."""
    if training_of(experiment, model) is None:
        return []
    if model.rung is None:
        return list(gold(prepare.read(run, prepare.TEACHER)))
    start = experiment.rungs[model.rung].start
    if model.arm == BASE and isinstance(start, Pretraining):
        lines = prepare.facts(experiment)[: start.facts]
        return [*(_example("", "", line, "plain") for line in lines), *documents(prepare.read(run, prepare.PRETRAIN))]
    return records.Stored(verified.file(run, f"{model.directory}/{CURATED}"), Example)


def training_of(experiment: Experiment, model: Model) -> Training | None:
    """How a model of the run is trained; None where it is not."""
    if model.rung is None:
        teacher = next(teacher for teacher in experiment.teachers if teacher.name == model.name)
        return teacher.training if isinstance(teacher, ModelTeacher) and teacher.checkpoint is None else None
    rung = experiment.rungs[model.rung]
    if model.arm == BASE:
        return rung.start.training if isinstance(rung.start, Pretraining) else None
    return rung.training


def gold(problems: Iterable[Problem]) -> Iterator[Example]:
    """The worked solutions of problems as examples; problems without one are left out."""
    for problem in problems:
        if problem.solution is not None:
            yield _example(problem.id, problem.question, problem.solution, "reason")


def documents(problems: Sequence[Problem]) -> list[Example]:
    """Problems with their answers and without any reasoning, as texts to pretrain on."""
    return [
        _example(problem.id, problem.question, f"#### {problem.answer}", "document")
        for problem in problems
        if problem.answer is not None
    ]


def _example(problem: str, question: str, response: str, style: str) -> Example:
    identity = files.digest_json([problem, question, response, style])[:16]
    return Example(identity, problem, "", "gold", question, response, style, "correct", 1.0)
