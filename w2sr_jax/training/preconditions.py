"""What is looked at before a training begins: its batch against the mesh, its initial parameters, how its base ends turns."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from w2sr_jax.batches.batch import Batches
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import finite, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor
from w2sr_jax.training.ending import ending


def check_ending(
    model: ModelConfig, frozen: Any, batches: Batches, accumulation: int, mesh: Mesh, warn: Callable[[str], None]
) -> None:
    """Warns where a frozen base does not know how turns end; looks at as many rows as a step has in memory at a time."""
    rows = batches.settings.rows // accumulation
    found = ending(model, frozen, jax.tree.map(lambda leaf: leaf[:rows], batches.batch_at(0)), mesh)
    words = None if found is None else found.words()
    if words is not None:
        warn(words)


def check_rows(rows: int, accumulation: int, mesh: Mesh) -> None:
    """`UserError` where the rows of a step do not divide over micro-batches and devices."""
    devices = batch_divisor(mesh)
    if rows % (accumulation * devices):
        raise UserError(
            f"training.batching.rows is {rows}; it must be a multiple of training.accumulation × mesh.data × mesh.fsdp = "
            f"{accumulation} × {mesh.shape['data']} × {mesh.shape['fsdp']} = {accumulation * devices}"
        )


def check_fit(model: ModelConfig, params: Any) -> None:
    """`UserError` where parameters are not the model's, or not all of them are finite numbers. With several processes all must
    call it."""
    wanted = {
        jax.tree_util.keystr(path): leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(transformer.shapes(model))
    }
    given = {jax.tree_util.keystr(path): tuple(leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    for name in sorted(wanted.keys() | given.keys()):
        if wanted.get(name) != given.get(name):
            raise UserError(
                f"the initial parameters do not fit the model: {name} is {given.get(name, 'absent')}, "
                f"and the model's settings make it {wanted.get(name, 'absent')}"
            )
    found = finite.not_finite(params)
    if found:
        raise UserError(f"the initial parameters cannot be trained: {finite.words(found)}; begin with another checkpoint")
