"""One decoder-only transformer (Qwen2, Qwen3, Llama, Mistral and Gemma 3 shapes) in Linen, used as pure functions on a plain
nested dict.

Index names: B rows, L tokens, S cache slots, D width, H query heads, K key/value heads, G = H / K, C head size,
V vocabulary, N layers.
"""

import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Sharding
from jaxtyping import Array, Bool, Float, Int, Key

from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.product import Initializer, product
from w2sr_jax.models.rotary import PLAIN, angles, rotate

Params: TypeAlias = Mapping[str, Any]


class Cache(NamedTuple):
    """Keys and values of the tokens seen so far. Slots are filled left to right, the same slots in every row."""

    key: Float[Array, "N B K S C"]
    value: Float[Array, "N B K S C"]
    segments: Int[Array, "B S"]
    positions: Int[Array, "B S"]
    length: Int[Array, ""]
    """Slots filled."""


class View(NamedTuple):
    """What a layer sees of the sequence: rotary angles, and who may see whom."""

    cos: Float[Array, "B L 1 C/2"]
    sin: Float[Array, "B L 1 C/2"]
    mask: Bool[Array, "B 1 1 L S"]


class Context(NamedTuple):
    """What layers share: the views of global and of local layers (None where the model has none), and where in the cache the new
    tokens go."""

    whole: View | None
    local: View | None
    start: Int[Array, ""]

    def of(self, config: ModelConfig, layer: Int[Array, ""]) -> View:
        """The view of one layer, whose number a scan knows as an array only."""
        if self.whole is None or self.local is None:
            view = self.whole or self.local
            assert view is not None
            return view
        local = jnp.asarray(config.local_layers)[layer]
        return jax.tree.map(lambda near, far: jnp.where(local, near, far), self.local, self.whole)


class Norm(nn.Module):
    """RMSNorm in float32 (Zhang and Sennrich 2019)."""

    config: ModelConfig
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        c = self.config
        start = nn.initializers.zeros if c.norm_offset else nn.initializers.ones
        scale = self.param("scale", _axes(start, self.axis), x.shape[-1:], c.param_dtype).astype(jnp.float32)
        wide = x.astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + c.norm_eps)
        return (wide * (1.0 + scale if c.norm_offset else scale)).astype(x.dtype)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions; reads and writes layer `layer` of the stacked cache where there is one."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "B L D"], cached: tuple[Array, Array] | None, layer: Int[Array, ""], context: Context
    ) -> tuple[Float[Array, "B L D"], tuple[Array, Array] | None]:
        c = self.config
        rows, length, _ = x.shape
        query = self._project(x, "query", "heads", c.heads)
        key = self._project(x, "key", "kv_heads", c.kv_heads)
        value = self._project(x, "value", "kv_heads", c.kv_heads)
        if c.qk_norm:
            query = Norm(c, "head_dim", name="query_norm")(query)
            key = Norm(c, "head_dim", name="key_norm")(key)
        view = context.of(c, layer)
        query, key = rotate(query, view.cos, view.sin), rotate(key, view.cos, view.sin)
        key, value = key.swapaxes(1, 2), value.swapaxes(1, 2)
        if cached is not None:
            at = (layer, 0, 0, context.start, 0)
            cached = (
                jax.lax.dynamic_update_slice(cached[0], key[None], at),
                jax.lax.dynamic_update_slice(cached[1], value[None], at),
            )
            key, value = (jax.lax.dynamic_index_in_dim(stack, layer, keepdims=False) for stack in cached)
        mixed = attend(query, key, value, view.mask, (c.query_scale or c.head_size) ** -0.5, c.attention_softcap)
        start = _axes(_normal(0, 1, gain=_residual(c)), "heads", "head_dim", "embed")
        shape = (c.heads, c.head_size, c.width)
        return product(self, "output", mixed.reshape(rows, length, -1), start, shape, c.param_dtype, inputs=2), cached

    def _project(self, x: Float[Array, "B L D"], name: str, axis: str, heads: int) -> Float[Array, "B L heads C"]:
        c = self.config
        shape = (c.width, heads, c.head_size)
        out = product(self, name, x, _axes(_normal(0), "embed", axis, "head_dim"), shape, c.param_dtype)
        out = out.reshape(*x.shape[:2], heads, c.head_size)
        if c.qkv_bias:
            bias = self.param(f"{name}_bias", _axes(nn.initializers.zeros, axis, "head_dim"), shape[1:], c.param_dtype)
            out = out + bias.astype(x.dtype)
        return out


