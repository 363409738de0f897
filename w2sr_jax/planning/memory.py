"""Bytes on one device by arithmetic: from shapes, types and how a mesh splits them. Nothing is compiled and nothing allocated.

Parameters, moments, caches and logits are exact. What the backward pass keeps is read from the traced model itself. What a layer
and the loss need while they are computed, and the copies that a compiler makes, are estimates.
"""

import dataclasses
import functools
from collections.abc import Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models import decoding, lora, transformer
from w2sr_jax.models.config import ModelConfig, RematKind
from w2sr_jax.parallel.mesh import resting, shardings
from w2sr_jax.preflight.meshes import Shape
from w2sr_jax.sampling.programs import weight_shardings
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.settings import Training

FLOAT = 4
_MOMENTS = 2  # of AdamW
_BLOCKS = 3  # logits of a block, their gradient, and what a loss makes of them


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on one device while a program runs."""

    parameters: int = 0
    """The model's, as the program takes them."""
    optimizer: int = 0
    frozen: int = 0
    """Other models, or the base beside adapters."""
    cache: int = 0
    """Keys, values and logits of all slots."""
    activations: int = 0
    """Gradients, what the backward pass keeps, and what is computed in between."""
    beside: int = 0
    """What lies on the device meanwhile although the program does not take it."""

    @property
    def total(self) -> int:
        return sum(dataclasses.astuple(self))


def training(
    config: ModelConfig,
    objective: Objective,
    how: Training,
    shape: Shape,
    others: Mapping[str, ModelConfig],
    initial: bool = False,
) -> Memory:
    """Of a train step; `initial` says that the frozen initial model is there whether or not the loss looks at it. `UserError`
    where a dimension does not divide over the mesh."""
    arrays, axes = transformer.shapes(config), transformer.logical_axes(config)
    held = split_bytes(arrays, shardings(shape.abstract(), axes, arrays))
    trained, trained_axes = (arrays, axes)
    looked = initial or INITIAL in models_of(objective.loss)
    frozen = held if looked and not how.reference_top else 0
    if how.lora.rank:
        trained, trained_axes = lora.shapes(config, how.lora), lora.logical_axes(config, how.lora)
        kept = jax.eval_shape(functools.partial(lora.freeze, how.lora), arrays)
        frozen = split_bytes(kept, shardings(shape.abstract(), lora.frozen_axes(config, how.lora), kept))
    places = shardings(shape.abstract(), trained_axes, trained)
    count = split_bytes(trained, places, 1)
    if not how.reference_top:
        for other in others.values():
            other_arrays = transformer.shapes(other)
            frozen += split_bytes(other_arrays, shardings(shape.abstract(), transformer.logical_axes(other), other_arrays))
    moment = np.dtype(jnp.dtype(how.moments)).itemsize
    return Memory(
        parameters=split_bytes(trained, places),
        optimizer=_MOMENTS * moment * count,
        frozen=frozen,
        activations=FLOAT * count * (2 if how.accumulation > 1 else 1) + step_bytes(config, objective, how, shape),
    )


def step_bytes(config: ModelConfig, objective: Objective, how: Training, shape: Shape) -> int:
    """What a micro-batch's forward and backward pass hold, without gradients of parameters that lie split."""
    rows = how.batching.rows // how.accumulation // shape.ways
    length = how.batching.length
    own = local(config, shape.tensor)
    kept = row_bytes(own, length)
    # While a layer is recomputed, all of it is there.
    layer = 0 if config.remat == "none" else row_bytes(dataclasses.replace(own, remat="none"), length) // config.layers
    matrix = config.vocab_size * config.width // shape.tensor
    tokens = min(objective.block // shape.ways, rows * length)
    block = _BLOCKS * FLOAT * tokens * config.vocab_size // shape.tensor
    return rows * (kept + layer) + block + matrix * (FLOAT + _item(config))


def local(config: ModelConfig, tensor: int) -> ModelConfig:
    """The part of a model that one of `tensor` devices computes: some of its heads and of its feed-forward part."""
    return dataclasses.replace(
        config,
        heads=config.heads // tensor,
        kv_heads=config.kv_heads // tensor,
        head_dim=config.head_size,
        mlp=config.mlp_size // tensor,
    )


@functools.cache
def row_bytes(config: ModelConfig, length: int) -> int:
    """What the backward pass keeps of one row: of the traced model the difference that a second row makes."""

    def kept(rows: int) -> int:
        tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)

        def backward(params: Any, *arrays: Any) -> Any:
            return jax.vjp(lambda params: transformer.forward(config, params, *arrays), params)[1]

        return bytes_of(jax.eval_shape(backward, transformer.shapes(config), tokens, tokens, tokens))

    return kept(2) - kept(1)


