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
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.training import supervision
from w2sr_jax.training.digest import comparable, params_digest
from w2sr_jax.training.frozen import NO_MODELS, FrozenModel, Models, check_models, computed, known_share, recorded
from w2sr_jax.training.level import level
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.preconditions import check_ending, check_fit, check_rows
from w2sr_jax.training.program import Compiled, make_program, parameter_shardings
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.reference import References, references
from w2sr_jax.training.settings import Training
from w2sr_jax.training.state import Metrics, TrainState
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
    start = _Initial(params, params_digest(params))
    setup = _Setup(model, batches, training, objective, mesh, stored_on or mesh, total, compiled, start, others)
    return Imitation(ImitationProgram(setup), ImitationSource(setup, idle, store or ReferenceStore(), models))


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


@dataclasses.dataclass
class _Initial:
    """The initial parameters, which are held until the training has begun, and their digest."""

    params: Any
    digest: str

    def digest_like(self, like: str) -> str:
        return self.digest if not like or comparable(self.digest, like) else params_digest(self.params, like)

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
    stored_on: Mesh
    total: int
    compiled: Compiled
    initial: _Initial
    others: Mapping[str, FrozenModel]
    """The frozen models besides the initial one."""

    @property
    def names(self) -> list[str]:
        """The models that have parameters, and that the loss looks at."""
        own = [INITIAL] if INITIAL in models_of(self.objective.loss) else []
        return [*own, *self.others]

    def parameters(self, name: str, layout: Any) -> Any:
        """Of one of `others`, on the mesh."""
        params = self.others[name].parameters()
        check_fit(self.others[name].config, params, f"the parameters of the model {name!r}")
        return put(params, layout)


class ImitationProgram:
    """Satisfies `Program`."""

    def __init__(self, setup: _Setup) -> None:
        model, lora = setup.model, setup.training.lora
        self._setup = setup
        self._frozen: dict[str, Any] = {}
        self.state = setup.compiled.like
        self.loss_level = LossLevel(model.vocab_size, level(setup.objective.loss, model.vocab_size, setup.total))
        # `fit` counts `tokens`; named here, it comes before `adapter` in the lineage's file, whose bytes are digested.
        self.lineage: dict[str, Any] = {"model": dataclasses.asdict(model), "tokens": 0}
        if lora.rank:
            self.lineage["adapter"] = dataclasses.asdict(lora)

    def initial_digest(self, like: str = "") -> str:
        return self._setup.initial.digest_like(like)

    def begin(self, restored: TrainState | None, hooks: Hooks) -> TrainState:
        setup, lora = self._setup, self._setup.training.lora
        freezing = INITIAL in setup.compiled.frozen
        initial = setup.initial.release()
        if restored is None or freezing:
            initial = put(initial, setup.compiled.params)
        if freezing:
            self._frozen[INITIAL] = setup.compiled.freeze(initial)
        state = setup.compiled.fresh(initial, setup.batches.seed) if restored is None else restored
        del initial  # a quantised base takes its place, unless the caller keeps it
        if restored is None and lora.rank and not lora.embeddings:
            base = self._frozen[INITIAL]
            check_ending(setup.model, base, setup.batches, setup.training.accumulation, setup.mesh, hooks.warn)
        for name, layout in setup.compiled.frozen.items():
            if name != INITIAL:
                self._frozen[name] = setup.parameters(name, layout)
        return state

    def step(self, state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return self._setup.compiled.step(state, put(batch, batch_sharding(self._setup.mesh)), self._frozen or None)

    def whole(self, params: Any) -> Any:
        return self._setup.compiled.whole(params, self._frozen.get(INITIAL))


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
        setup, training = self._setup, self._setup.training
        own = name == INITIAL

        def parameters() -> Any:
            if own:
                frozen = setup.compiled.freeze(put(setup.initial.params, setup.compiled.params))
                return frozen if setup.stored_on == setup.mesh else jax.tree.map(partial(_moved, setup.stored_on), frozen)
            return setup.parameters(name, parameter_shardings(setup.others[name].config, setup.stored_on))

        owner = {
            "data_digest": self.digest,
            "initial_params_digest": setup.initial.digest if own else setup.others[name].digest,
            "base": training.lora.quantize if own else "none",
        }
        return references(
            folder,
            setup.model if own else setup.others[name].config,
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
