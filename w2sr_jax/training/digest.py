"""A digest of parameters: what "the same model, bit for bit" means here."""

import hashlib
from typing import Any

import jax
import numpy as np

from w2sr_jax.parallel.processes import gather


def params_digest(tree: Any) -> str:
    """sha256 over every leaf's path, dtype, shape and little-endian bytes, in the order of the paths.

    It does not depend on the mesh the arrays lie on. With several processes all must call it, and all get the same digest.
    """
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    total = hashlib.sha256()
    for path, leaf in sorted(((jax.tree_util.keystr(path), leaf) for path, leaf in leaves), key=lambda item: item[0]):
        array = gather(leaf)
        total.update(f"{path}\n{array.dtype.name}\n{array.shape}\n".encode())
        total.update(np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False)).tobytes())
    return total.hexdigest()
