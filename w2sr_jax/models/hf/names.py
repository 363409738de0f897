"""What the tensors of Hugging Face models are called. No other module knows foreign names. No jax."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Name(NamedTuple):
    """A parameter's tensor there. Foreign matrices are [outputs, inputs] and biases [outputs], with one axis of each."""

    foreign: str
    inputs: int | None = None
    """How many of our first axes are inputs; None: the tensor has the same shape there as here."""


@dataclass(frozen=True)
class Names:
    """The names of a family's tensors."""

    layers: Mapping[str, Name]
    """By path below `layers` (such as `attention.query`), the tensor of one layer, its name without `layer`."""
    layer: str = "model.layers.{}."
    """What the names of a layer's tensors begin with; its number stands for the braces."""
    embedding: str = "model.embed_tokens.weight"
    norm: str = "model.norm.weight"
    """The scale of the last norm."""
    output: str = "lm_head.weight"
    """The output matrix, which models with tied embeddings need not have."""
    ignored: tuple[str, ...] = ("rotary_emb.inv_freq",)
    """Ends of the names of tensors that hold no parameters."""

    def parameter(self, path: str) -> Name:
        """The tensor (of one layer) of one of our parameters, by its path with dots."""
        whole = {"embedding": Name(self.embedding), "norm.scale": Name(self.norm), "output": Name(self.output, 1)}
        return whole[path] if path in whole else self.layers[path.removeprefix("layers.")]


_LLAMA = {
    "attention_norm.scale": Name("input_layernorm.weight"),
    "attention.query": Name("self_attn.q_proj.weight", 1),
    "attention.key": Name("self_attn.k_proj.weight", 1),
    "attention.value": Name("self_attn.v_proj.weight", 1),
    "attention.query_bias": Name("self_attn.q_proj.bias", 0),
    "attention.key_bias": Name("self_attn.k_proj.bias", 0),
    "attention.value_bias": Name("self_attn.v_proj.bias", 0),
    "attention.query_norm.scale": Name("self_attn.q_norm.weight"),
    "attention.key_norm.scale": Name("self_attn.k_norm.weight"),
    "attention.output": Name("self_attn.o_proj.weight", 2),
    "mlp_norm.scale": Name("post_attention_layernorm.weight"),
    "mlp.gate": Name("mlp.gate_proj.weight", 1),
    "mlp.up": Name("mlp.up_proj.weight", 1),
    "mlp.down": Name("mlp.down_proj.weight", 1),
}
_POST_NORMS = {
    "attention_post_norm.scale": Name("post_attention_layernorm.weight"),
    "mlp_norm.scale": Name("pre_feedforward_layernorm.weight"),
    "mlp_post_norm.scale": Name("post_feedforward_layernorm.weight"),
}
LLAMA = Names(_LLAMA)
"""Of Llama, and of all who follow it: Qwen2, Qwen3, Mistral."""
GEMMA = Names({**_LLAMA, **_POST_NORMS})
"""Of Gemma 3, which norms what attention and feed-forward part give, too."""

_WRAPPERS = ("language_model.model.", "model.language_model.")
_WRAPPED_HEAD = "language_model.lm_head.weight"
_VISION = ("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector.")


def plain(names: Names, name: str, wrapped: bool) -> str | None:
    """A tensor's name as in a model of text alone; None for a tensor that a decoder has no use for. `wrapped`: it is from a model
    with an image encoder, whose decoder's tensors have a prefix."""
    if name.endswith(names.ignored) or (wrapped and name.startswith(_VISION)):
        return None
    if not wrapped:
        return name
    if name == _WRAPPED_HEAD:
        return names.output
    for wrapper in _WRAPPERS:
        if name.startswith(wrapper):
            return "model." + name.removeprefix(wrapper)
    return name
