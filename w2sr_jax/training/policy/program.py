"""What a student learns from its own answers, as a program: a token loss on rollouts, with what is watched beside it."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.inputs import models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.rollout_watch import RolloutWatch
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.draw import sampled_logprob
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.frozen import Models, check_models, computed
from w2sr_jax.training.policy.gates import Gates, Guard
from w2sr_jax.training.policy.source import Drawn
from w2sr_jax.training.preconditions import check_fit
from w2sr_jax.training.program import Learning, make_program
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.sequence_step import LearningSequences, SequenceRows
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import Metrics, TrainState
from w2sr_jax.training.step import OnRollouts, Step, StepSettings, make_step
from w2sr_jax.training.student import Initial, Student, StudentProgram


@dataclasses.dataclass(frozen=True)
class SampledLogprob:
    """The log-probability of a token under the distribution that `decoding` makes of logits, ids from `limit` on left out."""

    decoding: Decoding
    limit: int | None

    def __call__(self, logits: jax.Array, target: jax.Array) -> jax.Array:
        return sampled_logprob(logits, target, self.decoding, limit=self.limit)


@dataclasses.dataclass(frozen=True)
class LearningFromRollouts:
    """Satisfies `training.program.Learning`: a token loss in the sum over the tokens of rollouts, whose weights hold the declared
    denominator."""

    objective: Objective
    drawn: SampledLogprob
    watch: RolloutWatch

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*models_of(self.objective.loss), *self.watch.models]))

    def make_step(
        self,
        config: ModelConfig,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        total_steps: int,
        how: StepSettings,
    ) -> Step:
        differ = any(other.vocab_size != config.vocab_size for other in how.models.values())
        rollouts = OnRollouts(self.drawn, self.watch, (self.drawn.limit or config.vocab_size) if differ else None)
        own = (how.accumulation, how.mesh, how.lora, how.peak, how.models, rollouts)
        return make_step(config, self.objective, optimizer, schedule, total_steps, *own)


def learning_from(objective: Objective, decoding: Decoding, limit: int | None, watch: RolloutWatch) -> Learning:
    """What is learned from rollouts that were drawn as `decoding` says, of ids below `limit`: by a loss on tokens, or by one on
    whole sequences, beside which nothing is watched."""
    drawn = SampledLogprob(_as_drawn(decoding), limit)
    if hasattr(objective.loss, "pairs"):
        return LearningSequences(cast(SequenceLoss, objective.loss), 1, objective.block, mean=False, drawn=drawn)
    return LearningFromRollouts(objective, drawn, watch)


class RolloutProgram(StudentProgram):
    """The program of a student on its own answers: its metrics are those of the step and those that were observed of the
    rollouts. Every step's are held against gates at once, before anything is saved of it."""

    def __init__(self, student: Student, gates: Gates, sequences: bool = False) -> None:
        """`sequences` says that the loss is one on whole sequences."""
        super().__init__(student, loss_level=None)
        self._sequences = sequences
        self._gates, self._guard = gates, Guard(gates, lambda words: None)
        self._number = 0

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        self._guard = Guard(self._gates, hooks.warn)
        self._number = 0 if restored is None else int(restored.step)
        return super().begin(restored, hooks)

    def step(self, state: TrainState, batch: Drawn) -> tuple[TrainState, Metrics]:
        new, metrics = super().step(state, as_sequences(batch.rows) if self._sequences else batch.rows)
        self._number += 1
        metrics = {**metrics, **{name: jnp.float32(value) for name, value in batch.observed.items()}}
        # What is drawn next waits for this step in any case.
        for value in metrics.values():
            value.copy_to_host_async()
        self._guard.look(self._number, {name: float(value) for name, value in metrics.items() if name != "sound"}, batch.fresh)
        return new, metrics


def rollout_program(
    model: ModelConfig,
    initial: Any,
    training: Training,
    objective: Objective,
    learns: Learning,
    mesh: Mesh,
    models: Models,
    gates: Gates,
    seed: int,
) -> RolloutProgram:
    """The program of a student that learns from answers of its own in each of `training.steps` steps, as `learns` says of the
    objective (see `learning_from`); how many rows they fill, the source says. `initial` is a pytree of parameters, or a function
    that gives it; `models` are those that the loss looks at besides `initial`. The seed draws adapters.

    `UserError`: a model that the loss looks at is missing, or does not have all ids of the tokenizer; parameters
    do not fit their model or are not finite.
    """
    known = (learns.drawn.limit or model.vocab_size) if isinstance(learns, LearningFromRollouts) else None
    check_models(model, objective, models, known)
    params = initial() if callable(initial) else initial
    check_fit(model, params)
    others = computed(objective, models)
    configs = {name: other.config for name, other in others.items()}
    compiled = make_program(model, learns, training, training.steps, mesh, configs)
    student = Student(model, training.lora, seed, mesh, compiled, Initial(params, params_digest(params)), others)
    return RolloutProgram(student, gates, isinstance(learns, LearningSequences))


def as_sequences(rows: Batch) -> SequenceRows:
    """Rollouts, one to a row, as sequences that each count as much as their tokens together."""
    return SequenceRows(rows, np.zeros((len(rows.weight), 1), np.float32), rows.weight.sum(axis=1, keepdims=True))


def _as_drawn(decoding: Decoding) -> Decoding:
    """What of a decoding counts for a token's probability: programs that differ in no more are one."""
    plain = Decoding()
    return dataclasses.replace(
        plain, temperature=decoding.temperature, top_k=decoding.top_k, top_p=decoding.top_p, min_p=decoding.min_p
    )
