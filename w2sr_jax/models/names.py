"""Our parameters ↔ the tensors of Hugging Face models. No other module knows foreign names."""

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Shaped

from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig

Tensor = Shaped[np.ndarray, "..."]
HEAD = "lm_head.weight"
EMBEDDING = "model.embed_tokens.weight"
LAYERS = "layers."
_IGNORED = "rotary_emb.inv_freq"
_WRAPPERS = ("language_model.model.", "model.language_model.")
_WRAPPED_HEAD = "language_model.lm_head.weight"
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


class _Name(NamedTuple):
    """A parameter there. Our first `inputs` axes are inputs; foreign matrices are [outputs, inputs], biases [outputs]."""

    foreign: str
    inputs: int | None = None
    """None: the same shape there as here."""


_WHOLE = {
    "embedding": _Name(EMBEDDING),
    "norm.scale": _Name("model.norm.weight"),
    "output": _Name(HEAD, 1),
}
_LAYER = {
    "attention_norm.scale": _Name("input_layernorm.weight"),
    "attention.query": _Name("self_attn.q_proj.weight", 1),
    "attention.key": _Name("self_attn.k_proj.weight", 1),
    "attention.value": _Name("self_attn.v_proj.weight", 1),
    "attention.query_bias": _Name("self_attn.q_proj.bias", 0),
    "attention.key_bias": _Name("self_attn.k_proj.bias", 0),
    "attention.value_bias": _Name("self_attn.v_proj.bias", 0),
    "attention.query_norm.scale": _Name("self_attn.q_norm.weight"),
    "attention.key_norm.scale": _Name("self_attn.k_norm.weight"),
    "attention.output": _Name("self_attn.o_proj.weight", 2),
    "mlp_norm.scale": _Name("post_attention_layernorm.weight"),
    "mlp.gate": _Name("mlp.gate_proj.weight", 1),
    "mlp.up": _Name("mlp.up_proj.weight", 1),
    "mlp.down": _Name("mlp.down_proj.weight", 1),
}
_POST_NORMS = {
    "attention_post_norm.scale": _Name("post_attention_layernorm.weight"),
    "mlp_norm.scale": _Name("pre_feedforward_layernorm.weight"),
    "mlp_post_norm.scale": _Name("post_feedforward_layernorm.weight"),
}
"""Where attention and feed-forward part are normed before and after."""


class Place(NamedTuple):
    """Where a parameter of ours lies there: one tensor, or one for each layer of our stack."""

    path: str
    names: tuple[str, ...]
    inputs: int | None
    shape: tuple[int, ...]
    """Of one layer, as it is here."""
    layered: bool

    @property
    def foreign_shape(self) -> tuple[int, ...]:
        """Of each of the tensors."""
        if self.inputs is None:
            return self.shape
        inputs, outputs = prod(self.shape[: self.inputs]), prod(self.shape[self.inputs :])
        return (outputs, inputs) if self.inputs else (outputs,)

    def inward(self, value: Tensor) -> Tensor:
        """A view of the foreign tensor as it is here."""
        return value if self.inputs is None else value.T.reshape(self.shape)

    def outward(self, value: Tensor) -> Tensor:
        """Our tensor (of one layer) as it is there."""
        return value if self.inputs is None else value.reshape(self.foreign_shape[::-1]).T


def places(config: ModelConfig) -> dict[str, Place]:
    """For each parameter, by its path with dots, where it lies there."""
    layer = {**_LAYER, **_POST_NORMS} if config.post_norms else _LAYER
    found = {}
    for path, struct in flat(transformer.shapes(config)):
        if path.startswith(LAYERS):
            name = layer[path.removeprefix(LAYERS)]
            names = tuple(f"model.layers.{number}.{name.foreign}" for number in range(config.layers))
            found[path] = Place(path, names, name.inputs, tuple(struct.shape[1:]), True)
        else:
            found[path] = Place(path, (_WHOLE[path].foreign,), _WHOLE[path].inputs, tuple(struct.shape), False)
    return found


def plain(name: str, wrapped: bool) -> str | None:
    """A tensor's name as in a model of text alone; None for one that a decoder has no use for. `wrapped`: it is a decoder's in a
    model with an image encoder."""
    if name.endswith(_IGNORED) or (wrapped and name.startswith(_VISION)):
        return None
    if not wrapped:
        return name
    if name == _WRAPPED_HEAD:
        return HEAD
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return "model." + name.removeprefix(wrapper)
    return name


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves with their paths."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def put(tree: dict[str, Any], path: str, value: Any) -> None:
    """Hang a leaf in at its path."""
    *above, name = path.split(".")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[name] = value
