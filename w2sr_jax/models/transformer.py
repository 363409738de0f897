"""One decoder-only transformer (Qwen2, Qwen3, Llama, Mistral and Gemma 3 shapes) in Linen, used as pure functions on a plain
nested dict.

The layers see T = B · L tokens one after the other, and only attention proper sees rows: XLA then makes plain matrix products
of the gradients of matrices, and plain column sums of those of scales and biases, without copies of its own.

Index names: B rows, L tokens of a row, T tokens, D width, H query heads, K key/value heads, C head size, V vocabulary, N layers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, Key

from w2sr_jax.models.attention import SAVED, Seen, capped, packed
from w2sr_jax.models.config import ModelConfig, RematKind
from w2sr_jax.models.embedding import lookup
from w2sr_jax.models.product import Initializer, apart, product
from w2sr_jax.models.rotary import PLAIN, angles, rotate

Params: TypeAlias = Mapping[str, Any]

Mix: TypeAlias = Callable[[Array, Array, Array, Any], tuple[Array, Any]]
"""Attention proper: (query [B, L, H, C], key and value [B, L, K, C], `View.seen`) → (the heads' results [B, L, H, C], a cache or
None). Queries and keys are rotated already. The cache is the layer's second result."""


class View(NamedTuple):
    """What a layer takes beside the hidden states: cosines and sines of the rotary angles of each token, and what its `Mix` takes
    as its last argument (in training who sees whom, in decoding the cache as well)."""

    cos: Float[Array, "B L 1 C/2"]
    sin: Float[Array, "B L 1 C/2"]
    seen: Any


class Norm(nn.Module):
    """RMSNorm in float32 (Zhang and Sennrich 2019)."""

    config: ModelConfig
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        c = self.config
        start = nn.initializers.zeros if c.norm_offset else nn.initializers.ones
        scale = self.param("scale", _axes(start, self.axis), x.shape[-1:], c.param_dtype).astype(jnp.float32)[None]
        wide = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
        wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + c.norm_eps)
        return (wide * (1.0 + scale if c.norm_offset else scale)).astype(x.dtype).reshape(x.shape)


class Attention(nn.Module):
    """Grouped-query attention with rotary positions."""

    config: ModelConfig
    mix: Mix

    @nn.compact
    def __call__(self, x: Float[Array, "T D"], view: View) -> tuple[Float[Array, "T D"], Any]:
        c = self.config
        rows, low = view.cos.shape[:2], apart(x)
        query = self._project(x, low, "query", "heads", c.heads).reshape(*rows, c.heads, c.head_size)
        key = self._project(x, low, "key", "kv_heads", c.kv_heads).reshape(*rows, c.kv_heads, c.head_size)
        value = self._project(x, low, "value", "kv_heads", c.kv_heads).reshape(*rows, c.kv_heads, c.head_size)
        if c.qk_norm:
            query = Norm(c, "head_dim", name="query_norm")(query)
            key = Norm(c, "head_dim", name="key_norm")(key)
        query, key = rotate(query, view.cos, view.sin), rotate(key, view.cos, view.sin)
        mixed, cache = self.mix(query, key, value, view.seen)
        start = _axes(_normal(0, 1, gain=_residual(c)), "heads", "head_dim", "embed")
        shape = (c.heads, c.head_size, c.width)
        return product(self, "output", mixed.reshape(x.shape[0], -1), start, shape, c.param_dtype, inputs=2), cache

    def _project(
        self, x: Float[Array, "T D"], low: Float[Array, "T D"], name: str, axis: str, heads: int
    ) -> Float[Array, "T heads*C"]:
        c = self.config
        shape = (c.width, heads, c.head_size)
        out = product(self, name, x, _axes(_normal(0), "embed", axis, "head_dim"), shape, c.param_dtype, low=low)
        if c.qkv_bias:
            bias = self.param(f"{name}_bias", _axes(nn.initializers.zeros, axis, "head_dim"), shape[1:], c.param_dtype)
            out = out + bias.astype(x.dtype).reshape(1, -1)
        return out


