"""What is checked before a training begins: its batch against the mesh, its initial parameters, how its base ends turns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from w2sr_jax.batches.batch import Batch, Batches
from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.token import Tokens
from w2sr_jax.models import finite, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor, batch_sharding
from w2sr_jax.parallel.processes import put
from w2sr_jax.text.spans import END
from w2sr_jax.training.likelihood import sums

LEAST_ENDING = 0.01
"""Mean probability of the end of turn below which a base counts as one that does not know how to end."""


def check_rows(rows: int, accumulation: int, mesh: Mesh) -> None:
    """`UserError` where the rows of a step do not divide over micro-batches and devices."""
    devices = batch_divisor(mesh)
    if rows % (accumulation * devices):
        raise UserError(
            f"training.batching.rows is {rows}; it must be a multiple of training.accumulation × mesh.data × mesh.fsdp = "
            f"{accumulation} × {mesh.shape['data']} × {mesh.shape['fsdp']} = {accumulation * devices}"
        )


def check_fit(model: ModelConfig, params: Any, subject: str = "the initial parameters") -> None:
    """`UserError` where parameters are not the model's, or not all of them are finite numbers; `subject` is what the sentence
    calls them. With several processes all must call it."""
    wanted, actual = _shapes(transformer.shapes(model)), _shapes(params)
    for name in sorted(wanted.keys() | actual.keys()):
        if wanted.get(name) != actual.get(name):
            raise UserError(
                f"{subject} do not fit the model: {name} is {actual.get(name, 'absent')}, "
                f"and the model's settings make it {wanted.get(name, 'absent')}"
            )
    broken = finite.not_finite(params)
    if broken:
        raise UserError(f"{subject} cannot be used: {finite.words(broken)}; take another checkpoint")


def check_ending(
    model: ModelConfig, base: Any, batches: Batches, accumulation: int, mesh: Mesh, warn: Callable[[str], None]
) -> None:
    """Warns where a frozen base does not know how turns end: with adapters and a frozen embedding a student hardly learns that,
    since a token that was not trained before looks like any other that was not. Reads as many rows as a step has in memory at a
    time."""
    rows = batches.settings.rows // accumulation
    end = ending(model, base, jax.tree.map(lambda leaf: leaf[:rows], batches.batch_at(0)), mesh)
    if end is not None and end.probability < LEAST_ENDING:
        warn(
            f"the base gives the end-of-turn token {end.token} a mean probability of {end.probability:.2g} where turns end, "
            f"and with adapters and a frozen embedding the student may never learn to end; consider training.lora.embeddings True"
        )


class Ending(NamedTuple):
    """The token that ends most turns of a batch, and the mean probability of those that end them."""

    token: int
    probability: float


def ending(config: ModelConfig, params: Any, batch: Batch, mesh: Mesh, block: int = 1024) -> Ending | None:
    """At the supervised ends of the turns in a batch, for a base on the mesh, quantised or not; None where the batch has none."""
    at = (batch.span == END) & (batch.weight > 0)
    if not at.any():
        return None
    ends = np.bincount(batch.target[at])
    on_mesh = put((batch.tokens, batch.positions, batch.segments, batch.target, at.astype(np.float32)), batch_sharding(mesh))
    total = jax.jit(sums, static_argnums=(0, 1, 2, 3))(config, _target_probability, block, mesh, params, *on_mesh)
    return Ending(int(ends.argmax()), float(total.loss_sum / total.weight_sum))


def _target_probability(tokens: Tokens) -> Float[Array, " T"]:
    return jnp.take_along_axis(jax.nn.softmax(tokens.logits), tokens.target[:, None], axis=1)[:, 0]


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
