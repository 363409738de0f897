"""The decoder one token at a time: weights laid out for it, caches of keys and values, prefill and step.

Layers are unrolled, each with arrays of its own: a scan would copy a layer's weights and cache out of their stacks at each token.
Index names as in `transformer`; S cache slots, N tiles of J slots each. The slot of a token in its row is its position.
"""

from collections.abc import Mapping
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
from w2sr_jax.models.embedding import WIDTH_AXIS
from w2sr_jax.models.transformer import Block, Params, View

Cache: TypeAlias = tuple[tuple[Float[Array, "B K N C J"], Float[Array, "B K S C"]], ...]
"""Keys and values of each layer. In this layout both products of attention run along contiguous memory. The product with the keys
is computed tile by tile, since XLA's CPU kernels copy a matrix of more columns than they take before they multiply it."""

TILE = 64
"""Slots of a tile."""


class Weights(NamedTuple):
    """Parameters as decoding multiplies them: one tree for each layer, in `config.dtype`, and the output matrix also where it is
    the embedding's transpose."""

    layers: tuple[Params, ...]
    rest: Params
    output: Float[Array, "D V"]
    angles: Mapping[bool, tuple[Float[Array, "P C/2"], Float[Array, "P C/2"]]]
    """Cosines and sines by position, for local layers (True) and global ones (False). Where a layer computed them itself, XLA
    would do so in each layer, for each head."""


def weights(config: ModelConfig, params: Params, positions: int, kind: Literal["model", "int8"] = "model") -> Weights:
    """The parameters laid out for decoding rows of up to `positions` tokens, once per call of the engine. `int8` rounds the
    layers' matrices to 8 bits (see `quantized`)."""
    cast = transformer.cast(config, params)
    layers = quantized.quantize("int8", params)["layers"] if kind == "int8" else cast["layers"]
    rest = {"embedding": cast["embedding"], "norm": cast["norm"]}
    split = tuple(jax.tree.map(itemgetter(layer), layers) for layer in range(config.layers))
    return Weights(split, rest, transformer.output_matrix(config, cast), angles(config, positions))


def angles(config: ModelConfig, positions: int) -> dict[bool, tuple[Float[Array, "P C/2"], Float[Array, "P C/2"]]]:
    """`Weights.angles` for so many positions."""
    turned = {}
    for local in sorted(set(config.local_layers)):
        cos, sin = transformer.rotary(config, jnp.arange(positions)[None], local=local)
        turned[local] = cos[0, :, 0], sin[0, :, 0]
    return turned


def empty(config: ModelConfig, rows: int, slots: int) -> Cache:
    """A cache of zeros for `rows` rows of at least `slots` tokens."""
    key = (rows, config.kv_heads, _tiles(slots), config.head_size, TILE)
    value = (rows, config.kv_heads, _tiles(slots) * TILE, config.head_size)
    return tuple((jnp.zeros(key, config.dtype), jnp.zeros(value, config.dtype)) for _ in range(config.layers))


def slots(cache: Cache) -> int:
    """How many tokens of a row the cache has room for, in whole tiles."""
    return int(cache[0][1].shape[2])


def resized(cache: Cache, size: int) -> Cache:
    """The cache with `size` slots, rounded up to whole tiles: zeros are added, or the last slots are dropped."""

    def one(leaf: Array, size: int) -> Array:
        more = size - leaf.shape[2]
        if more <= 0:
            return jax.lax.slice_in_dim(leaf, 0, size, axis=2)
        return jnp.pad(leaf, [(0, more if axis == 2 else 0) for axis in range(leaf.ndim)])

    return tuple((one(key, _tiles(size)), one(value, _tiles(size) * TILE)) for key, value in cache)


