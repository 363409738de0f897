"""key(seed, purpose, *ids): the only place a JAX PRNG key is derived. Keys are never split along a loop."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from w2sr_jax.core import seeds


def key(seed: int, purpose: str, *ids: str | int) -> Key[Array, ""]:
    """A typed threefry key that depends on all arguments and on nothing else."""
    return keys(seed, purpose, [ids])[0]


def keys(seed: int, purpose: str, ids: Sequence[Sequence[str | int]]) -> Key[Array, " N"]:
    """One key per row of `ids`: `keys(s, p, [a, b])[i] == key(s, p, *[a, b][i])`, whatever the batch it is made in."""
    data = np.array([seeds.words(seed, purpose, *row)[:2] for row in ids], dtype=np.uint32).reshape(len(ids), 2)
    return jax.random.wrap_key_data(jnp.asarray(data), impl="threefry2x32")
