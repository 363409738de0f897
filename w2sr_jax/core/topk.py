"""The most probable next tokens at each position of a text, with the mass of all others: how a distribution over a vocabulary is
recorded, stored and read. No jax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int


class TopK(NamedTuple):
    """At each of some positions (any leading axes, written N here) the K most probable next tokens, arrays of NumPy or JAX.

    The mass of all tokens that are not listed is taken to be spread evenly over them.
    """

    ids: Int[Array | Any, "N K"]
    """Token ids, int32, the most probable first; -1 where a position lists fewer than K tokens."""
    logprobs: Float[Array | Any, "N K"]
    """Their log-probabilities, float32, natural logarithm."""
    rest: Float[Array | Any, " N"]
    """Logarithm of the mass of all tokens that are not listed, float32; -inf where all are."""
    available: Bool[Array | Any, " N"] | None = None
    """Where the distribution is known; None: everywhere. Elsewhere nothing of the other arrays counts."""