def sampling(config: ModelConfig, how: Decoding, slots: int, shape: Shape, beside: int) -> Memory:
    """Of decoding with a cache of `slots` tokens for each row. `beside`: what else lies on the device, besides the parameters
    that the weights were laid out of, which do too."""
    arrays, axes = transformer.shapes(config), transformer.logical_axes(config)
    rows = how.batch // shape.ways
    cache = jax.eval_shape(lambda: decoding.empty(config, rows, slots))
    logits = rows * config.vocab_size * (FLOAT + (how.repetition_penalty != 1))
    return Memory(
        parameters=weight_bytes(config, how, shape, slots),
        cache=bytes_of(cache) // shape.tensor + logits,
        activations=_BLOCKS * rows * config.vocab_size * FLOAT,
        beside=beside + split_bytes(arrays, resting(shape.abstract(), axes, arrays)),
    )


def weight_bytes(config: ModelConfig, how: Decoding, shape: Shape, positions: int) -> int:
    """The weights as decoding multiplies them: of the model's type, split over fsdp and tensor."""
    arrays, places = transformer.shapes(config), weight_shardings(config, shape.abstract())
    item = 1 if how.weights == "int8" else _item(config)
    whole = split_bytes(arrays, places, item)
    if how.weights == "int8":  # embedding and output matrix stay as they are
        whole += (_item(config) - 1) * config.vocab_size * config.width // (shape.fsdp * shape.tensor)
    if config.tied_embeddings:  # the output matrix is the embedding's transpose, laid out beside it
        whole += _item(config) * config.vocab_size * config.width // (shape.fsdp * shape.tensor)
    return whole + len(set(config.local_layers)) * positions * config.head_size * FLOAT


def cache_bytes(config: ModelConfig, rows: int, shape: Shape) -> float:
    """Keys and values of one token of each of `rows` rows, on one device."""
    item = 2 * config.layers * config.kv_heads * config.head_size * _item(config)
    return item * rows / (shape.ways * shape.tensor)


def reading(config: ModelConfig, rows: int, length: int, block: int, shape: Shape, spread: bool = False) -> Memory:
    """Of a forward pass over rows of tokens, from parameters that lie split as for training, or `spread` over all devices."""
    arrays, axes = transformer.shapes(config), transformer.logical_axes(config)
    own = -(-rows // shape.ways)
    matrix = config.vocab_size * config.width // shape.tensor * _item(config)
    logits = _BLOCKS * FLOAT * min(max(1, block // shape.ways), own * length) * config.vocab_size // shape.tensor
    places = (resting if spread else shardings)(shape.abstract(), axes, arrays)
    return Memory(
        parameters=split_bytes(arrays, places),
        activations=own * forward_bytes(config, length, shape) + matrix + logits,
    )


def forward_bytes(config: ModelConfig, length: int, shape: Shape) -> int:
    """What one layer holds of a row in a forward pass, about: the residual stream twice, and the larger of attention's arrays and
    those of the feed-forward part."""
    own = local(config, shape.tensor)
    heads = 2 * (own.heads + own.kv_heads) * own.head_size
    return length * _item(config) * (2 * config.width + max(heads, 3 * own.mlp_size))


def split_bytes(arrays: Any, places: Any, item: int = 0) -> int:
    """Bytes of arrays on one device; with an `item`, of so many bytes for each number."""
    pairs = zip(jax.tree.leaves(arrays), jax.tree.leaves(places), strict=True)
    return sum(prod(place.shard_shape(tuple(leaf.shape))) * (item or np.dtype(leaf.dtype).itemsize) for leaf, place in pairs)


def bytes_of(arrays: Any) -> int:
    return sum(prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(arrays))


def remats() -> tuple[RematKind, ...]:
    """What the backward pass may recompute, the least computation first."""
    return "none", "products", "attention", "layers"


def _item(config: ModelConfig) -> int:
    return int(np.dtype(jnp.dtype(config.dtype)).itemsize)
