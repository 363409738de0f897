"""What each model is trained on, and the batches made of it: the same for training and for the question which step saw what."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from w2sr_jax.batches import packing
from w2sr_jax.batches.batch import Batches
from w2sr_jax.batches.encode import END_SPELT, Encoded, encoded
from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.stored import StoredExamples
from w2sr_jax.core import files, keys, records
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Problem
from w2sr_jax.curation.texts import example
from w2sr_jax.experiment import BASE, Arm, Experiment, Imitation, Start, TrainingStage
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.stages import layout, problems
from w2sr_jax.stages.models import DIRECT, Model, rung_directory, students, teacher_chain, teacher_of
from w2sr_jax.teachers.teacher import Writer
from w2sr_jax.text.render import Renderer
from w2sr_jax.training.settings import Training


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
    encodings = encoded(examples, renderer, batching.length, rejected)
    every: Sequence[Encoded] = list(encodings) if path is None else StoredExamples(path.parent, encodings)
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


def packed_lessons(
    model: Model, examples: Sequence[Example], renderer: Renderer, training: Training, seed: int, path: Path
) -> Lessons:
    """What `lessons` gave another process, which has written the packed rows to `path`; without the encoded examples, and with no
    count of those left out."""
    ordered = batches(Packed.load(path), model, training, seed)
    return Lessons(examples, (), Counter(), ordered, training.total_steps(ordered.steps_per_epoch), renderer)


def batches(packed: Packed, model: Model, training: Training, seed: int) -> Batches:
    """Packed rows in the order in which the model's training meets them."""
    return Batches(packed, training.batching, keys.words(seed, "order", model.name, training.seed)[0])


@dataclasses.dataclass(frozen=True)
class RunTexts:
    """Satisfies `experiment.work.TextSource` for a model of a run whose splits are finished."""

    store: RunStore
    experiment: Experiment
    pool: tuple[float, float] = (0.0, 1.0)

    def problems(self, split: str) -> Sequence[Problem]:
        rows = problems.read(self.store, split)
        return problems.part(rows, self.pool) if split == problems.POOL else rows

    def facts(self, lines: int) -> Sequence[Example]:
        return [example("", "", line, "plain") for line in self.experiment.problems.facts(lines)]


def examples_of(store: RunStore, experiment: Experiment, model: Model) -> Sequence[Example]:
    """What a model of the run is trained on: a teacher or a base on the texts that its start names, a student on what was curated
    for its arm, or on what its training stage chose itself; both stay on the disk. None for a model that is not trained in the
    run."""
    start = start_of(experiment, model)
    if start is not None:
        return [] if start.training is None else start.texts(RunTexts(store, experiment))
    return records.Stored(store.file(learnt_from(store, experiment, model)), Example)


def learnt_from(store: RunStore, experiment: Experiment, model: Model) -> str:
    """The name of the file with a student's examples: those that its training stage has chosen itself, or what was curated for
    its arm."""
    own = layout.within(model.directory, layout.LESSONS)
    return curated_in(rung_directory(experiment, model.rung or 0), model) if store.optional(own) is None else own


def curated_in(rung: str, model: Model) -> str:
    """The name of the file with what was curated for a student's arm, below the folder of its rung."""
    return layout.within(layout.arm(rung, str(model.arm)), layout.CURATED)


def keep_chosen(model: Model, examples: Sequence[Example], curated: Path | None, path: Path) -> list[Path]:
    """Write examples to `path` that are not those that were `curated` for the model's arm (None: nothing was), so that it can be
    seen later what the model learnt from; the files that this makes. `UserError` for what is no example."""
    if (
        curated is not None
        and isinstance(examples, records.Stored)
        and examples.path == curated
        and len(examples) == len(records.Stored(curated, Example))
    ):
        files.remove(path)  # of an interrupted training of others
        return []
    wrong = next((type(one).__name__ for one in examples if not isinstance(one, Example)), None)
    if wrong is not None:
        raise UserError(
            f"{model.name}: imitate was given a {wrong} among its examples; each must be an Example, such as "
            "w2sr_jax.curation.texts.example makes"
        )
    records.write(path, Example, examples, any(one.top is not None for one in examples))
    return [path]


def chooser(experiment: Experiment, model: Model) -> str | None:
    """The kind of the training stage, other than imitation, that makes a model, which may learn from other texts than those that
    were curated for its arm; None for a model that is made by another."""
    if start_of(experiment, model) is not None:
        return None
    stage = training_stage(experiment, model)
    return None if isinstance(stage, Imitation | Preference) else type(stage).__name__


def learns_from_pairs(experiment: Experiment, model: Model) -> bool:
    """Whether a training stage makes a model of the pairs of its arm."""
    return preference_of(experiment, model) is not None


def preference_of(experiment: Experiment, model: Model) -> SequenceLoss | None:
    """The loss on pairs that a model is trained with; None for one that does not learn from pairs."""
    recipe = recipe_of(experiment, model)
    return recipe.loss if isinstance(recipe, Preference) else None


def start_of(experiment: Experiment, model: Model) -> Start | None:
    """The start that makes a teacher's model or a base; None for a student, and for a teacher's model that a training stage
    makes."""
    if model.rung is None:
        writer, number = writer_of(experiment, model)
        return writer.start if number == 0 else None
    return experiment.rungs[model.rung].start if model.arm in (BASE, DIRECT) else None


def writer_of(experiment: Experiment, model: Model) -> tuple[Writer, int]:
    """What makes a model of a teacher, and how many of its training stages the model has been through."""
    teacher = experiment.teachers[teacher_of(experiment, model)]
    assert teacher.writer is not None
    return teacher.writer, [one.name for one in teacher_chain(teacher)].index(model.name)


def learns_from_traces(experiment: Experiment, model: Model) -> bool:
    """Whether examples were selected for a model; True also for a teacher's and for one that a start makes."""
    return model.rung is None or start_of(experiment, model) is not None or _arm(experiment, model).select.curates


def recipe_of(experiment: Experiment, model: Model) -> Start | TrainingStage:
    """What makes a model of the run."""
    start = start_of(experiment, model)
    return training_stage(experiment, model) if start is None else start


def training_of(experiment: Experiment, model: Model) -> Training | None:
    """How a model of the run is trained; None where it is not, or not on batches of examples."""
    return recipe_of(experiment, model).training


def objective_of(experiment: Experiment, model: Model) -> Objective:
    """The loss that a model of the run is trained with."""
    if start_of(experiment, model) is not None:
        return Objective()
    own = training_stage(experiment, model).objective
    return own or (Objective() if model.rung is None else experiment.rungs[model.rung].objective)


def training_stage(experiment: Experiment, model: Model) -> TrainingStage:
    """The training stage that makes a student, or a teacher's model."""
    if model.rung is None:
        writer, number = writer_of(experiment, model)
        stage: TrainingStage = writer.train[number - 1]
        return stage
    arm = _arm(experiment, model)
    names = [student.name for student in students(experiment, model.rung, arm)]
    return experiment.rungs[model.rung].stages_of(arm)[names.index(model.name)]


def _arm(experiment: Experiment, model: Model) -> Arm:
    """The arm of a student, or of a ceiling."""
    assert model.rung is not None
    return experiment.rungs[model.rung].arm(str(model.arm))
