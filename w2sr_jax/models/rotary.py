"""Rotary positions (Su et al. 2021, arXiv:2104.09864), and how their frequencies are stretched to longer contexts."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from w2sr_jax.models.config import RopeScaling

PLAIN = RopeScaling()


def angles(
    positions: Int[Array, "B L"], size: int, theta: float, scaling: RopeScaling = PLAIN
) -> tuple[Float[Array, "B L C/2"], Float[Array, "B L C/2"]]:
    """Cosines and sines of the angles of a head of `size`, float32."""
    turned = positions[..., None].astype(jnp.float32) * frequencies(size, theta, scaling)[None, None]
    return jnp.cos(turned), jnp.sin(turned)


def frequencies(size: int, theta: float, scaling: RopeScaling = PLAIN) -> Float[Array, " C/2"]:
    """Radians per position of each pair, float32.

    `llama3` (Llama 3.1's reference code): with w = 2π / frequency, pairs with w above original / low turn `factor` times slower,
    those with w below original / high as ever, and between the two the inverse is interpolated linearly in original / w.
    """
    plain = theta ** (-jnp.arange(0, size, 2, dtype=jnp.float32) / size)
    if scaling.kind == "linear":
        return plain / scaling.factor
    if scaling.kind == "llama3":
        turns = scaling.original * plain / (2 * math.pi)
        share = jnp.clip((turns - scaling.low) / (scaling.high - scaling.low), 0.0, 1.0)
        return (1 - share) * plain / scaling.factor + share * plain
    return plain


def rotate(x: Float[Array, "B L H C"], cos: Float[Array, "B L 1 C/2"], sin: Float[Array, "B L 1 C/2"]) -> Float[Array, "B L H C"]:
    """Turns the pairs (i, i + C/2) of each head, as the Llama family does; computed in float32."""
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1).astype(x.dtype)
