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
    """The two that `fit` joins."""

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
    compiled = make_program(model, objective, training, total, mesh)
    setup = _Setup(model, batches, training, objective, mesh, total, compiled, _Initial(params, params_digest(params)))
    return Imitation(ImitationProgram(setup), ImitationSource(setup, idle, store or ReferenceStore()))


def reference_mass(result: TrainingResult) -> float | None:
    """How much of the reference's mass the tokens that were kept of it have, in the mean; None where none were kept."""
    mass = result.lineage.get("reference_mass")
    return None if mass is None else float(mass)


@dataclasses.dataclass
class _Initial:
    """The initial parameters, which are held until the training has begun, and their digest."""

    params: Any
    digest: str

    def release(self) -> Any:
        params, self.params = self.params, None
        return params


class _Setup(NamedTuple):
    """What program and source of one training share."""

    model: ModelConfig
    batches: Batches
    training: Training
    objective: Objective
    mesh: Mesh
    total: int
    compiled: Compiled
    initial: _Initial

    @property
    def referenced(self) -> bool:
        return needs_reference(self.objective.loss)


class ImitationProgram:
    """Satisfies `Program`."""

    def __init__(self, setup: _Setup) -> None:
        model, lora = setup.model, setup.training.lora
        self._setup, self._frozen = setup, None
        self.state, self.initial_digest = setup.compiled.like, setup.initial.digest
        self.loss_level = LossLevel(model.vocab_size, level(setup.objective.loss, model.vocab_size, setup.total))
        # `fit` counts `tokens`; named here, it comes before `adapter` in the lineage's file, whose bytes are digested.
        self.lineage: dict[str, Any] = {"model": dataclasses.asdict(model), "tokens": 0}
        if lora.rank:
            self.lineage["adapter"] = dataclasses.asdict(lora)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        setup, lora = self._setup, self._setup.training.lora
        freezing = lora.rank > 0 or (setup.referenced and not setup.training.reference_top)
        initial = setup.initial.release()
        if restored is None or freezing:
            initial = put(initial, setup.compiled.params)
        if freezing:
            self._frozen = setup.compiled.freeze(initial)
        state = setup.compiled.fresh(initial, setup.batches.seed) if restored is None else restored
        del initial  # a quantised base takes its place, unless the caller keeps it
        if restored is None and lora.rank and not lora.embeddings:
            check_ending(setup.model, self._frozen, setup.batches, setup.training.accumulation, setup.mesh, hooks.warn)
        return state

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self._setup.compiled.step(state, put(batch, batch_sharding(self._setup.mesh)), self._frozen)

    def whole(self, params: Any) -> Any:
        return self._setup.compiled.whole(params, self._frozen)


class ImitationSource:
    """Satisfies `Source`: batches of packed traces, with what was kept of the reference beside them."""

    needs_state = False

    def __init__(self, setup: _Setup, idle: str | None, store: ReferenceStore) -> None:
        """`idle` says in which steps nothing is learned, if there are such."""
        self._setup, self._idle, self._store = setup, idle, store
        self._kept: References | None = None
        self.digest, self.steps = setup.batches.digest, setup.total

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        top, due = self._setup.training.reference_top, start < self.steps
        if self._idle is not None and due:
            hooks.warn(self._idle)
        if top and not self._setup.referenced:
            hooks.warn(f"training.reference_top {top} does nothing: the loss asks for no reference")
        if not (top and self._setup.referenced and due):
            return {}
        self._kept = self._references(self._store.folder or directory / REFERENCES, hooks)
        return {"reference_mass": self._kept.mass()}

    def batch_at(self, step: int, state: TrainState | None) -> Batch:
        del state
        batches = self._setup.batches
        batch = batches.batch_at(step)
        return batch if self._kept is None else batch._replace(reference=self._kept.at(batches.rows_at(step)))

    def tokens(self, batch: Batch) -> int:
        return int(np.count_nonzero(batch.segments))

    def _references(self, folder: Path, hooks: Hooks) -> References:
        setup, training = self._setup, self._setup.training
        owner = {"data_digest": self.digest, "initial_params_digest": setup.initial.digest, "base": training.lora.quantize}
        return references(
            folder,
            setup.model,
            lambda: setup.compiled.freeze(put(setup.initial.params, setup.compiled.params)),
            setup.batches.packed,
            training.reference_top,
            setup.batches.settings.rows // training.accumulation,
            setup.objective.block,
            setup.mesh,
            owner,
            hooks.stop,
            self._store.on_progress,
            hooks.warn,
        )
