"""What a loss, schedule or weighting of the user's own returned, and what would be right instead."""

from types import CoroutineType

import jax.numpy as jnp
import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.losses.contract_trace import Returned, Sizes

REAL = (jnp.float32, jnp.bfloat16, jnp.float16)
_LOSS = "a loss maps the block's T tokens to T floating-point losses, shape [T]"


def loss_fault(returned: Returned, sizes: Sizes) -> str | None:
    """What is wrong with a loss's result, to be said behind its name; None where nothing is."""
    if returned.shape is None:
        return f"{no_array(returned)}; {_LOSS}"
    if returned.shape != (sizes.tokens,):
        shape = f"returns shape {list(returned.shape)} for {sizes.tokens} tokens"
        return f"{shape}{_advice(returned.shape, sizes)}; {_LOSS}"
    return dtype_fault(returned)


def no_array(returned: Returned) -> str:
    """In words, a result that is no JAX array."""
    kind = returned.type
    if issubclass(kind, CoroutineType):
        return "is an async function, which nobody awaits"
    if kind is type(None):
        return "returns nothing (None)"
    if issubclass(kind, np.ndarray | np.generic):
        return "returns a NumPy array, which is the same whatever it is called with"
    if returned.value is not None:
        return f"returns the number {sentences.value(returned.value, 30)} whatever it is called with"
    article = "an" if kind.__name__[:1].lower() in "aeiou" else "a"
    parts = "" if returned.parts is None else f" of {returned.parts}"
    return f"returns {article} {sentences.shown(kind.__name__, 40)}{parts}"


def dtype_fault(returned: Returned) -> str | None:
    """What is wrong with the dtype of an array that was returned; None where it is real and floating."""
    if returned.dtype in REAL:
        return None
    kind = "booleans" if returned.dtype == bool else str(returned.dtype)
    if returned.dtype == jnp.float64:
        return "returns float64, since JAX_ENABLE_X64 is set; training is in float32: end it with .astype(jnp.float32)"
    if jnp.issubdtype(returned.dtype, jnp.complexfloating):
        return f"returns {kind}, which cannot be minimised; take the real part or the absolute value"
    if jnp.issubdtype(returned.dtype, jnp.floating):
        return f"returns {kind}, which is too coarse; end it with .astype(jnp.float32)"
    return f"returns {kind}, which has no gradient; it must return floating-point numbers (float32)"


def _advice(shape: tuple[int, ...], sizes: Sizes) -> str:
    count, vocabulary = sizes.tokens, sizes.vocabulary
    if shape == ():
        return ", one number for the whole block; leave out its mean or sum, the framework weighs and averages"
    if shape == (count, 1):
        return ", an axis too many; take [:, 0]"
    if shape == (1, count):
        return ", an axis too many; take [0]"
    if shape == (count, vocabulary):
        return f", one for each of the {vocabulary} entries of the vocabulary; pick the target's, or sum over axis=-1"
    if shape == (vocabulary,):
        return ", one for each entry of the vocabulary; reduce over axis=-1, not over the tokens"
    if shape == (count, count):
        return ", each token with each; a column [T, 1] met a row [T]"
    if len(shape) == 1 and shape[0] in (count - 1, count + 1):
        return "; do not shift anything, tokens.target holds the next tokens already"
    return ""