class Mlp(nn.Module):
    """SwiGLU or GeGLU (Shazeer 2020)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        c = self.config
        wide, narrow = (c.width, c.mlp_size), (c.mlp_size, c.width)
        gate = product(self, "gate", x, _axes(_normal(0), "embed", "mlp"), wide, c.param_dtype)
        up = product(self, "up", x, _axes(_normal(0), "embed", "mlp"), wide, c.param_dtype)
        activation = nn.silu if c.activation == "silu" else nn.gelu
        start = _axes(_normal(0, gain=_residual(c)), "mlp", "embed")
        return product(self, "down", activation(gate) * up, start, narrow, c.param_dtype)


class Block(nn.Module):
    """One layer, shaped for a scan: the residual stream, the stacked cache and the layer's number are carried."""

    config: ModelConfig

    @nn.compact
    def __call__(self, carry: tuple[Array, tuple[Array, Array] | None, Array], context: Context) -> tuple[Any, None]:
        x, cached, layer = carry
        c = self.config
        mixed, cached = Attention(c, name="attention")(Norm(c, name="attention_norm")(x), cached, layer, context)
        x = x + (Norm(c, name="attention_post_norm")(mixed) if c.post_norms else mixed)
        fed = Mlp(c, name="mlp")(Norm(c, name="mlp_norm")(x))
        x = x + (Norm(c, name="mlp_post_norm")(fed) if c.post_norms else fed)
        return (x, cached, layer + 1), None


