"""Attention among the tokens of packed rows.

Index names: B rows, L tokens, H query heads, K key/value heads, G = H / K, C head size.
"""

from functools import partial
from math import prod
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.core.axes import free_axes
from w2sr_jax.core.errors import UserError
from w2sr_jax.models.attention_blocks import blocked_attention
from w2sr_jax.models.attention_kernels import LANES, pallas_attention, splash_attention
from w2sr_jax.models.config import AttentionKind, ModelConfig

SAVED = "attention"
"""The checkpoint name of attention's outputs, and of what its own backward pass needs of them."""

LONG = 256
"""Tokens of a row from which on `auto` computes attention in blocks or by a kernel; below, one dense product is faster."""

HEAD_AXIS = "tensor"
"""Mesh axis that heads are split over."""


class Seen(NamedTuple):
    """Which tokens a token sees: itself and the earlier tokens of its row with its segment id; with a `reach`, only those of them
    whose position is less than `reach` before its own."""

    segments: Int[Array, "B L"]
    positions: Int[Array, "B L"]
    reach: Int[Array, ""] | None


def packed(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B L K C"],
    value: Float[Array, "B L K C"],
    seen: Seen,
    scale: float,
    cap: float | None = None,
    how: AttentionKind = "auto",
    window: int | None = None,
    sharding: NamedSharding | None = None,
) -> Float[Array, "B L H C"]:
    """Softmax attention with float32 scores; query heads i·G … i·G + G − 1 share key head i.

    `window` is the `reach` of layers that have one, for kernels that must know it beforehand. `sharding` says over which mesh and
    axes the rows are split: heads are split over `HEAD_AXIS`, where it divides the key heads. `UserError` where the shapes or the
    mesh's devices are not for the kernel that was asked for.
    """
    platform = platform_of(sharding)
    kind = chosen(how, query.shape[1], query.shape[3], cap, window, platform)
    if kind == "dense":
        return attend(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask(seen)[:, None, None], scale, cap)

    def local(query: Array, key: Array, value: Array, seen: Seen) -> Array:
        if kind == "blocks":
            group = 1 if platform == "cpu" else query.shape[0]
            return blocked_attention(query, key, value, seen.segments, seen.positions, seen.reach, scale, cap, group=group)
        if kind == "pallas":
            return pallas_attention(query, key, value, seen.segments, scale)
        kernel = partial(splash_attention, query, key, value, seen.segments, scale, cap)
        if window is None or seen.reach is None:
            return kernel(None)
        return jax.lax.cond(seen.reach <= window, partial(kernel, window), partial(kernel, None))

    free = {} if sharding is None else free_axes(sharding.mesh)
    # A kernel is compiled for one device: on a mesh of several, every axis must be one of a `shard_map`, also those of one part.
    several = 1 if sharding is None else prod(sharding.mesh.shape.values() if kind != "blocks" else free.values())
    if sharding is None or not free or several == 1:
        return local(query, key, value, seen)
    # Loops over rows, and kernels, are no operations that the compiler could split.
    split = free.get(HEAD_AXIS, 1)
    rows, heads = sharding.spec[0], HEAD_AXIS if key.shape[2] % split == 0 else None
    each = PartitionSpec(rows, None, heads)
    specs = Seen(PartitionSpec(rows), PartitionSpec(rows), None if seen.reach is None else PartitionSpec())  # type: ignore[arg-type]
    places = (each, each, each, specs)
    return jax.shard_map(local, mesh=sharding.mesh, in_specs=places, out_specs=each, axis_names=set(free), check_vma=False)(
        query, key, value, seen
    )


def platform_of(sharding: NamedSharding | None) -> str:
    """The platform (cpu, gpu or tpu) of the mesh's devices, which may be another one than this process's default; without a mesh
    that of the default devices."""
    mesh = None if sharding is None else sharding.mesh
    device = mesh.devices.flat[0] if isinstance(mesh, Mesh) else None if mesh is None else mesh.abstract_device
    name: str = jax.default_backend() if device is None else device.platform
    return "gpu" if name in ("cuda", "rocm") else name


def check(config: ModelConfig, length: int, platform: str) -> None:
    """Raises UserError where a model's attention cannot be computed as its settings say, for rows of `length` tokens."""
    window = config.window if any(config.local_layers) else None
    chosen(config.attention, length, config.head_size, config.attention_softcap, window, platform)


def chosen(
    how: AttentionKind, length: int, size: int, cap: float | None, window: int | None, platform: str
) -> Literal["dense", "blocks", "splash", "pallas"]:
    """How attention is computed on a platform for rows of `length` tokens and heads of `size`. auto: dense where rows are short,
    else Splash on a TPU, Pallas on a GPU, and blocks elsewhere or where shapes are not for these kernels. `UserError` for a
    kernel that `how` names and that is for another platform or other shapes."""
    whole = length % LANES == 0
    fits = {"splash": whole and size % 64 == 0, "pallas": whole and cap is None and window is None and size <= 256}
    if how == "auto":
        kernel: Literal["splash", "pallas"] | None = {"tpu": "splash", "gpu": "pallas"}.get(platform)  # type: ignore[assignment]
        if length < LONG:
            return "dense"
        return kernel if kernel is not None and fits[kernel] else "blocks"
    needed = {"splash": "tpu", "pallas": "gpu"}.get(how, platform)
    if needed != platform:
        raise UserError(f"attention {how!r} is for a {needed.upper()}, and the devices here are {platform} devices; use 'auto'")
    if not fits.get(how, True):
        raise UserError(
            f"attention {how!r} is not for rows of {length} tokens, heads of {size}, attention_softcap {cap}, window {window}: "
            f"splash takes multiples of {LANES} tokens and heads of a multiple of 64; pallas the same tokens, heads up to 256, "
            "no cap and no window; use 'auto'"
        )
    return how


def mask(seen: Seen) -> Bool[Array, "B L L"]:
    """True where a token (second axis) sees another one (third axis)."""
    length = seen.segments.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))[None] & (seen.segments[:, :, None] == seen.segments[:, None, :])
    if seen.reach is None:
        return causal
    return causal & (seen.positions[:, :, None] - seen.positions[:, None, :] < seen.reach)


def attend(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B K S C"],
    value: Float[Array, "B K S C"],
    mask: Bool[Array, "B 1 1 L S"],
    scale: float,
    cap: float | None = None,
) -> Float[Array, "B L H C"]:
    """Softmax attention of L tokens to S, with float32 scores."""
    rows, length, heads, size = query.shape
    kv = key.shape[1]
    grouped = query.reshape(rows, length, kv, heads // kv, size).transpose(0, 2, 3, 1, 4) * scale
    scores = capped(jnp.einsum("bkglc,bksc->bkgls", grouped, key, preferred_element_type=jnp.float32), cap)
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgls,bksc->bkglc", weights, value)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, size)


def capped(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """cap · tanh(x / cap), smoothly within ±cap; None: x itself."""
    return x if cap is None else cap * jnp.tanh(x / cap)
