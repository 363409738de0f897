"""AdamW with linear warm-up, cosine decay and global-norm clipping (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from w2sr_jax.training.settings import Training

# Parts of parameter names that are never decayed: gains of norms and biases have no scale that decay should shrink.
UNDECAYED = ("norm", "bias", "scale")


def learning_rate(training: Training, total_steps: int) -> optax.Schedule:
    """step (0 … total_steps − 1) → learning rate: peak·(step+1)/w for the first w = round(warmup·total) steps, then a cosine
    from the peak towards `final_fraction` of it."""
    peak, last = training.learning_rate, training.learning_rate * training.final_fraction
    rising = round(training.warmup * total_steps)

    def schedule(step: Int[Array, ""] | int) -> Float[Array, ""]:
        count = jnp.asarray(step, jnp.float32)
        done = jnp.clip((count - rising) / max(total_steps - rising, 1), 0.0, 1.0)
        cosine = last + (peak - last) * 0.5 * (1.0 + jnp.cos(math.pi * done))
        return jnp.where(count < rising, peak * (count + 1.0) / max(rising, 1), cosine)

    return schedule


def decayed(params: Any) -> Any:
    """A pytree of bools: True where weight decay applies, i.e. everywhere but norms and biases."""

    def matrix(path: tuple[Any, ...], leaf: Any) -> bool:
        del leaf
        return not any(word in str(getattr(part, "key", part)).lower() for part in path for word in UNDECAYED)

    return jax.tree_util.tree_map_with_path(matrix, params)


def make_optimizer(training: Training, total_steps: int) -> optax.GradientTransformation:
    """Clip by global norm, then AdamW; moments are kept as `training.moments` says."""
    adamw = optax.adamw(
        learning_rate(training, total_steps),
        b1=training.b1,
        b2=training.b2,
        eps=training.epsilon,
        weight_decay=training.weight_decay,
        mask=decayed,
    )
    whole = optax.chain(optax.clip_by_global_norm(training.clip), adamw) if training.clip else adamw
    return _kept_in(training.moments, whole)


@contextlib.contextmanager
def as_usual() -> Iterator[None]:
    """optax promotes ranks and types, which JAX's strict settings refuse; who sets them looks for faults of their own."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


def apply(params: Any, updates: Any) -> Any:
    """The parameters after an update, in their own types."""
    with as_usual():
        return optax.apply_updates(params, updates)


def _kept_in(dtype: str, inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """`inner` in float32, with the floating-point part of its state in `dtype` between steps."""

    def cast(state: Any, dtype: str) -> Any:
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, state)

    def update(slope: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        with as_usual():
            updates, state = inner.update(slope, cast(state, "float32"), params)
        return updates, cast(state, dtype)

    return optax.GradientTransformation(lambda params: cast(inner.init(params), dtype), update)


def changed(params: Any, updates: Any, scale: Float[Array, ""]) -> Float[Array, ""]:
    """The share of all parameters that `scale` times the updates changes, in the types that they are kept in."""
    after = apply(params, jax.tree.map(lambda leaf: leaf.astype(jnp.float32) * scale, updates))
    counts = jax.tree.map(lambda new, old: jnp.mean(new != old, dtype=jnp.float32) * float(old.size), after, params)
    return jnp.sum(jnp.stack(jax.tree.leaves(counts))) / float(sum(leaf.size for leaf in jax.tree.leaves(params)))
