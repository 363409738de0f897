"""What is compiled for imitation, and where its arrays lie. Nothing is allocated or compiled until it is called."""

import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Key

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import keys
from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models import lora as adapters
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import shardings
from w2sr_jax.training.optimizer import learning_rate, make_optimizer
from w2sr_jax.training.settings import Training, Watchdog
from w2sr_jax.training.state import TrainState, abstract_state, create, state_shardings
from w2sr_jax.training.step import NO_CONFIGS, Step, StepSettings, compile_step, make_step


class Learning(Hashable, Protocol):
    """What a step learns: its loss, and how the step is made of it. Where it cannot be hashed, since a loss of the user's own
    cannot, a compiled step is not shared."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the frozen models that it looks at."""

    def make_step(
        self,
        config: ModelConfig,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        total_steps: int,
        how: StepSettings,
    ) -> Step: ...


@dataclasses.dataclass(frozen=True)
class Imitating:
    """The regularized imitation loss on given rows, in the weighted mean over their tokens."""

    objective: Objective

    @property
    def models(self) -> tuple[str, ...]:
        return models_of(self.objective.loss)

    def make_step(
        self,
        config: ModelConfig,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        total_steps: int,
        how: StepSettings,
    ) -> Step:
        own = (how.accumulation, how.mesh, how.lora, how.peak, how.models)
        return make_step(config, self.objective, optimizer, schedule, total_steps, *own)


class Compiled(NamedTuple):
    """`params` are the shardings of the initial parameters, all of them; those, put so, are what `fresh` and `freeze` take.

    `fresh(initial, seed)` makes the state before the first step and leaves its argument untouched; the seed draws adapters.
    `freeze(initial)` is what stays frozen of them, the initial parameters themselves or quantised.
    `step` donates its state; its third argument has, by name, the parameters of the models whose shardings `frozen` has, those of
    `initial` as `freeze` makes them; it may be None where there are none. `whole(state.params, initial)` are the student's
    parameters, of its adapters and the frozen initial ones; with adapters each call makes them anew. `like` has the state's
    shapes, dtypes and shardings.
    """

    step: Step
    fresh: Callable[..., TrainState]
    params: Any
    like: TrainState
    freeze: Callable[[Any], Any]
    whole: Callable[[Any, Any], Any]
    frozen: Mapping[str, Any]


Configs: TypeAlias = tuple[tuple[str, ModelConfig], ...]


def make_program(
    model: ModelConfig,
    learns: Objective | Learning,
    training: Training,
    total_steps: int,
    mesh: Mesh,
    models: Mapping[str, ModelConfig] = NO_CONFIGS,
) -> Compiled:
    """The program of a run. The latest few are kept for runs that differ in data, seed, logging and saving alone: compiling takes
    longer than many a small training. `models` are the settings of the frozen models besides `initial` that the loss looks at; an
    `Objective` is learned by imitation."""
    learning: Learning = Imitating(learns) if isinstance(learns, Objective) else learns
    defaults = {
        "epochs": None,
        "batching": Batching(),
        "save_every": 0,
        "log_every": 1,
        "keep": 1,
        "keep_optimizer": False,
        "seed": 0,
        "watchdog": Watchdog(),
    }
    steering = dataclasses.replace(training, steps=total_steps, **defaults)  # type: ignore[arg-type]
    try:
        hash(learning)
    except TypeError:  # a loss of the user's own that is not hashable
        return _build.__wrapped__(model, learning, steering, mesh, tuple(models.items()))
    return _build(model, learning, steering, mesh, tuple(models.items()))


@functools.lru_cache(maxsize=4)
def _build(model: ModelConfig, learning: Learning, training: Training, mesh: Mesh, models: Configs) -> Compiled:
    return (_adapting if training.lora.rank else _full)(model, learning, training, mesh, models)


def _full(model: ModelConfig, learning: Learning, training: Training, mesh: Mesh, models: Configs) -> Compiled:
    optimizer = make_optimizer(training, training.steps)
    shapes = transformer.shapes(model)
    params = parameter_shardings(model, mesh)
    layout = state_shardings(optimizer, shapes, params, mesh)

    def create_state(params: Any) -> TrainState:
        # Copied, since the step donates its state and the caller's arrays must survive that.
        return create(jax.tree.map(lambda leaf: jnp.copy(leaf).astype(model.param_dtype), params), optimizer)

    compiled = jax.jit(create_state, out_shardings=layout)

    def fresh(initial: Any, seed: int = 0) -> TrainState:
        del seed
        return compiled(initial)

    frozen = _frozen(learning, training, mesh, models, params)
    return Compiled(
        step=_step(model, learning, optimizer, training, mesh, layout, models, frozen),
        fresh=fresh,
        params=params,
        like=abstract_state(jax.eval_shape(create_state, shapes), layout),
        freeze=lambda initial: initial,
        whole=lambda trained, initial: trained,
        frozen=frozen,
    )


def _adapting(model: ModelConfig, learning: Learning, training: Training, mesh: Mesh, models: Configs) -> Compiled:
    optimizer, lora = make_optimizer(training, training.steps), training.lora
    base, trained = transformer.shapes(model), adapters.shapes(model, lora)
    params = parameter_shardings(model, mesh)
    layout = state_shardings(optimizer, trained, shardings(mesh, adapters.logical_axes(model, lora), trained), mesh)
    kept = jax.eval_shape(functools.partial(adapters.freeze, lora), base)
    own = params if lora.quantize == "none" else shardings(mesh, adapters.frozen_axes(model, lora), kept)
    frozen = {**_frozen(learning, training, mesh, models, own), INITIAL: own}

    def create_state(params: Any, key: Key[Array, ""]) -> TrainState:
        return create(adapters.init(model, lora, params, key), optimizer)

    compiled = jax.jit(create_state, out_shardings=layout)
    whole = jax.jit(lambda trained, initial: adapters.effective(model, lora, initial, trained), out_shardings=params)
    freeze = jax.jit(functools.partial(adapters.freeze, lora), out_shardings=own)
    return Compiled(
        step=_step(model, learning, optimizer, training, mesh, layout, models, frozen),
        fresh=lambda initial, seed=0: compiled(initial, keys.key(seed, "adapters")),
        params=params,
        like=abstract_state(jax.eval_shape(create_state, base, jax.random.key(0)), layout),
        freeze=(lambda initial: initial) if lora.quantize == "none" else freeze,
        whole=whole,
        frozen=frozen,
    )


def _frozen(learning: Learning, training: Training, mesh: Mesh, models: Configs, initial: Any) -> dict[str, Any]:
    """The shardings of the models that every step computes; none where their distributions are stored beforehand."""
    if training.reference_top:
        return {}
    own = {INITIAL: initial} if INITIAL in learning.models else {}
    return own | {name: parameter_shardings(config, mesh) for name, config in models}


def parameter_shardings(model: ModelConfig, mesh: Mesh) -> Any:
    """Where the parameters of a model lie on a mesh."""
    return shardings(mesh, transformer.logical_axes(model), transformer.shapes(model))


def _step(
    model: ModelConfig,
    learning: Learning,
    optimizer: Any,
    training: Training,
    mesh: Mesh,
    state: TrainState,
    models: Configs,
    frozen: Mapping[str, Any],
) -> Step:
    """`state` and `frozen` hold shardings."""
    schedule = learning_rate(training, training.steps)
    how = StepSettings(training.accumulation, mesh, training.lora, training.learning_rate, dict(models))
    return compile_step(learning.make_step(model, optimizer, schedule, training.steps, how), mesh, state, frozen)
