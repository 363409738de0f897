"""Imitation as a training: the program and the source of a student that learns from traces."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.training import supervision
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.level import level
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.preconditions import check_ending, check_fit, check_rows
from w2sr_jax.training.program import Compiled, make_program
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.reference import References, references
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import Metrics, TrainState
from w2sr_jax.training.watchdog import LossLevel

REFERENCES = "references"


@dataclasses.dataclass(frozen=True)
class ReferenceStore:
    """Where the values that `training.reference_top` keeps of a reference lie, below `folder` (default: `references/` in the
    training's directory), so that every training of the same data and initial parameters finds them; `on_progress` gets rows done
    and rows in all while they are computed."""

    folder: Path | None = None
    on_progress: Callable[[int, int], None] | None = None


class Imitation(NamedTuple):
    """The two arguments of `fit`."""

    program: "ImitationProgram"
    source: "ImitationSource"


def imitation(
    model: ModelConfig,
    initial: Any,
    batches: Batches,
    training: Training,
    objective: Objective,
    mesh: Mesh,
    store: ReferenceStore | None = None,
) -> Imitation:
    """Program and source of a student that learns from `batches`.

    `initial` is a pytree of parameters (left as it is), or a function that gives it, so that nobody else holds it while a
    quantised copy takes its place; where the objective needs a reference, it is this. With `training.lora` only adapters are
    trained and saved, the lineage of their checkpoints has its settings as `adapter`, and a probe sees the parameters that
    adapters and initial ones amount to.

    `UserError`: the mesh does not divide the batch; initial parameters do not fit the model or are not finite. `NothingToTrain`,
    of these: there is nothing to learn from the data with this objective (known before anything is compiled).
    """
    check_rows(batches.settings.rows, training.accumulation, mesh)
    total = training.total_steps(batches.steps_per_epoch)
    idle = supervision.check(batches, objective, total)
    params = initial() if callable(initial) else initial
    check_fit(model, params)
    held = _Held(params)
    what = _What(model, batches, training, objective, mesh, make_program(model, objective, training, total, mesh), total)
    program = ImitationProgram(what, held, params_digest(params))
    return Imitation(program, ImitationSource(what, held, program.initial_digest, idle, store or ReferenceStore()))


def reference_mass(result: TrainingResult) -> float | None:
    """How much of the reference's mass the tokens that were kept of it have, in the mean; None where none were kept."""
    mass = result.lineage.get("reference_mass")
    return None if mass is None else float(mass)


class _What(NamedTuple):
    """What program and source of one training share."""

    model: ModelConfig
    batches: Batches
    training: Training
    objective: Objective
    mesh: Mesh
    compiled: Compiled
    total: int

    @property
    def referenced(self) -> bool:
        return needs_reference(self.objective.loss)


@dataclasses.dataclass
class _Held:
    """The initial parameters, until the training has begun."""

    params: Any

    def release(self) -> Any:
        params, self.params = self.params, None
        return params


class ImitationProgram:
    """Satisfies `Program`."""

    def __init__(self, what: _What, held: _Held, initial_digest: str) -> None:
        self._what, self._held, self._frozen = what, held, None
        self.state, self.initial_digest = what.compiled.like, initial_digest
        self.loss_level = LossLevel(what.model.vocab_size, level(what.objective.loss, what.model.vocab_size, what.total))
        # `fit` counts `tokens`; named here, it comes before `adapter` in the lineage's file, whose bytes are digested.
        self.lineage: dict[str, Any] = {"model": dataclasses.asdict(what.model), "tokens": 0}
        if what.training.lora.rank:
            self.lineage["adapter"] = dataclasses.asdict(what.training.lora)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        what, lora = self._what, self._what.training.lora
        freezing = lora.rank > 0 or (what.referenced and not what.training.reference_top)
        initial = self._held.release()
        if restored is None or freezing:
            initial = put(initial, what.compiled.params)
        if freezing:
            self._frozen = what.compiled.freeze(initial)
        state = what.compiled.fresh(initial, what.batches.seed) if restored is None else restored
        del initial  # a quantised base takes its place, unless the caller keeps it
        if restored is None and lora.rank and not lora.embeddings:
            check_ending(what.model, self._frozen, what.batches, what.training.accumulation, what.mesh, hooks.warn)
        return state

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self._what.compiled.step(state, put(batch, batch_sharding(self._what.mesh)), self._frozen)

    def whole(self, params: Any) -> Any:
        return self._what.compiled.whole(params, self._frozen)


class ImitationSource:
    """Satisfies `Source`; the batches of packed traces, with what was kept of the reference beside them."""

    needs_state = False

    def __init__(self, what: _What, held: _Held, initial_digest: str, idle: str | None, store: ReferenceStore) -> None:
        self._what, self._held, self._initial_digest, self._idle, self._store = what, held, initial_digest, idle, store
        self._kept: References | None = None
        self.digest, self.steps = what.batches.digest, what.total

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        top, due = self._what.training.reference_top, start < self.steps
        if self._idle is not None and due:
            hooks.warn(self._idle)
        if top and not self._what.referenced:
            hooks.warn(f"training.reference_top {top} does nothing: the loss asks for no reference")
        if not (top and self._what.referenced and due):
            return {}
        self._kept = self._references(directory, hooks)
        return {"reference_mass": self._kept.mass()}

    def batch_at(self, step: int, state: TrainState | None) -> Batch:
        del state
        batch = self._what.batches.batch_at(step)
        return batch if self._kept is None else batch._replace(reference=self._kept.at(self._what.batches.rows_at(step)))

    def tokens(self, batch: Batch) -> int:
        return int(np.count_nonzero(batch.segments))

    def _references(self, directory: Path, hooks: Hooks) -> References:
        what, compiled = self._what, self._what.compiled
        owner = {"data_digest": self.digest, "initial_params_digest": self._initial_digest, "base": what.training.lora.quantize}
        return references(
            self._store.folder or directory / REFERENCES,
            what.model,
            lambda: compiled.freeze(put(self._held.params, compiled.params)),
            what.batches.packed,
            what.training.reference_top,
            what.batches.settings.rows // what.training.accumulation,
            what.objective.block,
            what.mesh,
            owner,
            hooks.stop,
            self._store.on_progress,
            hooks.warn,
        )
