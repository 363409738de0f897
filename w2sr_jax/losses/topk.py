"""A distribution's most probable tokens and the mass of the others: made from logits, and spread over the vocabulary again."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from w2sr_jax.core.topk import TopK


def of_logits(logits: Float[Array, "T V"], count: int) -> TopK:
    """The `count` most probable tokens of each row of float32 logits; with count = V nothing is lost."""
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    best, ids = jax.lax.top_k(logprobs, count)
    rows = jnp.arange(logits.shape[0])[:, None]
    rest = jax.nn.logsumexp(logprobs.at[rows, ids].set(-jnp.inf), axis=-1)
    return TopK(ids, best, rest)


def logprobs(top: TopK, vocabulary: int) -> Float[Array, "T V"]:
    """Log-probabilities over the vocabulary: those that are listed, and the rest's mass evenly over all other tokens. 0 at
    positions where the distribution is not available.

    Of all distributions that agree with what is listed it has the largest entropy; its total variation to the true one is at most
    the rest's mass.
    """
    if top.available is not None:
        return jnp.where(top.available[:, None], _of_some(top, vocabulary), 0.0)
    others = max(vocabulary - top.ids.shape[-1], 1)
    floor = jnp.broadcast_to((top.rest - jnp.log(others))[:, None], (*top.rest.shape, vocabulary))
    return floor.at[jnp.arange(len(top.rest))[:, None], top.ids].set(top.logprobs)


def _of_some(top: TopK, vocabulary: int) -> Float[Array, "T V"]:
    """As `logprobs`, where positions may list fewer than K tokens."""
    listed = top.ids >= 0
    others = jnp.maximum(vocabulary - jnp.sum(listed, axis=-1), 1)
    floor = jnp.broadcast_to((top.rest - jnp.log(others))[:, None], (*top.rest.shape, vocabulary))
    ids = jnp.where(listed, top.ids, vocabulary)  # past the end, so that it is written nowhere
    return floor.at[jnp.arange(len(top.rest))[:, None], ids].set(top.logprobs, mode="drop")
