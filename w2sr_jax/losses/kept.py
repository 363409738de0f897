"""What is kept of a frozen reference, per token: its most probable tokens, and how much mass all others have together."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Kept(NamedTuple):
    """Of N tokens: the ids of the K most probable next ones, their log-probabilities, and the logarithm of the rest's mass."""

    ids: Int[Array, "N K"]
    logprobs: Float[Array, "N K"]
    rest: Float[Array, " N"]


def keep(logits: Float[Array, "T V"], count: int) -> Kept:
    """The `count` most probable tokens of each row of float32 logits; with count = V nothing is lost."""
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    best, ids = jax.lax.top_k(logprobs, count)
    rows = jnp.arange(logits.shape[0])[:, None]
    rest = jax.nn.logsumexp(logprobs.at[rows, ids].set(-jnp.inf), axis=-1)
    return Kept(ids, best, rest)


def spread(kept: Kept, vocabulary: int) -> Float[Array, "T V"]:
    """Log-probabilities over the vocabulary: those that were kept, and the rest's mass evenly over all other tokens.

    Of all distributions that agree with what was kept it has the largest entropy; its total variation to the true one is at most
    the rest's mass.
    """
    others = max(vocabulary - kept.ids.shape[-1], 1)
    floor = jnp.broadcast_to((kept.rest - jnp.log(others))[:, None], (*kept.rest.shape, vocabulary))
    return floor.at[jnp.arange(len(kept.rest))[:, None], kept.ids].set(kept.logprobs)
