"""Low-rank adapters beside the matrices of the decoder: their shapes, first values, the forward pass with them, and the
parameters that they are merged to.

Two trees stand for the parameters: the frozen base (`freeze`), and the trained tree, float32, with `NAME_lora_a` [N, inputs,
rank] and `NAME_lora_b` [N, rank, outputs] for each target `NAME`, and with `embeddings` also `embedding` and `output`.
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from w2sr_jax.models import quantized, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import MATRICES, Lora
from w2sr_jax.models.product import A, B
from w2sr_jax.models.transformer import Params

PARTS: Mapping[str, str] = {name: "attention" if name in ("query", "key", "value", "output") else "mlp" for name in MATRICES}


def shapes(config: ModelConfig, lora: Lora) -> Params:
    """The trained tree as `jax.ShapeDtypeStruct`s."""
    base = transformer.shapes(config)

    def pair(name: str) -> dict[str, Any]:
        layers, *sizes = base["layers"][PARTS[name]][name].shape
        split = quantized.INPUTS[name]
        return {
            name + A: jax.ShapeDtypeStruct((layers, prod(sizes[:split]), lora.rank), jnp.float32),
            name + B: jax.ShapeDtypeStruct((layers, lora.rank, prod(sizes[split:])), jnp.float32),
        }

    whole = {name: jax.ShapeDtypeStruct(base[name].shape, jnp.float32) for name in _whole(config, lora)}
    return {**whole, "layers": _layers(lora, pair)}


def logical_axes(config: ModelConfig, lora: Lora) -> Params:
    """The axes' names of the trained tree: those of the base; the rank is never split."""
    base = transformer.logical_axes(config)

    def pair(name: str) -> dict[str, Any]:
        axes = base["layers"][PARTS[name]][name]
        return {name + A: (axes[0], axes[1], None), name + B: (axes[0], None, axes[1 + quantized.INPUTS[name]])}

    return {**{name: base[name] for name in _whole(config, lora)}, "layers": _layers(lora, pair)}


def frozen_axes(config: ModelConfig, lora: Lora) -> Params:
    """The axes' names of the frozen base that `freeze` returns."""
    axes = transformer.logical_axes(config)
    return axes if lora.quantize == "none" else quantized.logical_axes(lora.quantize, axes, transformer.shapes(config))


def init(config: ModelConfig, lora: Lora, base: Params, key: Key[Array, ""]) -> Params:
    """The trained tree before the first step: A uniform within ±1/√inputs (as peft draws it), B 0, the rest as in the base."""

    def pair(name: str) -> dict[str, Any]:
        first, second = whole["layers"][PARTS[name]][name + A], whole["layers"][PARTS[name]][name + B]
        bound = first.shape[1] ** -0.5
        drawn = jax.random.uniform(jax.random.fold_in(key, MATRICES.index(name)), first.shape, jnp.float32, -bound, bound)
        return {name + A: drawn, name + B: jnp.zeros(second.shape, jnp.float32)}

    whole = shapes(config, lora)
    return {**{name: base[name].astype(jnp.float32) for name in _whole(config, lora)}, "layers": _layers(lora, pair)}


def freeze(lora: Lora, base: Params) -> Params:
    """The frozen base beside which adapters are trained: `base` itself, or quantised."""
    return base if lora.quantize == "none" else quantized.quantize(lora.quantize, base)


def beside(lora: Lora, frozen: Params, trained: Params) -> dict[str, Any]:
    """One tree of both for `transformer.forward`, which adds the adapters' products. B is multiplied by alpha / rank."""

    def scaled(name: str, leaf: Array) -> Array:
        return leaf * lora.scale if name.endswith(B) else leaf

    layers = {
        part: {**group, **{name: scaled(name, leaf) for name, leaf in trained["layers"].get(part, {}).items()}}
        for part, group in frozen["layers"].items()
    }
    return {**frozen, **trained, "layers": layers}


def merge(config: ModelConfig, lora: Lora, base: Params, trained: Params) -> Params:
    """Plain parameters, in `config.param_dtype`, that compute what `base` and the trained adapters do together. A quantised base
    has the dequantised values that it had in training."""
    return effective(config, lora, freeze(lora, base), trained)


def effective(config: ModelConfig, lora: Lora, frozen: Params, trained: Params) -> Params:
    """As `merge`, for a base that is frozen already."""
    like = transformer.shapes(config)
    whole = dict(frozen) if lora.quantize == "none" else quantized.dequantize(config, frozen, like)
    layers = {part: dict(group) for part, group in whole["layers"].items()}
    for name in lora.targets:
        pair, base = trained["layers"][PARTS[name]], layers[PARTS[name]][name]
        delta = jnp.einsum("nir,nro->nio", pair[name + A], pair[name + B], precision=jax.lax.Precision.HIGHEST)
        layers[PARTS[name]][name] = base.astype(jnp.float32) + lora.scale * delta.reshape(base.shape)
    merged = {**whole, **{name: trained[name] for name in _whole(config, lora)}, "layers": layers}
    return jax.tree.map(lambda leaf, struct: leaf.astype(struct.dtype), merged, dict(like))


def _whole(config: ModelConfig, lora: Lora) -> tuple[str, ...]:
    """The parameters that are trained whole, without adapters."""
    if not lora.embeddings:
        return ()
    return ("embedding",) if config.tied_embeddings else ("embedding", "output")


def _layers(lora: Lora, pair: Callable[[str], dict[str, Any]]) -> dict[str, dict[str, Any]]:
    layers: dict[str, dict[str, Any]] = {}
    for name in (name for name in MATRICES if name in lora.targets):
        layers.setdefault(PARTS[name], {}).update(pair(name))
    return layers
