"""What is compiled for a training run, and where its arrays lie. Nothing is allocated or compiled until it is called."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from w2sr_jax.batches.settings import Batching
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import needs_reference
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import shardings
from w2sr_jax.training.optimizer import learning_rate, make_optimizer
from w2sr_jax.training.settings import Training, Watchdog
from w2sr_jax.training.state import TrainState, create, state_shardings
from w2sr_jax.training.step import Step, compile_step, make_step


class Program(NamedTuple):
    """`fresh` makes the state before the first step from parameters placed as `params` says (pytree of shardings), and leaves
    them untouched. `step` donates its state. `like` has the state's shapes, dtypes and shardings."""

    step: Step
    fresh: Callable[[Any], TrainState]
    params: Any
    like: TrainState


def make_program(model: ModelConfig, objective: Objective, training: Training, total_steps: int, mesh: Mesh) -> Program:
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
def _build(model: ModelConfig, objective: Objective, training: Training, mesh: Mesh) -> Program:
    optimizer = make_optimizer(training, training.steps)
    shapes = transformer.shapes(model)
    params = shardings(mesh, transformer.logical_axes(model), shapes)
    places = state_shardings(optimizer, shapes, params, mesh)

    def fresh(given: Any) -> TrainState:
        # Copied, since the step donates its state and the caller's arrays must survive that.
        return create(jax.tree.map(lambda leaf: jnp.copy(leaf).astype(model.param_dtype), given), optimizer)

    abstract = jax.eval_shape(fresh, shapes)
    like = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), abstract, places)
    reference = params if needs_reference(objective.loss) else None
    schedule = learning_rate(training, training.steps)
    step = make_step(model, objective, optimizer, schedule, training.steps, training.accumulation, mesh)
    return Program(compile_step(step, mesh, places, reference), jax.jit(fresh, out_shardings=places), params, like)
