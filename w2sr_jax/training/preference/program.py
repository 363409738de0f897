"""Preference as a training: the program and the source of a student that learns from pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batches
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.processes import put
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.imitation import REFERENCES, ReferenceStore
from w2sr_jax.training.preconditions import check_ending, check_fit, check_rows
from w2sr_jax.training.preference.pairs import Counts, counted, most_sequences, weights
from w2sr_jax.training.preference.reference import SequenceReferences, sequence_references
from w2sr_jax.training.program import make_program
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.sequence_step import BLOCK, LearningSequences, SequenceRows
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.student import CheckBase, Initial, Student, StudentProgram


class Preference(NamedTuple):
    """The two that `fit` joins."""

    program: StudentProgram
    source: "PairSource"


def preference(
    model: ModelConfig,
    initial: Any,
    batches: Batches,
    training: Training,
    loss: SequenceLoss,
    mesh: Mesh,
    store: ReferenceStore | None = None,
    block: int = BLOCK,
) -> Preference:
    """Program and source of a student that learns from `batches` of pairs, as `training.preference.pairs` has them packed.

    `initial` is a pytree of parameters (left as it is), or a function that gives it; where the loss looks at a reference, it is
    this, and what it makes of all sequences is computed once, before the first step, and stored. With `training.lora` only
    adapters are trained, beside the base that is then the reference.

    `UserError`: the loss is not one on pairs; the mesh does not divide the batch; `training.reference_top` is set; parameters
    do not fit their model or are not finite. `NothingToTrain`, of these: no pair has a weight and tokens on both sides.
    """
    if not loss.pairs:
        raise UserError(
            f"the loss {type(loss).__name__} is not one on pairs; take one such as Dpo(), or train on rollouts with it"
        )
    if training.reference_top:
        raise UserError(
            f"training.reference_top is {training.reference_top}; it must be 0: a loss on pairs looks at one number for each "
            "sequence of its reference, which is always stored"
        )
    check_rows(batches.settings.rows, training.accumulation, mesh)
    counts = counted(batches.packed)
    if not counts.learned:
        raise NothingToTrain(
            f"none of the {counts.pairs:,} pairs has tokens of weight on both of its sides; give a teacher of the rung a weight "
            "above 0"
        )
    params = initial() if callable(initial) else initial
    check_fit(model, params)
    total = training.total_steps(batches.steps_per_epoch)
    learning = LearningSequences(loss, most_sequences(batches.packed), block)
    compiled = make_program(model, learning, training, total, mesh)
    student = Student(model, training.lora, batches.seed, mesh, compiled, Initial(params, params_digest(params)), {})

    def check_base(base: Any, warn: Any) -> None:
        if not training.lora.embeddings:
            check_ending(model, base, batches, training.accumulation, mesh, warn)

    source = PairSource(student, batches, learning, training, total, counts, store or ReferenceStore())
    checked: CheckBase = check_base
    return Preference(StudentProgram(student, loss_level=None, check_base=checked), source)


class PairSource:
    """Satisfies `Source`: batches of pairs, with what the reference makes of their sequences."""

    needs_state = False

    def __init__(
        self,
        student: Student,
        batches: Batches,
        learning: LearningSequences,
        training: Training,
        total: int,
        counts: Counts,
        store: ReferenceStore,
    ) -> None:
        self._student, self._batches, self._learning, self._training = student, batches, learning, training
        self._counts, self._store = counts, store
        self._stored: SequenceReferences | None = None
        self.digest, self.steps = batches.digest, total

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        unlearned = self._counts.pairs - self._counts.learned
        if unlearned and start < self.steps:
            hooks.warn(f"{unlearned:,} of {self._counts.pairs:,} pairs have no token of weight on one of their sides")
        if not self._learning.loss.uses_reference or start >= self.steps:
            return {}
        student, training = self._student, self._training

        def parameters() -> Any:
            return student.compiled.freeze(put(student.initial.params, student.compiled.params))

        owner = {
            "data_digest": self.digest,
            "initial_params_digest": student.initial.digest,
            "base": training.lora.quantize if training.lora.rank else "none",
        }
        self._stored = sequence_references(
            self._store.folder or directory / REFERENCES,
            student.model,
            parameters,
            self._batches.packed,
            self._learning.count,
            self._batches.settings.rows // training.accumulation,
            self._learning.block,
            student.mesh,
            owner,
            hooks.stop,
            self._store.on_progress,
            hooks.warn,
            self._store.sharing,
        )
        return {}

    def batch_at(self, step: int, state: TrainState | None) -> SequenceRows:
        del state
        rows, own = self._batches.batch_at(step), self._batches.rows_at(step)
        none = np.zeros((len(own), self._learning.count), np.float32)
        reference = none if self._stored is None else self._stored.at(own)
        return SequenceRows(rows, reference, weights(rows, self._learning.count))

    def tokens(self, batch: SequenceRows) -> int:
        return int(np.count_nonzero(batch.rows.segments))
