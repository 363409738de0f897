"""Imitation as a stage of a run does it: from examples to packed rows to a trained model, with its files, notes and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files
from w2sr_jax.core.records import Example
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment import TrainingStage
from w2sr_jax.experiment.work import TrainedModel
from w2sr_jax.losses.contract import check_objective
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.placement import mesh_of
from w2sr_jax.parallel.processes import first_does
from w2sr_jax.stages import examples as examples_of
from w2sr_jax.stages import layout, remarks
from w2sr_jax.stages import training_cost as cost
from w2sr_jax.stages.training_notes import noted
from w2sr_jax.training import journal, supervision
from w2sr_jax.training.imitation import REFERENCES, ReferenceStore, imitation
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from w2sr_jax.stages.training_work import Work


def steering(config: ModelConfig, training: Training, objective: Objective | SequenceLoss, seed: int) -> str:
    """Digest of all that steers a training besides its data. It is the same in every process, also with a function as a loss, so
    that an interrupted training recognises its own checkpoints."""
    return files.digest_json(encode((config, training, objective, seed)))


def imitate(
    work: Work,
    examples: Sequence[Example],
    params: Any,
    training: Training,
    objective: Objective | None = None,
    probe: Probe | None = None,
) -> TrainedModel:
    """What `experiment.work.TrainingWork.imitate` does, for one training of a run."""
    work.check_unmade()
    model, directory, stage = work.stage.model, work.directory, work.stage
    if isinstance(stage.recipe, TrainingStage):
        objective, probe = objective or stage.recipe.objective, probe or stage.recipe.probe
    objective, probe = objective or stage.objective or Objective(), probe or stage.probe
    check_objective(objective, vocab_size=work.config.vocab_size, where=f"{work.model}: objective", rollouts=False)
    curated = None if stage.curation is None else work.store.path(examples_of.curated_in(stage.curation.folder, model))
    chosen = directory / layout.LESSONS
    student = model.rung is not None and isinstance(stage.recipe, TrainingStage)
    own = first_does(
        f"examples of {work.model}",
        lambda: examples_of.keep_chosen(model, examples, curated, chosen) if student else [],
    )
    path = directory / layout.PACKING

    def packed_here() -> examples_of.Lessons:
        lessons = examples_of.lessons(model, examples, work.renderer, training, work.seed, path)
        work.store.publish([path])
        return lessons

    lessons = first_does(f"rows of {work.model}", packed_here)
    if lessons is None:
        work.store.sharing.obtain(path)
        lessons = examples_of.packed_lessons(model, examples, work.renderer, training, work.seed, path)
    remarked = remarks.remarked(lessons.renderer, examples) if work.context.first else {}
    for warning in remarks.warnings(work.model, len(examples), remarked):
        work.warn(warning)
    batches, packed = lessons.batches, lessons.batches.packed
    lessons.renderer.check_ids(int(max(packed.tokens.max(), packed.target.max())), work.config.vocab_size)
    with work.about():
        others = work.beside()
        supervision.check(batches, objective, lessons.total, others)
    # Computes answers of the base: after all that is known without, and before anything else holds parameters.
    looks = work.probing(probe, params)
    count, rejected = len(lessons.encoded), lessons.rejected
    del lessons
    with work.stop(), work.about():
        kept = ReferenceStore(
            work.store.path(REFERENCES),
            lambda done, rows: work.progress(done, rows, "rows of the frozen reference"),
            work.store.sharing,
        )
        stored_on = None if stage.reference_mesh is None else mesh_of(stage.reference_mesh)
        program, source = imitation(work.config, params, batches, training, objective, work.mesh, kept, others, stored_on)
    steered = steering(work.config, training, objective, work.seed)
    result = work.fit_steered(program, source, training.loop, looks, steered)
    looked = sum(line["tokens"] for line in journal.read(directory / journal.PROBE))
    note, seen = noted(result, count, rejected, others)
    measures: dict[str, Any] = {
        "trained_parameters": cost.trained_parameters(work.config, training),
        "examples": count,
        "rejected": dict(rejected),
        "epochs": round(result.steps / batches.steps_per_epoch, 2),
        "flops": cost.flops(work.config, training, objective, others, packed, result.tokens)
        + sampling_flops(work.config.parameters(), looked),
        **seen,
        **({"remarks": remarks.counts(remarked)} if remarked else {}),
    }
    return work.finish(result, measures, note, [path, *(own or ())])
