"""Randomness derived from (seed, purpose, ids), on the host and on devices. Nothing is split along a loop: what is drawn does not
depend on the order of calls, the batch or the number of processes.

jax is imported where a key is made, so that who needs words or a generator alone starts without it.
"""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Array, Key


def words(seed: int, purpose: str, *ids: str | int) -> tuple[int, int, int, int]:
    """Four 32-bit words that depend on all arguments, the ids' types included, and on nothing else."""
    text = "\x1f".join([str(seed), purpose, *(f"{type(i).__name__}:{i}" for i in ids)])
    raw = hashlib.sha256(text.encode()).digest()
    a, b, c, d = (int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i in range(4))
    return a, b, c, d


def generator(seed: int, purpose: str, *ids: str | int) -> np.random.Generator:
    """A NumPy generator of its own for (seed, purpose, ids); Philox, so that the stream is the same on every platform."""
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(b"".join(w.to_bytes(4, "little") for w in words(seed, purpose, *ids)), "little"))
    )


def key(seed: int, purpose: str, *ids: str | int) -> "Key[Array, '']":
    """A typed threefry key for JAX."""
    return keys(seed, purpose, [ids])[0]


def keys(seed: int, purpose: str, ids: Sequence[Sequence[str | int]]) -> "Key[Array, ' N']":
    """One key per row of `ids`: `keys(s, p, [a, b])[i] == key(s, p, *[a, b][i])`, whatever the batch it is made in."""
    import jax
    import jax.numpy as jnp

    data = np.array([words(seed, purpose, *row)[:2] for row in ids], dtype=np.uint32).reshape(len(ids), 2)
    every: Array = jax.random.wrap_key_data(jnp.asarray(data), impl="threefry2x32")
    return every
