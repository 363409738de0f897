"""Host-side randomness derived from (seed, purpose, ids). The device-side counterpart is `keys`."""

import hashlib

import numpy as np


def words(seed: int, purpose: str, *ids: str | int) -> tuple[int, int, int, int]:
    """Four 32-bit words that depend on every argument and on nothing else (no order of calls, no process)."""
    text = "\x1f".join([str(seed), purpose, *(f"{type(i).__name__}:{i}" for i in ids)])
    raw = hashlib.sha256(text.encode()).digest()
    a, b, c, d = (int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i in range(4))
    return a, b, c, d


def generator(seed: int, purpose: str, *ids: str | int) -> np.random.Generator:
    """A NumPy generator of its own for (seed, purpose, ids); Philox, so that the stream is the same on every platform."""
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(b"".join(w.to_bytes(4, "little") for w in words(seed, purpose, *ids)), "little"))
    )
