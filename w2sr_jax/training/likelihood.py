"""A token loss of a whole model over rows of tokens, without gradients: what looks at a model share."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from w2sr_jax.losses.blocks import LossSum, TokenData, blocked
from w2sr_jax.losses.token import TokenLoss
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding


def sums(
    config: ModelConfig,
    loss: TokenLoss,
    block: int,
    mesh: jax.sharding.Mesh,
    params: Any,
    tokens: Int[Array, "R L"],
    positions: Int[Array, "R L"],
    segments: Int[Array, "R L"],
    target: Int[Array, "R L"],
    weight: Float[Array, "R L"],
) -> LossSum:
    """The sums of `blocked`, for a loss that looks at logits and targets alone."""
    hidden = transformer.forward(config, params, tokens, positions, segments, sharding=batch_sharding(mesh))
    flat = target.reshape(-1)
    nothing = jnp.zeros_like(flat)
    data = TokenData(flat, nothing, nothing, jnp.zeros(flat.shape), weight.reshape(-1))
    matrix = transformer.output_matrix(config, params).astype(hidden.dtype)
    hidden = hidden.reshape(-1, hidden.shape[-1])
    return blocked(loss, hidden, matrix, data, 0.0, block=block, mesh=mesh, softcap=config.logit_softcap)