class Mlp(nn.Module):
    """SwiGLU or GeGLU (Shazeer 2020)."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Float[Array, "T D"]) -> Float[Array, "T D"]:
        c = self.config
        wide, narrow, low = (c.width, c.mlp_size), (c.mlp_size, c.width), apart(x)
        gate = product(self, "gate", x, _axes(_normal(0), "embed", "mlp"), wide, c.param_dtype, low=low)
        up = product(self, "up", x, _axes(_normal(0), "embed", "mlp"), wide, c.param_dtype, low=low)
        activation = nn.silu if c.activation == "silu" else nn.gelu
        start = _axes(_normal(0, gain=_residual(c)), "mlp", "embed")
        return product(self, "down", activation(gate) * up, start, narrow, c.param_dtype)


class Block(nn.Module):
    """One layer: returns the residual stream after it, and the cache that its `mix` returns."""

    config: ModelConfig
    mix: Mix

    @nn.compact
    def __call__(self, x: Float[Array, "T D"], view: View) -> tuple[Float[Array, "T D"], Any]:
        c = self.config
        mixed, cache = Attention(c, self.mix, name="attention")(Norm(c, name="attention_norm")(x), view)
        x = x + (Norm(c, name="attention_post_norm")(mixed) if c.post_norms else mixed)
        fed = Mlp(c, name="mlp")(Norm(c, name="mlp_norm")(x))
        return x + (Norm(c, name="mlp_post_norm")(fed) if c.post_norms else fed), cache


class Decoder(nn.Module):
    """Token ids to final hidden states. The output matrix is a parameter of it too; `logits` or a blocked loss multiplies by
    it."""

    config: ModelConfig
    sharding: NamedSharding | None = None

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B L"],
        positions: Int[Array, "B L"],
        segments: Int[Array, "B L"],
        copies: Float[Array, "*S V D"] | None = None,
    ) -> Float[Array, "B L D"]:
        c = self.config
        table = self.param("embedding", _axes(_normal(1), "vocab", "embed"), (c.vocab_size, c.width), c.param_dtype)
        if not c.tied_embeddings:
            self.param("output", _axes(_normal(0), "embed", "vocab"), (c.width, c.vocab_size), c.param_dtype)
        x = embed(c, {"embedding": table if copies is None else copies}, tokens, self.sharding)
        kinds = [rotary(c, positions, local=local) for local in sorted(set(c.local_layers))]

        def layer(block: Block, x: Array, local: Array) -> tuple[Array, None]:
            cos, sin = kinds[0] if len(kinds) == 1 else jax.tree.map(partial(jnp.where, local), kinds[1], kinds[0])
            reach = jnp.where(local, c.window or 0, tokens.shape[1]) if any(c.local_layers) else None
            return block(x, View(cos, sin, Seen(segments, positions, reach)))[0], None

        scanned = nn.scan(
            _rematerialised(layer, c.remat),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=c.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        block = Block(c, partial(_packed, c, self.sharding), name="layers")
        flat, _ = scanned(block, x.reshape(-1, c.width), jnp.asarray(c.local_layers))
        return Norm(c, name="norm")(flat).reshape(x.shape)


def init(config: ModelConfig, key: Key[Array, ""]) -> Params:
    """Fresh parameters. Raises UserError for impossible sizes.

    Matrices are normal with variance 1 / inputs, those that write to the residual stream with 1 / (2 · layers) of that. The
    embedding's variance is 1 / width, so that tied logits start with about unit variance.
    """
    config.check()
    with jax.debug_key_reuse(False):  # jax takes the way in which Flax draws a scan's parameters for a reuse of keys
        return _init(config, key)


def forward(
    config: ModelConfig,
    params: Params,
    tokens: Int[Array, "B L"],
    positions: Int[Array, "B L"],
    segments: Int[Array, "B L"] | None = None,
    sharding: NamedSharding | None = None,
    copies: Float[Array, "*S V D"] | None = None,
) -> Float[Array, "B L D"]:
    """Final hidden states, after the last norm, in `config.dtype`.

    A token sees itself and the earlier tokens of its row that have the same segment id; None is one segment. In a local layer it
    sees, of these, only those whose position is less than `config.window` before its own. Rotary angles follow `positions` alone.
    `sharding` (of [B, L, D]) is for use on a mesh: it constrains the embedding's output, which the partitioner may otherwise
    replicate. `copies` (`embedding.copies`) are looked up in place of the embedding.
    """
    segments = jnp.ones_like(tokens) if segments is None else segments
    return Decoder(config, sharding).apply({"params": params}, tokens, positions, segments, copies)  # type: ignore[return-value]


def embed(
    config: ModelConfig,
    params: Params,
    tokens: Int[Array, "B *L"],
    sharding: NamedSharding | None = None,
) -> Float[Array, "B *L D"]:
    """The input of the first layer: embeddings, scaled where the model scales them. `sharding` as for `embedding.lookup`."""
    x = lookup(params["embedding"], tokens, config.dtype, sharding)
    return x * jnp.asarray(config.width**0.5, config.dtype) if config.scaled_embeddings else x


def last_norm(config: ModelConfig, params: Params, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
    """Final hidden states from the output of the last layer."""
    return Norm(config).apply({"params": params["norm"]}, x)  # type: ignore[return-value]


def rotary(
    config: ModelConfig, positions: Int[Array, "B L"], local: bool
) -> tuple[Float[Array, "B L 1 C/2"], Float[Array, "B L 1 C/2"]]:
    """Cosines and sines of the rotary angles for the local layers, or for the global ones; float32."""
    own = config.local_rope_theta if local else None
    scaling = config.rope_scaling if own is None else PLAIN
    cos, sin = angles(positions, config.head_size, own or config.rope_theta, scaling)
    return cos[:, :, None], sin[:, :, None]


def output_matrix(config: ModelConfig, params: Params) -> Float[Array, "*S D V"]:
    """The matrix from hidden states to logits, in `param_dtype`; of `embedding.copies` as many."""
    return params["embedding"].mT if config.tied_embeddings else params["output"]


def logits(config: ModelConfig, params: Params, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """float32 logits, capped where the model caps them; the product's inputs are in `config.dtype`."""
    matrix = output_matrix(config, params).astype(hidden.dtype)
    return capped(jnp.matmul(hidden, matrix, preferred_element_type=jnp.float32), config.logit_softcap)