class Decoder(nn.Module):
    """Token ids to final hidden states. The output matrix is a parameter too, but `logits` or a blocked loss applies it."""

    config: ModelConfig
    sharding: Sharding | None = None

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B L"], cached: tuple[Array, Array] | None, context: Context
    ) -> tuple[Float[Array, "B L D"], tuple[Array, Array] | None]:
        c = self.config
        table = self.param("embedding", _axes(_normal(1), "vocab", "embed"), (c.vocab_size, c.width), c.param_dtype)
        if not c.tied_embeddings:
            self.param("output", _axes(_normal(0), "embed", "vocab"), (c.width, c.vocab_size), c.param_dtype)
        x = table[tokens].astype(c.dtype)
        if c.scaled_embeddings:
            x = x * jnp.asarray(c.width**0.5, c.dtype)
        if self.sharding is not None:
            x = jax.lax.with_sharding_constraint(x, self.sharding)
        layers = nn.scan(
            nn.remat(Block, prevent_cse=False) if c.remat else Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=c.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        (x, cached, _), _ = layers(c, name="layers")((x, cached, jnp.int32(0)), context)
        return Norm(c, name="norm")(x), cached


def init(config: ModelConfig, key: Key[Array, ""]) -> Params:
    """Fresh parameters. Raises UserError for impossible sizes.

    Matrices are normal with variance 1 / inputs, those that write to the residual stream with 1 / (2 · layers) of that. The
    embedding's variance is 1 / width, so that tied logits start with about unit variance.
    """
    config.check()
    return _init(config, key)


def forward(
    config: ModelConfig,
    params: Params,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    segments: Int[Array, "B L"] | None = None,
    cache: Cache | None = None,
    sharding: Sharding | None = None,
) -> tuple[Float[Array, "B L D"], Cache | None]:
    """Final hidden states (after the last norm, in `config.dtype`), and the cache with these tokens appended if one was given.

    A token sees itself and the earlier tokens of its row that have the same segment id; None is one segment. In a local layer it
    sees, of these, only those whose position is less than `config.window` before its own. Rotary angles follow `positions` alone.
    The caller sees to it that `cache.length + L` does not pass the cache's slots. `sharding` (of [B, L, D]) is for use on a mesh:
    it constrains the embedding's output, which the partitioner may otherwise replicate.
    """
    length = tokens.shape[1]
    start = jnp.int32(0) if cache is None else cache.length
    queries = start + jnp.arange(length)
    seen, places = segments, positions
    cached = None
    if cache is not None:
        segments = jnp.ones_like(tokens) if segments is None else segments
        seen = jax.lax.dynamic_update_slice(cache.segments, segments.astype(jnp.int32), (0, start))
        places = jax.lax.dynamic_update_slice(cache.positions, positions.astype(jnp.int32), (0, start))
        cached = (cache.key, cache.value)
    keys = jnp.arange(length if cache is None else cache.segments.shape[1])
    mask = (keys[None, :] <= queries[:, None])[None]
    if segments is not None and seen is not None:
        mask = mask & (segments[:, :, None] == seen[:, None, :])
    context = Context(*_views(config, positions, places, mask), start)
    decoder: Any = Decoder(config, sharding)
    hidden, cached = decoder.apply({"params": params}, tokens, cached, context)
    if cache is None or cached is None or seen is None:
        return hidden, None
    return hidden, Cache(cached[0], cached[1], seen, places, start + length)


def output_matrix(config: ModelConfig, params: Params) -> Float[Array, "D V"]:
    """The matrix from hidden states to logits, as kept (param_dtype)."""
    return params["embedding"].T if config.tied_embeddings else params["output"]


def logits(config: ModelConfig, params: Params, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """float32 logits, capped where the model caps them; the product's inputs are in `config.dtype`."""
    matrix = output_matrix(config, params).astype(hidden.dtype)
    return capped(jnp.matmul(hidden, matrix, preferred_element_type=jnp.float32), config.logit_softcap)


def cast(config: ModelConfig, params: Params) -> Params:
    """Parameters in the type in which `forward` multiplies them: saves the conversions of a decoding loop, changes no result."""

    def one(path: Any, leaf: Array) -> Array:
        return leaf if path[-1].key == "scale" else leaf.astype(config.dtype)

    return jax.tree_util.tree_map_with_path(one, params)


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


def shapes(config: ModelConfig) -> Params:
    """The parameters as `jax.ShapeDtypeStruct`s: nothing is allocated."""
    config.check()
    return nn.unbox(_abstract(config))


def logical_axes(config: ModelConfig) -> Params:
    """For each parameter the tuple of its axes' names: vocab, embed, heads, kv_heads, head_dim, mlp, layers."""
    config.check()
    return jax.tree.map(lambda box: tuple(box.names), _abstract(config), is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))


def capped(x: Float[Array, "..."], cap: float | None) -> Float[Array, "..."]:
    """cap · tanh(x / cap), smoothly within ±cap; None: x itself."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attend(
    query: Float[Array, "B L H C"],
    key: Float[Array, "B K S C"],
    value: Float[Array, "B K S C"],
    mask: Bool[Array, "B 1 1 L S"],
    scale: float,
    cap: float | None = None,
) -> Float[Array, "B L H C"]:
    """Softmax attention with float32 scores; query heads i·G … i·G + G − 1 share key head i."""
    rows, length, heads, size = query.shape
    kv = key.shape[1]
    grouped = query.reshape(rows, length, kv, heads // kv, size).transpose(0, 2, 3, 1, 4) * scale
    scores = capped(jnp.einsum("bkglc,bksc->bkgls", grouped, key, preferred_element_type=jnp.float32), cap)
    weights = jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1).astype(value.dtype)
    mixed = jnp.einsum("bkgls,bksc->bkglc", weights, value)
    return mixed.transpose(0, 3, 1, 2, 4).reshape(rows, length, heads, size)


def _views(
    config: ModelConfig, positions: Int[Array, "B L"], places: Int[Array, "B S"], mask: Bool[Array, "B L S"]
) -> tuple[View | None, View | None]:
    """The views of global and local layers; `places` are the positions of the tokens in the cache, or in the row."""

    def view(theta: float, scaling: RopeScaling, mask: Bool[Array, "B L S"]) -> View:
        cos, sin = angles(positions, config.head_size, theta, scaling)
        return View(cos[:, :, None], sin[:, :, None], mask[:, None, None])

    whole = local = None
    if not all(config.local_layers):
        whole = view(config.rope_theta, config.rope_scaling, mask)
    if any(config.local_layers):
        near = positions[:, :, None] - places[:, None, :] < (config.window or 0)
        own = config.local_rope_theta
        local = view(own or config.rope_theta, config.rope_scaling if own is None else PLAIN, mask & near)
    return whole, local


@partial(jax.jit, static_argnums=0)
def _init(config: ModelConfig, key: Key[Array, ""]) -> Params:
    return nn.unbox(_boxed(config, key))


def _boxed(config: ModelConfig, key: Key[Array, ""]) -> Any:
    tokens = jnp.zeros((1, 1), jnp.int32)
    context = Context(*_views(config, tokens, tokens, jnp.ones((1, 1, 1), bool)), jnp.int32(0))
    return Decoder(config).init(key, tokens, None, context)["params"]


@functools.lru_cache(maxsize=16)
def _abstract(config: ModelConfig) -> Any:
    return jax.eval_shape(lambda: _boxed(config, jax.random.key(0)))


def _axes(initializer: Initializer, *names: str) -> Callable[..., Any]:
    return nn.with_partitioning(initializer, names)


def _normal(*inputs: int, gain: float = 1.0) -> Initializer:
    """Normal with variance gain² / (product of the axes `inputs`)."""

    def make(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
        size = 1
        for axis in inputs:
            size *= shape[axis]
        return (jax.random.normal(key, shape, jnp.float32) * (gain * size**-0.5)).astype(dtype)

    return make


def _residual(config: ModelConfig) -> float:
    return (2 * config.layers) ** -0.5
