"""Products with the decoder's matrices: as they are or quantised, with low-rank adapters beside them or without."""

from collections.abc import Callable
from math import prod
from typing import Any, TypeAlias

import flax.linen as nn
import jax
from jaxtyping import Array, Float

Initializer: TypeAlias = Callable[..., Array]
A, B = "_lora_a", "_lora_b"
"""What follows a matrix's name in those of its adapters."""

_DIMENSIONS = (((1,), (0,)), ((), ()))


def product(
    module: nn.Module,
    name: str,
    x: Float[Array, "T I"],
    start: Initializer,
    shape: tuple[int, ...],
    dtype: Any,
    inputs: int = 1,
    low: Float[Array, "T I"] | None = None,
) -> Float[Array, "T O"]:
    """x · the parameter `name` of a module (`start`, `shape` and `dtype` as for `nn.Module.param`), whose first `inputs` axes are
    inputs. Where the parameters have adapters of it (`lora.py`), x · A · B is added; a `qwix.QArray` is dequantised. `low` is x
    for the adapters, where several products share it (`apart`)."""
    stored: Any = module.get_variable("params", name)
    if hasattr(stored, "qvalue"):
        out = _quantized(x, stored)
    else:
        kernel = module.param(name, start, shape, dtype).astype(x.dtype)
        out = jax.lax.dot_general(x, kernel.reshape(prod(shape[:inputs]), prod(shape[inputs:])), _DIMENSIONS)
    a: Any = module.get_variable("params", name + A)
    b: Any = module.get_variable("params", name + B)
    if a is None or b is None:
        return out
    low = x if low is None else low
    return out + jax.lax.dot_general(jax.lax.dot_general(low, a.astype(x.dtype), _DIMENSIONS), b.astype(x.dtype), _DIMENSIONS)


@jax.custom_vjp
def apart(x: Float[Array, "T I"]) -> Float[Array, "T I"]:
    """x, as several products' adapters take it while the products take x itself. What flows back by way of each is added up on
    its own then: over a mesh the products' share, which is spread over devices, is added up over these once for all of them."""
    return x


apart.defvjp(lambda x: (x, None), lambda _, slope: (slope,))


def _quantized(x: Float[Array, "T I"], kernel: Any) -> Float[Array, "T O"]:
    """The backward pass dequantises again, so that the float kernels of all layers are never in memory together."""
    import qwix

    @jax.checkpoint
    def times(x: Float[Array, "T I"], kernel: Any) -> Float[Array, "T O"]:
        return qwix.dot_general(x, kernel.astype(x.dtype), _DIMENSIONS)

    return times(x, kernel)
