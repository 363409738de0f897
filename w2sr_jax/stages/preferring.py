"""Preference as a stage of a run does it: from an arm's pairs to packed rows to a trained model, with its files and costs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from w2sr_jax.batches import packing
from w2sr_jax.batches.packing import Packed
from w2sr_jax.batches.stored import StoredExamples
from w2sr_jax.core import records
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Pair
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment.work import TrainedModel
from w2sr_jax.losses.contract_sequences import check_sequence_loss
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.parallel.processes import first_does
from w2sr_jax.stages import examples as examples_of
from w2sr_jax.stages import layout
from w2sr_jax.stages import training_cost as cost
from w2sr_jax.stages.curate import emptied
from w2sr_jax.stages.imitating import steering
from w2sr_jax.training import journal
from w2sr_jax.training.imitation import REFERENCES, ReferenceStore
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.preference.pairs import SIDES, Sides, encoded_pairs, joined
from w2sr_jax.training.preference.program import preference
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from w2sr_jax.stages.training_work import Work


@dataclasses.dataclass(frozen=True)
class PairTables:
    """Names of the files with an arm's pairs and the examples of their sides."""

    pairs: str
    chosen: str
    rejected: str


def tables(folder: str, arm: str) -> PairTables:
    """Those of an arm of the rung in `folder`."""
    own = layout.arm(folder, arm)
    return PairTables(*(layout.within(own, name) for name in (layout.PAIRS, layout.CURATED, layout.REJECTED)))


def sides(work: Work) -> Iterator[Sides]:
    """The pairs that the model's arm made, from the disk, each with its examples. `UserError` where it makes none,
    `NothingToTrain` where none is left."""
    model, curation = work.stage.model, work.stage.curation
    arm = str(model.arm)
    if curation is None or not any(one.name == arm and one.select.pairs for one in curation.arms):
        raise UserError(f"{work.model}: a training stage asked for pairs, and its arm makes none; give it select=Pairs()")
    named = tables(curation.folder, arm)
    pairs, *examples = (work.store.file(name) for name in (named.pairs, named.chosen, named.rejected))
    if not len(records.Stored(pairs, Pair)):
        raise NothingToTrain(emptied(work.store, curation.name, arm))
    return joined(records.iterate(pairs, Pair), *(records.iterate(path, Example) for path in examples))


def prefer(work: Work, params: Any, training: Training, loss: SequenceLoss, probe: Probe | None = None) -> TrainedModel:
    """What `experiment.work.TrainingWork.prefer` does, for one training of a run."""
    work.check_unmade()
    model, directory, stage = work.stage.model, work.directory, work.stage
    probe = probe or stage.probe
    for remark in check_sequence_loss(loss, where=f"{work.model}: loss"):
        work.warn(f"{work.model}: {remark}")
    path, batching, left_out = directory / layout.PACKING, training.batching, Counter[str]()
    every = sides(work)  # in each process, so that all say alike where there are none

    def pack() -> Packed:
        encoded = StoredExamples(path.parent, encoded_pairs(every, work.renderer, batching.length, left_out))
        if not encoded:
            reasons = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(left_out.items()))
            raise NothingToTrain(
                f"{work.model}: no pair fits into rows of {batching.length} tokens ({reasons}): both of its traces lie in one "
                "row; raise training.batching.length"
            )
        rows = packing.write(path, encoded, batching.length, work.renderer.pad, batching.pack, SIDES)
        work.store.publish([path])
        return rows

    packed = first_does(f"pairs of {work.model}", pack)
    if packed is None:
        work.store.sharing.obtain(path)
        packed = Packed.load(path)
    batches = examples_of.batches(packed, model, training, work.seed)
    work.renderer.check_ids(int(max(packed.tokens.max(), packed.target.max())), work.config.vocab_size)
    looks = work.probing(probe, params)
    with work.stop(), work.about():
        kept = ReferenceStore(
            work.store.path(REFERENCES),
            lambda done, rows: work.progress(done, rows, "rows of the frozen reference"),
            work.store.sharing,
        )
        program, source = preference(work.config, params, batches, training, loss, work.mesh, kept)
    steered = steering(work.config, training, loss, work.seed)
    result = work.fit_steered(program, source, training.loop, looks, steered)
    looked = sum(line["tokens"] for line in journal.read(directory / journal.PROBE))
    statistics, count = batches.statistics, work.config.parameters()
    measures: dict[str, Any] = {
        "trained_parameters": cost.trained_parameters(work.config, training),
        "pairs": statistics.examples // SIDES,
        "rejected": dict(left_out),
        "epochs": round(result.steps / batches.steps_per_epoch, 2),
        "flops": cost.flops(work.config, training, Objective(), {}, packed, result.tokens)
        + sampling_flops(count, looked)
        + (sampling_flops(count, statistics.tokens) if loss.uses_reference else 0),
    }
    return work.finish(result, measures, _note(result, statistics.examples // SIDES, left_out), [path])


def _note(result: TrainingResult, pairs: int, left_out: Counter[str]) -> str:
    names = ("loss", "margin", "pair_accuracy")
    shown = ", ".join(f"{name.replace('_', ' ')} {result.metrics.get(name) or 0.0:.3f}" for name in names)
    lost = f", {sum(left_out.values()):,} pairs left out" if left_out else ""
    return f"{result.steps} steps on {pairs:,} pairs, {shown}{lost}"
