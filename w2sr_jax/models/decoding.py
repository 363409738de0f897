"""The decoder one token at a time: weights laid out for it, caches of keys and values, prefill and step.

Layers are unrolled, each with arrays of its own: a scan would copy a layer's weights and cache out of their stacks at each token.
Index names as in `transformer`; T prompt positions, S cache slots. The slot of a token in its row is its position.
"""

from functools import partial
from operator import itemgetter
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int

from w2sr_jax.models import quantized, transformer
from w2sr_jax.models.attention import Seen, capped, packed
from w2sr_jax.models.config import AttentionKind, ModelConfig
from w2sr_jax.models.transformer import Block, Params, View

Cache: TypeAlias = tuple[tuple[Float[Array, "B K C S"], Float[Array, "B K S C"]], ...]
"""Keys and values of each layer. Both products of attention then run along what lies together in memory."""


class Weights(NamedTuple):
    """Parameters as decoding multiplies them: layer by layer, in `config.dtype`, the output matrix in its own right."""

    layers: tuple[Params, ...]
    rest: Params
    output: Float[Array, "D V"]


def weights(config: ModelConfig, params: Params, kind: Literal["model", "int8"] = "model") -> Weights:
    """Made once per call of the engine; `int8` rounds the layers' matrices to 8 bits (see `quantized`)."""
    cast = transformer.cast(config, params)
    layers = quantized.quantize("int8", params)["layers"] if kind == "int8" else cast["layers"]
    rest = {"embedding": cast["embedding"], "norm": cast["norm"]}
    split = tuple(jax.tree.map(itemgetter(layer), layers) for layer in range(config.layers))
    return Weights(split, rest, transformer.output_matrix(config, cast))


def empty(config: ModelConfig, rows: int, slots: int) -> Cache:
    """A cache that holds nothing."""
    key = (rows, config.kv_heads, config.head_size, slots)
    value = (rows, config.kv_heads, slots, config.head_size)
    return tuple((jnp.zeros(key, config.dtype), jnp.zeros(value, config.dtype)) for _ in range(config.layers))


def slots(cache: Cache) -> int:
    """How many tokens of a row it has room for."""
    return int(cache[0][1].shape[2])


def resized(cache: Cache, size: int) -> Cache:
    """The cache with so many slots: empty ones are added, or the last ones are dropped."""

    def one(leaf: Array, axis: int) -> Array:
        more = size - leaf.shape[axis]
        if more <= 0:
            return jax.lax.slice_in_dim(leaf, 0, size, axis=axis)
        return jnp.pad(leaf, [(0, more if place == axis else 0) for place in range(4)])

    return tuple((one(key, 3), one(value, 2)) for key, value in cache)


def prefill(
    config: ModelConfig,
    weights: Weights,
    tokens: Int[Array, "B T"],
    lengths: Int[Array, " B"],
    sharding: NamedSharding | None = None,
) -> tuple[Float[Array, "B V"], Cache]:
    """Logits after each prompt's last token, and the prompts' cache of T slots; prompts are padded on the right."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    cap, scale = config.attention_softcap, _scale(config)
    # Prompts come in lengths that a kernel chosen for training may not take.
    how: AttentionKind = config.attention if config.attention in ("dense", "blocks") else "auto"

    def mix(query: Array, key: Array, value: Array, seen: Seen) -> tuple[Array, tuple[Array, Array]]:
        window = None if seen.reach is None else config.window
        kept = key.transpose(0, 2, 3, 1).astype(config.dtype), value.swapaxes(1, 2).astype(config.dtype)
        return packed(query, key, value, seen, scale, cap, how, window, sharding), kept

    reach = None if config.window is None else jnp.int32(config.window)
    views = {
        local: View(*transformer.rotary(config, positions, local=local), Seen(segments, positions, reach if local else None))
        for local in sorted(set(config.local_layers))
    }
    x = transformer.embed(config, weights.rest, tokens)
    if sharding is not None:
        x = jax.lax.with_sharding_constraint(x, sharding)
    cache: list[Any] = []
    for params, local in zip(weights.layers, config.local_layers, strict=True):
        x, kept = Block(config, mix).apply({"params": params}, x, views[local])
        cache.append(kept)
    last = jnp.take_along_axis(x, jnp.maximum(lengths, 1)[:, None, None] - 1, axis=1)
    return _logits(config, weights, last), tuple(cache)


def step(
    config: ModelConfig, weights: Weights, cache: Cache, tokens: Int[Array, " B"], positions: Int[Array, " B"]
) -> tuple[Float[Array, "B V"], Cache]:
    """Logits after one more token of each row, and the cache with it. A position beyond the cache overwrites the last slot."""
    places = jnp.arange(slots(cache))
    views = {}
    for local in sorted(set(config.local_layers)):
        seen = places[None] <= positions[:, None]
        if local:
            seen = seen & (positions[:, None] - places[None] < (config.window or 0))
        views[local] = *transformer.rotary(config, positions[:, None], local=local), seen[:, None, None]
    x = transformer.embed(config, weights.rest, tokens[:, None])
    new: list[Any] = []
    mix = partial(_mix, _scale(config), config.attention_softcap)
    for params, local, old in zip(weights.layers, config.local_layers, cache, strict=True):
        cos, sin, seen = views[local]
        x, kept = Block(config, mix).apply({"params": params}, x, View(cos, sin, (old, positions, seen)))
        new.append(kept)
    return _logits(config, weights, x), tuple(new)


def _mix(
    scale: float,
    cap: float | None,
    query: Float[Array, "B 1 H C"],
    key: Float[Array, "B 1 K C"],
    value: Float[Array, "B 1 K C"],
    state: tuple[tuple[Array, Array], Int[Array, " B"], Bool[Array, "B 1 1 S"]],
) -> tuple[Float[Array, "B 1 H C"], tuple[Array, Array]]:
    """Attention of one token of each row to its cache, which it enters; softmax in float32."""
    (keys, values), positions, seen = state

    @jax.vmap
    def enter(key_row: Array, value_row: Array, key: Array, value: Array, at: Array) -> tuple[Array, Array]:
        key_row = jax.lax.dynamic_update_slice(key_row, key[:, :, None].astype(key_row.dtype), (0, 0, at))
        return key_row, jax.lax.dynamic_update_slice(value_row, value[:, None].astype(value_row.dtype), (0, at, 0))

    keys, values = enter(keys, values, key[:, 0], value[:, 0], positions)
    rows, heads, size = query.shape[0], query.shape[2], query.shape[3]
    grouped = query.reshape(rows, keys.shape[1], -1, size) * scale
    scores = capped(jnp.einsum("bkgc,bkcs->bkgs", grouped, keys, preferred_element_type=jnp.float32), cap)
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bkgs,bksc->bkgc", weights, values)
    return mixed.reshape(rows, 1, heads, size), (keys, values)


def _logits(config: ModelConfig, weights: Weights, x: Float[Array, "B 1 D"]) -> Float[Array, "B V"]:
    hidden: Any = transformer.last_norm(config, weights.rest, x)[:, 0]
    logits = jnp.matmul(hidden, weights.output, preferred_element_type=jnp.float32)
    return capped(logits, config.logit_softcap)


def _scale(config: ModelConfig) -> float:
    return (config.query_scale or config.head_size) ** -0.5
