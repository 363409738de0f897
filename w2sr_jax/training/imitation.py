"""Imitation as a training: the program and the source of a student that learns from traces."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.processes import put
from w2sr_jax.training import supervision
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.frozen import NO_MODELS, Models, check_models, computed, known_share, recorded
from w2sr_jax.training.level import level
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.preconditions import check_ending, check_fit, check_rows
from w2sr_jax.training.program import make_program, parameter_shardings
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.reference import References, references
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.student import Initial, Student, StudentProgram
from w2sr_jax.training.watchdog import LossLevel

REFERENCES = "references"
REFERENCE_MASS, TEACHER_SHARE = "reference_mass", "teacher_share"


@dataclasses.dataclass(frozen=True)
class ReferenceStore:
    """Where the distributions that `training.reference_top` stores lie, below `folder` (default: `references/` in the training's
    directory), so that every training of the same data and frozen parameters finds them; `on_progress` gets rows done and rows in
    all while they are computed; `sharing` is how several processes see them."""

    folder: Path | None = None
    on_progress: Callable[[int, int], None] | None = None
    sharing: Sharing = ON_ONE_DISK


class Imitation(NamedTuple):
    """The two that `fit` joins."""

    program: StudentProgram
    source: "ImitationSource"


def imitation(
    model: ModelConfig,
    initial: Any,
    batches: Batches,
    training: Training,
    objective: Objective,
    mesh: Mesh,
    store: ReferenceStore | None = None,
    models: Models = NO_MODELS,
    stored_on: Mesh | None = None,
) -> Imitation:
    """Program and source of a student that learns from `batches`.

    `initial` is a pytree of parameters (left as it is), or a function that gives it, so that nobody else holds it while a
    quantised copy takes its place; where the objective looks at the model `initial`, it is this. `models` are the other models
    that it looks at; their distributions are computed in every step, or stored once with `training.reference_top`. With
    `training.lora` only adapters are trained and saved, the lineage of their checkpoints has its settings as `adapter`, and a
    probe sees the parameters that adapters and initial ones amount to. Distributions are computed to be stored on the mesh
    `stored_on`, by default that of the training.

    `UserError`: the mesh does not divide the batch; a model that the objective looks at is missing, of another vocabulary, or a
    teacher whose distribution is known at no token; parameters do not fit their model or are not finite. `NothingToTrain`, of
    these: there is nothing to learn from the data with this objective. All but what is said of parameters is known before
    anything is compiled.
    """
    check_rows(batches.settings.rows, training.accumulation, mesh)
    if stored_on is not None and training.reference_top:
        check_rows(batches.settings.rows, training.accumulation, stored_on)
    check_models(model, objective, models)
    total = training.total_steps(batches.steps_per_epoch)
    idle = supervision.check(batches, objective, total, models)
    params = initial() if callable(initial) else initial
    check_fit(model, params)
    others = computed(objective, models)
    compiled = make_program(model, objective, training, total, mesh, {name: other.config for name, other in others.items()})
    student = Student(model, training.lora, batches.seed, mesh, compiled, Initial(params, params_digest(params)), others)
    setup = _Setup(student, batches, training, objective, stored_on or mesh, total)
    return Imitation(setup.program(), ImitationSource(setup, idle, store or ReferenceStore(), models))


def reference_mass(result: TrainingResult, model: str = INITIAL) -> float | None:
    """How much mass of a model's distributions the tokens have that were stored of it, in the mean; None where none were."""
    mass = result.lineage.get(_mass(model))
    return None if mass is None else float(mass)


def teacher_share(result: TrainingResult) -> float | None:
    """The share of the imitated tokens at which the recorded distribution of their teacher is known; None where the loss does not
    look at it."""
    share = result.lineage.get(TEACHER_SHARE)
    return None if share is None else float(share)


def _mass(model: str) -> str:
    return REFERENCE_MASS if model == INITIAL else f"{REFERENCE_MASS} {model}"


