"""The keys and values of tokens seen so far, and the forward pass that reads and writes them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Sharding
from jaxtyping import Array, Float, Int

from w2sr_jax.models import transformer
from w2sr_jax.models.attention import attend
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.transformer import Block, Params, View


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far. Slots are filled left to right, the same slots in every row."""

    key: Float[Array, "N B K S C"]
    value: Float[Array, "N B K S C"]
    segments: Int[Array, "B S"]
    positions: Int[Array, "B S"]
    length: Int[Array, ""]
    """Slots filled."""


def forward(
    config: ModelConfig,
    params: Params,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    segments: Int[Array, "B L"] | None,
    cache: Cache,
    sharding: Sharding | None = None,
) -> tuple[Float[Array, "B L D"], Cache]:
    """Final hidden states, and the cache with these tokens appended. The caller sees to it that they fit."""
    length, start = tokens.shape[1], cache.length
    segments = jnp.ones_like(tokens) if segments is None else segments
    seen = jax.lax.dynamic_update_slice(cache.segments, segments.astype(jnp.int32), (0, start))
    places = jax.lax.dynamic_update_slice(cache.positions, positions.astype(jnp.int32), (0, start))
    mask = (jnp.arange(cache.segments.shape[1])[None, :] <= start + jnp.arange(length)[:, None])[None]
    mask = mask & (segments[:, :, None] == seen[:, None, :])
    whole, near = (transformer.rotary(config, positions, local=local) for local in (False, True))
    scale = (config.query_scale or config.head_size) ** -0.5

    def mix(query: Array, key: Array, value: Array, state: Any) -> tuple[Array, Any]:
        keys, values, layer, mask = state
        at = (layer, 0, 0, start, 0)
        keys = jax.lax.dynamic_update_slice(keys, key.swapaxes(1, 2)[None], at)
        values = jax.lax.dynamic_update_slice(values, value.swapaxes(1, 2)[None], at)
        key, value = (jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False) for stack in (keys, values))
        return attend(query, key, value, mask[:, None, None], scale, config.attention_softcap), (keys, values)

    def layer(carry: Any, xs: Any) -> tuple[Any, None]:
        x, keys, values, number = carry
        params, local = xs
        cos, sin = jax.tree.map(lambda a, b: jnp.where(local, a, b), near, whole)
        close = positions[:, :, None] - places[:, None, :] < (config.window or 0)
        view = View(cos, sin, (keys, values, number, mask & (close | ~local)))
        x, (keys, values) = Block(config, mix).apply({"params": params}, x, view)
        return (x, keys, values, number + 1), None

    x = transformer.embed(config, params, tokens)
    if sharding is not None:
        x = jax.lax.with_sharding_constraint(x, sharding)
    start_carry = (x, cache.key, cache.value, jnp.int32(0))
    (x, keys, values, _), _ = jax.lax.scan(layer, start_carry, (params["layers"], jnp.asarray(config.local_layers)))
    return transformer.last_norm(config, params, x), Cache(keys, values, seen, places, start + length)


def init_cache(config: ModelConfig, batch: int, length: int) -> Cache:
    """An empty cache of `length` slots for `batch` rows."""
    empty = jnp.zeros((config.layers, batch, config.kv_heads, length, config.head_size), config.dtype)
    nothing = jnp.zeros((batch, length), jnp.int32)
    return Cache(empty, empty, nothing, nothing, jnp.int32(0))


def extend_cache(cache: Cache, slots: int) -> Cache:
    """The cache with `slots` more empty slots. (A prompt is read in a cache of its own size: empty slots cost attention.)"""
    more = ((0, 0), (0, 0), (0, 0), (0, slots), (0, 0))
    key, value = jnp.pad(cache.key, more), jnp.pad(cache.value, more)
    return Cache(key, value, jnp.pad(cache.segments, more[2:4]), jnp.pad(cache.positions, more[2:4]), cache.length)
