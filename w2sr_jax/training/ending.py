"""Whether a base knows how to end its turn. With adapters and a frozen embedding it hardly learns that: a token which was not
trained before looks like any other that was not."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from w2sr_jax.batches.batch import Batch
from w2sr_jax.losses.token import Tokens
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.text.spans import END
from w2sr_jax.training.likelihood import sums

KNOWN = 0.01
"""Mean probability below which an end of turn counts as not known."""


class Ending(NamedTuple):
    """The token that ends most turns of a batch, and the mean probability of those that end them."""

    token: int
    probability: float

    def words(self) -> str | None:
        """What is to be feared, and what helps; None where nothing is."""
        if self.probability >= KNOWN:
            return None
        return (
            f"the base gives the end-of-turn token {self.token} a mean probability of {self.probability:.2g} where turns end, "
            f"and with adapters and a frozen embedding the student may never learn to end; consider training.lora.embeddings True"
        )


def ending(config: ModelConfig, params: Any, batch: Batch, mesh: jax.sharding.Mesh, block: int = 1024) -> Ending | None:
    """At the supervised ends of the turns in a batch, for a base on the mesh, quantised or not; None where the batch has none."""
    at = (batch.span == END) & (batch.weight > 0)
    if not at.any():
        return None
    ends = np.bincount(batch.target[at])
    on_mesh = put((batch.tokens, batch.positions, batch.segments, batch.target, at.astype(np.float32)), batch_sharding(mesh))
    found = jax.jit(sums, static_argnums=(0, 1, 2, 3))(config, _target_probability, block, mesh, params, *on_mesh)
    return Ending(int(ends.argmax()), float(found.loss_sum / found.weight_sum))


def _target_probability(tokens: Tokens) -> Float[Array, " T"]:
    return jnp.take_along_axis(jax.nn.softmax(tokens.logits), tokens.target[:, None], axis=1)[:, 0]