def cast(config: ModelConfig, params: Params) -> Params:
    """The parameters in `config.dtype`, as `forward` converts them, but for the scales of norms. A decoding loop that takes these
    converts nothing and computes the same."""

    def one(path: Any, leaf: Array) -> Array:
        return leaf if path[-1].key == "scale" else leaf.astype(config.dtype)

    return jax.tree_util.tree_map_with_path(one, params)


def shapes(config: ModelConfig) -> Params:
    """The parameters as `jax.ShapeDtypeStruct`s: nothing is allocated."""
    config.check()
    return nn.unbox(_abstract(config))


def logical_axes(config: ModelConfig) -> Params:
    """For each parameter the tuple of its axes' names: vocab, embed, heads, kv_heads, head_dim, mlp, layers."""
    config.check()
    return jax.tree.map(lambda box: tuple(box.names), _abstract(config), is_leaf=lambda leaf: isinstance(leaf, nn.Partitioned))


@partial(jax.jit, static_argnums=0)
def _init(config: ModelConfig, key: Key[Array, ""]) -> Params:
    return nn.unbox(_boxed(config, key))


def _boxed(config: ModelConfig, key: Key[Array, ""]) -> Any:
    tokens = jnp.zeros((1, 1), jnp.int32)
    # A kernel that was chosen for training takes no row of one token; parameters do not depend on it.
    return Decoder(dataclasses.replace(config, attention="dense")).init(key, tokens, tokens, tokens)["params"]


@functools.lru_cache(maxsize=16)
def _abstract(config: ModelConfig) -> Any:
    return jax.eval_shape(lambda: _boxed(config, jax.random.key(0)))


def _packed(
    config: ModelConfig, sharding: NamedSharding | None, query: Array, key: Array, value: Array, seen: Seen
) -> tuple[Array, None]:
    scale = (config.query_scale or config.head_size) ** -0.5
    window = config.window if any(config.local_layers) else None
    return packed(query, key, value, seen, scale, config.attention_softcap, config.attention, window, sharding), None


def _rematerialised(layer: Callable[..., Any], kind: RematKind) -> Callable[..., Any]:
    """`layer`, whose backward pass recomputes what `kind` says. Inside the loop over layers common subexpressions need not be
    prevented."""
    policies = jax.checkpoint_policies
    saved = policies.save_only_these_names(SAVED)
    policy = {
        "layers": None,
        "attention": saved,
        "products": policies.save_from_both_policies(saved, policies.dots_with_no_batch_dims_saveable),
    }
    return layer if kind == "none" else nn.remat(layer, prevent_cse=False, policy=policy[kind])


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
