"""What is compiled for imitation, and where its arrays lie. Nothing is allocated or compiled until it is called."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Key

from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import keys
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models import lora as adapters
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import shardings
from w2sr_jax.training.optimizer import learning_rate, make_optimizer
from w2sr_jax.training.settings import Training, Watchdog
from w2sr_jax.training.state import TrainState, abstract_state, create, state_shardings
from w2sr_jax.training.step import Step, compile_step, make_step


class Compiled(NamedTuple):
    """`params` are the shardings of the initial parameters, all of them; those, placed so, are what `fresh` and `freeze` take.

    `fresh(initial, seed)` makes the state before the first step and leaves its argument untouched; the seed draws adapters.
    `freeze(initial)` is what stays frozen, the initial parameters themselves or quantised: the step's third argument, unless it
    takes None.
    `step` donates its state. `whole(state.params, frozen)` are the student's parameters; with adapters each call makes
    them anew. `like` has the state's shapes, dtypes and shardings.
    """

    step: Step
    fresh: Callable[..., TrainState]
    params: Any
    like: TrainState
    freeze: Callable[[Any], Any]
    whole: Callable[[Any, Any], Any]


def make_program(model: ModelConfig, objective: Objective, training: Training, total_steps: int, mesh: Mesh) -> Compiled:
    """The program of a run. The latest few are kept for runs that differ in data, seed, logging and saving alone: compiling takes
    longer than many a small training."""
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
        hash(objective)
    except TypeError:  # a loss of the user's own that is not hashable
        return _build.__wrapped__(model, objective, steering, mesh)
    return _build(model, objective, steering, mesh)


@functools.lru_cache(maxsize=4)
def _build(model: ModelConfig, objective: Objective, training: Training, mesh: Mesh) -> Compiled:
    return (_adapting if training.lora.rank else _full)(model, objective, training, mesh)


def _full(model: ModelConfig, objective: Objective, training: Training, mesh: Mesh) -> Compiled:
    optimizer = make_optimizer(training, training.steps)
    shapes = transformer.shapes(model)
    params = shardings(mesh, transformer.logical_axes(model), shapes)
    places = state_shardings(optimizer, shapes, params, mesh)

    def create_state(given: Any) -> TrainState:
        # Copied, since the step donates its state and the caller's arrays must survive that.
        return create(jax.tree.map(lambda leaf: jnp.copy(leaf).astype(model.param_dtype), given), optimizer)

    compiled = jax.jit(create_state, out_shardings=places)

    def fresh(initial: Any, seed: int = 0) -> TrainState:
        del seed
        return compiled(initial)

    referenced = needs_reference(objective.loss) and not training.reference_top
    return Compiled(
        step=_step(model, objective, optimizer, training, mesh, places, params if referenced else None),
        fresh=fresh,
        params=params,
        like=abstract_state(jax.eval_shape(create_state, shapes), places),
        freeze=lambda initial: initial,
        whole=lambda trained, frozen: trained,
    )


def _adapting(model: ModelConfig, objective: Objective, training: Training, mesh: Mesh) -> Compiled:
    optimizer, lora = make_optimizer(training, training.steps), training.lora
    base, trained = transformer.shapes(model), adapters.shapes(model, lora)
    params = shardings(mesh, transformer.logical_axes(model), base)
    places = state_shardings(optimizer, trained, shardings(mesh, adapters.logical_axes(model, lora), trained), mesh)
    kept = jax.eval_shape(functools.partial(adapters.freeze, lora), base)
    frozen = params if lora.quantize == "none" else shardings(mesh, adapters.frozen_axes(model, lora), kept)

    def create_state(given: Any, key: Key[Array, ""]) -> TrainState:
        return create(adapters.init(model, lora, given, key), optimizer)

    compiled = jax.jit(create_state, out_shardings=places)
    whole = jax.jit(lambda trained, frozen: adapters.effective(model, lora, frozen, trained), out_shardings=params)
    freeze = jax.jit(functools.partial(adapters.freeze, lora), out_shardings=frozen)
    return Compiled(
        step=_step(model, objective, optimizer, training, mesh, places, frozen),
        fresh=lambda initial, seed=0: compiled(initial, keys.key(seed, "adapters")),
        params=params,
        like=abstract_state(jax.eval_shape(create_state, base, jax.random.key(0)), places),
        freeze=(lambda initial: initial) if lora.quantize == "none" else freeze,
        whole=whole,
    )


def _step(
    model: ModelConfig, objective: Objective, optimizer: Any, training: Training, mesh: Mesh, places: TrainState, frozen: Any
) -> Step:
    schedule = learning_rate(training, training.steps)
    how = (training.accumulation, mesh, training.lora, training.learning_rate)
    step = make_step(model, objective, optimizer, schedule, training.steps, *how)
    return compile_step(step, mesh, places, frozen)
