"""What a step carries to the next one, and where its arrays lie."""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Int

from w2sr_jax.training.optimizer import apply

Metrics: TypeAlias = dict[str, Array]


class TrainState(NamedTuple):
    """`step` counts finished steps. `sound` turns False at the first non-finite loss or gradient and stays so; from then on
    `params`, `opt_state` and `step` stay as they were before that step."""

    params: Any
    opt_state: Any
    step: Int[Array, ""]
    sound: Bool[Array, ""]


def create(params: Any, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first step."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32), jnp.ones((), bool))


def advance(
    state: TrainState, gradient: Any, optimizer: optax.GradientTransformation, sound: Bool[Array, ""]
) -> tuple[TrainState, Any]:
    """The state after an optimizer step, and the updates that were added to the parameters. `gradient` is float32, a pytree like
    the parameters. Where `sound` is False, nothing but `sound` changes."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    new = TrainState(apply(state.params, updates), opt_state, state.step + 1, sound)
    kept = jax.tree.map(lambda after, before: jnp.where(sound, after, before), new, state)
    return kept._replace(sound=sound), updates


def state_shardings(optimizer: optax.GradientTransformation, params: Any, shardings: Any, mesh: Mesh) -> TrainState:
    """Shardings of a `TrainState`: the optimizer's moments lie where their parameters lie, all else on every device.

    `params` may be abstract (anything with shape and dtype); `shardings` is a pytree of the same structure.
    """
    everywhere = NamedSharding(mesh, PartitionSpec())
    abstract = jax.eval_shape(optimizer.init, params)
    moments = optax.tree_utils.tree_map_params(
        optimizer, lambda _, sharding: sharding, abstract, shardings, transform_non_params=lambda _: everywhere
    )
    return TrainState(shardings, moments, everywhere, everywhere)  # type: ignore[arg-type]


def abstract_state(state: TrainState, shardings: TrainState) -> TrainState:
    """A state's shapes and dtypes (of arrays or of what `jax.eval_shape` gives) with shardings, as `jax.ShapeDtypeStruct`s."""
    return jax.tree.map(lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), state, shardings)
