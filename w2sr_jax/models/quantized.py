"""The layers' matrices in a few bits per weight (qwix), for a frozen base under adapters and for decoding. Norms, biases,
embedding and output matrix stay as they are.

A quantised matrix is a `qwix.QArray` with one axis of inputs and one of outputs: values [layers, inputs, outputs], scales
[layers, blocks of inputs, outputs].
"""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import MATRICES, Kind

BLOCK = 64
"""Inputs that share a scale, as in the QLoRA paper; fewer where 64 does not divide the inputs."""

INPUTS: Mapping[str, int] = {name: 2 if name == "output" else 1 for name in MATRICES}
"""How many of a matrix's axes, after that of the layers, are inputs."""


def quantize(kind: Kind, params: Mapping[str, Any]) -> Any:
    """`params` with the layers' matrices in `kind`; layer by layer, so that little more than the result is in memory."""
    return _matrices(params, lambda name, leaf: _quantize(kind, flat(name, leaf)))


def dequantize(config: ModelConfig, params: Mapping[str, Any], shapes: Mapping[str, Any]) -> Any:
    """The parameters that `quantize` rounded, float32, with the shapes of `shapes`: exactly the values by which products in
    `config.dtype` multiply."""
    import qwix

    def one(name: str, leaf: Any) -> Array:
        return jax.lax.map(lambda layer: qwix.dequantize(layer.astype(config.dtype)), leaf).astype(jnp.float32)

    restored = _matrices(params, one)
    return jax.tree.map(lambda leaf, like: leaf.reshape(like.shape), restored, dict(shapes))


def logical_axes(kind: Kind, axes: Mapping[str, Any], shapes: Mapping[str, Any]) -> Any:
    """The axes' names of the tree that `quantize` returns, from the names and shapes of the parameters. Blocks of inputs are not
    split."""
    quantized = jax.eval_shape(lambda: quantize(kind, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), dict(shapes))))

    def one(name: str, names: tuple[str, ...], leaf: Any) -> Any:
        whole = (names[0], names[1], names[1 + INPUTS[name]])
        return jax.tree.map(lambda part: whole if part.shape == leaf.shape else (names[0], None, whole[2]), leaf)

    layers = {
        part: {
            name: one(name, names, quantized["layers"][part][name]) if name in MATRICES else names
            for name, names in group.items()
        }
        for part, group in axes["layers"].items()
    }
    return {**axes, "layers": layers}


def flat(name: str, leaf: Float[Array, "N *axes"]) -> Float[Array, "N I O"]:
    """A stacked matrix with one axis of inputs and one of outputs."""
    split = 1 + INPUTS[name]
    return leaf.reshape(leaf.shape[0], prod(leaf.shape[1:split]), prod(leaf.shape[split:]))


def _quantize(kind: Kind, stacked: Float[Array, "N I O"]) -> Any:
    import qwix

    blocks = {} if kind == "int8" else {0: next(size for size in range(BLOCK, 0, -1) if stacked.shape[1] % size == 0)}

    def one(layer: Float[Array, "I O"]) -> Any:
        return qwix.quantize(layer.astype(jnp.float32), kind, channelwise_axes=[1], tiled_axes=blocks)

    return jax.lax.map(one, stacked)


def _matrices(params: Mapping[str, Any], change: Callable[[str, Any], Any]) -> dict[str, Any]:
    layers = {
        part: {name: change(name, leaf) if name in MATRICES else leaf for name, leaf in group.items()}
        for part, group in params["layers"].items()
    }
    return {**params, "layers": layers}