def prefill(
    config: ModelConfig,
    weights: Weights,
    tokens: Int[Array, "B L"],
    lengths: Int[Array, " B"],
    sharding: NamedSharding | None = None,
) -> tuple[Float[Array, "B V"], Cache]:
    """float32 logits after each prompt's last token, and the prompts' cache. Prompts are padded on the right to one length L."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1], dtype=jnp.int32), tokens.shape)
    segments = (positions < lengths[:, None]).astype(jnp.int32)
    cap, scale = config.attention_softcap, _scale(config)
    # Prompts come in lengths that a kernel chosen for training may not take.
    how: AttentionKind = config.attention if config.attention in ("dense", "blocks") else "auto"

    def mix(query: Array, key: Array, value: Array, seen: Seen) -> tuple[Array, tuple[Array, Array]]:
        window = None if seen.reach is None else config.window
        return packed(query, key, value, seen, scale, cap, how, window, sharding), _laid_out(config, key, value)

    reach = None if config.window is None else jnp.int32(config.window)
    views = {
        local: View(*_turned(weights, local, positions), Seen(segments, positions, reach if local else None))
        for local in sorted(set(config.local_layers))
    }
    x = transformer.embed(config, weights.rest, tokens, sharding)
    flat, cache = x.reshape(-1, config.width), list[Any]()
    for params, local in zip(weights.layers, config.local_layers, strict=True):
        params, flat = _in_turn(params, flat, sharding)
        flat, layer_cache = Block(config, mix).apply({"params": params}, flat, views[local])
        cache.append(layer_cache)
    last = jnp.take_along_axis(flat.reshape(x.shape), jnp.maximum(lengths, 1)[:, None, None] - 1, axis=1)
    return _logits(config, weights, last[:, 0], sharding), tuple(cache)


def step(
    config: ModelConfig,
    weights: Weights,
    cache: Cache,
    tokens: Int[Array, " B"],
    positions: Int[Array, " B"],
    sharding: NamedSharding | None = None,
) -> tuple[Float[Array, "B V"], Cache]:
    """float32 logits after one more token of each row, and the cache with its keys and values. A position beyond the cache
    overwrites the last slot."""
    every_slot = jnp.arange(slots(cache), dtype=jnp.int32)
    views = {}
    for local in sorted(set(config.local_layers)):
        seen = every_slot[None] <= positions[:, None]
        if local:
            seen = seen & (positions[:, None] - every_slot[None] < (config.window or 0))
        views[local] = *_turned(weights, local, positions[:, None]), seen[:, None, None]
    x = transformer.embed(config, weights.rest, tokens, sharding)
    new: list[Any] = []
    mix = partial(_mix, _scale(config), config.attention_softcap)
    for params, local, old in zip(weights.layers, config.local_layers, cache, strict=True):
        cos, sin, seen = views[local]
        params, x = _in_turn(params, x, sharding)
        x, layer_cache = Block(config, mix).apply({"params": params}, x, View(cos, sin, (old, positions, seen)))
        new.append(layer_cache)
    return _logits(config, weights, x, sharding), tuple(new)


def _mix(
    scale: float,
    cap: float | None,
    query: Float[Array, "B 1 H C"],
    key: Float[Array, "B 1 K C"],
    value: Float[Array, "B 1 K C"],
    state: tuple[tuple[Array, Array], Int[Array, " B"], Bool[Array, "B 1 1 S"]],
) -> tuple[Float[Array, "B 1 H C"], tuple[Array, Array]]:
    """Attention of one token of each row to its cache, to which its key and value are added first; softmax in float32."""
    (keys, values), positions, seen = state
    rows, heads, size = query.shape[0], query.shape[2], query.shape[3]
    at = jnp.minimum(positions, values.shape[2] - 1)
    keys = _enter(keys, key[:, 0], (at // TILE, at % TILE))
    values = _enter(values, value[:, 0], (at,))
    grouped = query.reshape(rows, keys.shape[1], 1, -1, size) * scale
    each = jnp.broadcast_to(grouped, (*keys.shape[:3], *grouped.shape[3:]))
    tiles = jnp.einsum("bkngc,bkncj->bkngj", each, keys, preferred_element_type=jnp.float32)
    scores = capped(tiles.swapaxes(2, 3).reshape(rows, keys.shape[1], -1, values.shape[2]), cap)
    weights = jax.nn.softmax(jnp.where(seen, scores, -1e30), axis=-1).astype(values.dtype)
    mixed = jnp.einsum("bkgs,bksc->bkgc", weights, values)
    return mixed.reshape(rows, 1, heads, size), (keys, values)


def _enter(cache: Float[Array, "B K N *A"], new: Float[Array, "B K C"], slot: tuple[Int[Array, " B"], ...]) -> Array:
    """The cache with each row's new keys (`slot`: tile and column) or values (`slot`: the slot alone)."""
    new = new.astype(cache.dtype)
    if len(new) == 1:  # with an index for each head: a slice over the heads compiles to a scatter that copies the cache
        return cache.at[(0, jnp.arange(new.shape[1]), *_index(slot))].set(new[0], mode="promise_in_bounds")

    def one(cache: Array, new: Array, slot: tuple[Array, ...]) -> Array:
        return cache.at[_index(slot)].set(new, mode="promise_in_bounds")

    # Mapped over rows and heads, the scatter is split over a mesh as the cache is.
    return jax.vmap(jax.vmap(one, (0, 0, None)))(cache, new, slot)


def _index(slot: tuple[Array, ...]) -> tuple[Any, ...]:
    return slot if len(slot) == 1 else (slot[0], slice(None), slot[1])


def _turned(weights: Weights, local: bool, positions: Int[Array, "B L"]) -> tuple[Array, Array]:
    cos, sin = weights.angles[local]
    return cos[positions][:, :, None], sin[positions][:, :, None]


def _laid_out(config: ModelConfig, key: Float[Array, "B L K C"], value: Float[Array, "B L K C"]) -> tuple[Array, Array]:
    """A layer's keys and values in the cache's layout."""
    rows, length, heads, size = key.shape
    key, value = (jnp.pad(x.astype(config.dtype), [(0, 0), (0, -length % TILE), (0, 0), (0, 0)]) for x in (key, value))
    return key.reshape(rows, -1, TILE, heads, size).transpose(0, 3, 1, 4, 2), value.swapaxes(1, 2)


def _tiles(slots: int) -> int:
    return -(-slots // TILE)


def _in_turn(params: Any, x: Array, sharding: NamedSharding | None) -> tuple[Any, Array]:
    """Weights that are split along the width, and what is multiplied with them, tied so that the weights are gathered once this
    is there: a compiler would gather those of all layers first, and for all tokens."""
    if sharding is None or sharding.mesh.shape.get(WIDTH_AXIS, 1) == 1:
        return params, x
    return jax.lax.optimization_barrier((params, x))


def _logits(
    config: ModelConfig, weights: Weights, x: Float[Array, "B D"], sharding: NamedSharding | None = None
) -> Float[Array, "B V"]:
    hidden: Any = transformer.last_norm(config, weights.rest, x)
    output, hidden = _in_turn(weights.output, hidden, sharding)
    logits = jnp.matmul(hidden, output, preferred_element_type=jnp.float32)
    return capped(logits, config.logit_softcap)


def _scale(config: ModelConfig) -> float:
    return (config.query_scale or config.head_size) ** -0.5