class _Setup(NamedTuple):
    """What program and source of one training share."""

    student: Student
    batches: Batches
    training: Training
    objective: Objective
    stored_on: Mesh
    total: int

    @property
    def names(self) -> list[str]:
        """The models that have parameters, and that the loss looks at."""
        own = [INITIAL] if INITIAL in models_of(self.objective.loss) else []
        return [*own, *self.student.others]

    def program(self) -> StudentProgram:
        student, lora = self.student, self.training.lora
        at = LossLevel(student.model.vocab_size, level(self.objective.loss, student.model.vocab_size, self.total))

        def check_base(base: Any, warn: Callable[[str], None]) -> None:
            if not lora.embeddings:
                check_ending(student.model, base, self.batches, self.training.accumulation, student.mesh, warn)

        return StudentProgram(student, at, check_base)


class ImitationSource:
    """Satisfies `Source`: batches of packed traces, with what was recorded or stored of other models beside them."""

    needs_state = False

    def __init__(self, setup: _Setup, idle: str | None, store: ReferenceStore, models: Models) -> None:
        """`idle` says in which steps nothing is learned, if there are such."""
        self._setup, self._idle, self._store = setup, idle, store
        self._recorded = recorded(setup.objective, setup.batches.packed, models)
        self._stored: dict[str, References] = {}
        self.digest, self.steps = setup.batches.digest, setup.total

    def prepare(self, directory: Path, start: int, hooks: Hooks) -> Mapping[str, float]:
        setup, top, due = self._setup, self._setup.training.reference_top, start < self.steps
        if self._idle is not None and due:
            hooks.warn(self._idle)
        if top and not setup.names:
            hooks.warn(f"training.reference_top {top} does nothing: the loss looks at no frozen model")
        if top and due:
            folder = self._store.folder or directory / REFERENCES
            self._stored = {name: self._references(name, folder, hooks) for name in setup.names}
        share = {TEACHER_SHARE: known_share(setup.batches.packed)} if self._recorded and due else {}
        return {_mass(name): stored.mass() for name, stored in self._stored.items()} | share

    def batch_at(self, step: int, state: TrainState | None) -> Batch:
        del state
        batches = self._setup.batches
        models = {name: stored.at(batches.rows_at(step)) for name, stored in self._stored.items()}
        if self._recorded and (teacher := batches.recorded_at(step)) is not None:
            models[TEACHER] = teacher
        return batches.batch_at(step)._replace(models=models)

    def tokens(self, batch: Batch) -> int:
        return int(np.count_nonzero(batch.segments))

    def _references(self, name: str, folder: Path, hooks: Hooks) -> References:
        setup, training, student = self._setup, self._setup.training, self._setup.student
        own = name == INITIAL

        def parameters() -> Any:
            if own:
                frozen = student.compiled.freeze(put(student.initial.params, student.compiled.params))
                return frozen if setup.stored_on == student.mesh else jax.tree.map(partial(_moved, setup.stored_on), frozen)
            return student.parameters(name, parameter_shardings(student.others[name].config, setup.stored_on))

        owner = {
            "data_digest": self.digest,
            "initial_params_digest": student.initial.digest if own else student.others[name].digest,
            "base": training.lora.quantize if own else "none",
        }
        return references(
            folder,
            student.model if own else student.others[name].config,
            parameters,
            setup.batches.packed,
            training.reference_top,
            setup.batches.settings.rows // training.accumulation,
            setup.objective.block,
            setup.stored_on,
            owner,
            hooks.stop,
            self._store.on_progress,
            hooks.warn,
            name,
            self._store.sharing,
        )


def _moved(mesh: Mesh, leaf: jax.Array) -> jax.Array:
    """An array laid out over another mesh as it is over its own, whole where it lies on one device."""
    spec = leaf.sharding.spec if isinstance(leaf.sharding, NamedSharding) else PartitionSpec()
    moved: jax.Array = put(leaf, NamedSharding(mesh, spec))
    return moved
