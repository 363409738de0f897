"""Whether all parameters of a model are finite numbers. A single nan would make everything that is computed with it nan."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def not_finite(params: Any) -> dict[str, int]:
    """The arrays that hold nan or an infinity: how many such values each, by name. Arrays may be on the host or on devices, where
    the values are counted. Arrays of whole numbers (quantised matrices) count as finite. With several processes all must call
    it."""
    named = {
        jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    real = {name: leaf for name, leaf in named.items() if jnp.issubdtype(leaf.dtype, jnp.floating)}
    here = {name: leaf for name, leaf in real.items() if isinstance(leaf, jax.Array)}
    counted = {name: int(count) for name, count in _counts(here).items()}
    counted |= {name: _on_host(leaf) for name, leaf in real.items() if name not in here}
    return {name: counted[name] for name in real if counted[name]}


def words(counts: Mapping[str, int]) -> str:
    """The result of `not_finite`, which must not be empty, in words."""
    first, count = next(iter(counts.items()))
    more = f", and {sum(counts.values()) - count:,} in {len(counts) - 1} other arrays" if len(counts) > 1 else ""
    return f"{first} holds {count:,} values that are not finite numbers (nan or infinite){more}"


@jax.jit
def _counts(arrays: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: jnp.sum(~jnp.isfinite(array), dtype=jnp.int32) for name, array in arrays.items()}


def _on_host(array: Any) -> int:
    """Counted part by part, so that no second array of its size is allocated."""
    flat = np.asarray(array).reshape(-1)
    return sum(int(np.count_nonzero(~np.isfinite(flat[start : start + (1 << 24)]))) for start in range(0, flat.size, 1 << 24))
