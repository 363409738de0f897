"""A digest of parameters: what "the same model, bit for bit" means here."""

import hashlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from w2sr_jax.parallel.processes import gather

LARGE = 1 << 26
"""Bytes of an array that is brought to the host whole."""


def params_digest(tree: Any) -> str:
    """sha256 over every leaf's path, dtype, shape and little-endian bytes, in the order of the paths.

    It does not depend on the mesh the arrays lie on. With several processes all must call it, and all get the same digest.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    total = hashlib.sha256()
    for path, leaf in sorted(((jax.tree_util.keystr(path), leaf) for path, leaf in leaves), key=lambda item: item[0]):
        total.update(f"{path}\n{np.dtype(leaf.dtype).name}\n{tuple(leaf.shape)}\n".encode())
        for part in _parts(leaf):
            array = gather(part)
            total.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes())
    return total.hexdigest()


def _parts(leaf: Any) -> Iterator[Any]:
    """A leaf in parts whose bytes follow each other: a large one along its first axis, so that the host never holds all of it."""
    size = leaf.size * np.dtype(leaf.dtype).itemsize
    if not leaf.ndim or size <= LARGE:
        yield leaf
        return
    step = max(1, LARGE * leaf.shape[0] // size)
    yield from (leaf[start : start + step] for start in range(0, leaf.shape[0], step))
