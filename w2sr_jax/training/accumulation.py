"""Micro-batches: the rows of a step part by part, and the sums over them."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool

from w2sr_jax.losses.sums import merge, over_axes
from w2sr_jax.parallel.mesh import RULES

One: TypeAlias = Callable[[Any, Any, Any, Any], Any]
"""`(params, frozen, part, progress)` → sums over the rows of `part`, float32: a pytree that `losses.sums.merge` joins."""

Sums: TypeAlias = Callable[[Any, Any, Any, Any], tuple[Any, Any]]
"""The same arguments → the sum over the rows of `part` that is differentiated, a float32 scalar, and sums beside it."""

COPY_AXIS = "data"
"""Mesh axis whose parts hold all parameters each."""


def micro_batches(batch: Any, count: int, mesh: Mesh | None) -> Any:
    """[R, L] → [A, R/A, L]. Micro-batch a takes the rows a, a + A, …, so that no row changes its device."""

    def one(leaf: Array) -> Array:
        parts = leaf.reshape(leaf.shape[0] // count, count, *leaf.shape[1:]).swapaxes(0, 1)
        if mesh is None:
            return parts
        return jax.lax.with_sharding_constraint(parts, NamedSharding(mesh, PartitionSpec(None, RULES["batch"])))

    return jax.tree.map(one, batch)


def accumulated(
    one: One, zero: Callable[[Any], Any], params: Any, frozen: Any, parts: Any, progress: Any, mesh: Mesh | None
) -> Any:
    """The sum of `one` over several micro-batches, as `micro_batches` makes them; `zero(params)` is that over none.

    Each part of the mesh's `COPY_AXIS` adds up its own rows, and what they have is added up over that axis once, in float32:
    left to itself, the partitioner does so for every micro-batch. Over the other axes `one` adds up; it is traced inside a
    `jax.shard_map`, whose mesh is `parallel.mesh.here`.
    """

    def every(params: Any, frozen: Any, parts: Any, progress: Any) -> Any:
        def add(total: Any, part: Any) -> tuple[Any, None]:
            return merge(total, one(params, frozen, part, progress)), None

        return jax.lax.scan(add, zero(params), parts)[0]

    if mesh is None or mesh.shape[COPY_AXIS] == 1:
        return every(params, frozen, parts, progress)

    def own(*arguments: Any) -> Any:
        return over_axes(every(*arguments), (COPY_AXIS,))

    whole = PartitionSpec()
    specs = (whole, whole, PartitionSpec(None, COPY_AXIS), whole)
    spread = jax.shard_map(own, mesh=mesh, in_specs=specs, out_specs=whole, axis_names={COPY_AXIS}, check_vma=False)
    return spread(params, frozen, parts, progress)


def gradient(
    sums: Sums,
    nothing: Callable[[], Any],
    params: Any,
    frozen: Any,
    parts: Any,
    progress: Any,
    count: int,
    mesh: Mesh | None,
    used: Callable[[Any], Bool[Array, ""]] | None = None,
) -> tuple[Any, Any]:
    """The gradient in `params` of the sum over all `count` micro-batches, float32, and what `sums` gives beside it, joined;
    `nothing` gives that of no rows. `used` says of a micro-batch whether it adds anything: others are passed over."""

    def one(params: Any, frozen: Any, part: Any, progress: Any) -> tuple[Any, Any]:
        slope, total = jax.grad(sums, has_aux=True)(params, frozen, part, progress)
        return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), slope), total

    def zero(params: Any) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params), nothing()

    def one_if_used(params: Any, frozen: Any, part: Any, progress: Any) -> tuple[Any, Any]:
        if used is None:
            return one(params, frozen, part, progress)
        both: tuple[Any, Any] = jax.lax.cond(used(part), one, lambda params, *_: zero(params), params, frozen, part, progress)
        return both

    if count == 1:
        return one(params, frozen, jax.tree.map(lambda leaf: leaf[0], parts), progress)
    total: tuple[Any, Any] = accumulated(one_if_used, zero, params, frozen, parts, progress, mesh)
    return total
