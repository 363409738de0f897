"""A model's last hidden state at the tokens of a batch: what every loss begins with."""

from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float

from w2sr_jax.models import embedding, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding, here


def last_hidden(
    mesh: Mesh | None, config: ModelConfig, params: Any, part: Any, trained: bool = False
) -> tuple[Float[Array, "N D"], Float[Array, "*S D V"]]:
    """Final hidden states of the rows of `part` (a `batches.batch.Batch`), flat, and the output matrix; of an embedding that is
    `trained` as both, its copies."""
    rows = None if mesh is None else batch_sharding(here(mesh))
    table = params["embedding"]
    if trained and config.tied_embeddings:
        table = embedding.copies(table, rows)
    hidden = transformer.forward(config, params, part.tokens, part.positions, part.segments, rows, table)
    flat = hidden.reshape(-1, hidden.shape[-1])
    return flat, transformer.output_matrix(config, {**params, "embedding": table}).astype(hidden.dtype)


def ratio(part: Array, whole: Float[Array, ""]) -> Array:
    """part / whole, 0 where there is nothing to average over (a step without supervised tokens has gradient 0)."""
    return jnp.where(whole > 0.0, part / jnp.where(whole > 0.0, whole, 1.0), 0.0)
