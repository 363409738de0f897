"""Hugging Face directories of Qwen2, Qwen3 and Llama models: safetensors ↔ our parameters. No other module knows foreign names.

Nothing is executed from such a directory: only `config.json` and `*.safetensors` are read, pickles (`.bin`, `.pt`) are refused.
"""

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Shaped
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig

Tensor = Shaped[np.ndarray, "..."]
Type = Literal["float32", "bfloat16"]
FAMILIES = {"qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM", "llama": "LlamaForCausalLM"}
CONTEXT = 32_768
"""`max_position_embeddings` written by `save`; our models have no such limit."""


class _Name(NamedTuple):
    """A parameter there. Our first `inputs` axes are inputs; foreign matrices are [outputs, inputs], biases [outputs]."""

    foreign: str
    inputs: int | None = None
    """None: the same shape there as here."""


_WHOLE = {
    "embedding": _Name("model.embed_tokens.weight"),
    "norm.scale": _Name("model.norm.weight"),
    "output": _Name("lm_head.weight", 1),
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


def load(directory: Path, dtype: Type = "float32", param_dtype: Type = "float32") -> tuple[ModelConfig, transformer.Params]:
    """The model in `directory`, its parameters as NumPy arrays of `param_dtype`.

    Raises UserError for a directory without safetensors, an architecture or switch that our decoder lacks, and a tensor that is
    missing, superfluous or of another shape than `config.json` says.
    """
    directory = Path(directory)
    where = _tensors(directory)
    config = _config(directory / "config.json", "lm_head.weight" in where, dtype, param_dtype)
    shapes = dict(_flat(transformer.shapes(config)))
    left = {name for name in where if not name.endswith("rotary_emb.inv_freq")} - {"lm_head.weight"}
    params: dict[str, Any] = {}
    for path, struct in shapes.items():
        layered = path.startswith("layers.")
        name = _LAYER[path.removeprefix("layers.")] if layered else _WHOLE[path]
        names = [f"model.layers.{layer}.{name.foreign}" for layer in range(config.layers)] if layered else [name.foreign]
        left -= set(names)
        shape = struct.shape[1:] if layered else struct.shape
        parts = [_read(directory, where, each, name.inputs, shape).astype(struct.dtype) for each in names]
        _put(params, path, np.stack(parts) if layered else parts[0])
    if left:
        raise UserError(
            f"{directory} holds a tensor that a {_family(config)} model of its config.json does not have: {min(left)}"
        )
    return config, params


def save(directory: Path, config: ModelConfig, params: transformer.Params) -> None:
    """Writes `config.json` and `model.safetensors` as transformers expects them. `params`: arrays whole on this host.

    qk_norm makes it a Qwen3, qkv_bias a Qwen2, neither a Llama; both at once is a UserError, as no such architecture exists.
    """
    family = _family(config)
    tensors: dict[str, Tensor] = {}
    for path, leaf in _flat(params):
        value = np.asarray(leaf)
        if path.startswith("layers."):
            name = _LAYER[path.removeprefix("layers.")]
            for layer in range(config.layers):
                tensors[f"model.layers.{layer}.{name.foreign}"] = _outward(value[layer], name.inputs)
        else:
            tensors[_WHOLE[path].foreign] = _outward(value, _WHOLE[path].inputs)
    with files.replacing(Path(directory) / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    foreign = {
        "architectures": [FAMILIES[family]],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tied_embeddings,
        "max_position_embeddings": CONTEXT,
        "dtype": config.param_dtype,
    }
    files.write_json(Path(directory) / "config.json", foreign | ({} if family == "qwen2" else {"attention_bias": False}))


def _config(path: Path, has_output: bool, dtype: Type, param_dtype: Type) -> ModelConfig:
    raw = files.read_json(path)
    family = raw.get("model_type")
    if family not in FAMILIES:
        raise UserError(f"{path}: model_type is {family!r}; supported are {', '.join(FAMILIES)}")
    rope = {**(raw.get("rope_scaling") or {}), **(raw.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    partial = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    refused = {
        f"rotary positions of type {kind!r}": kind != "default",
        f"partial_rotary_factor {partial}": partial != 1.0,
        f"hidden_act {raw.get('hidden_act')!r}": raw.get("hidden_act", "silu") not in ("silu", "swish"),
        "attention_bias (a bias on the output projection too)": bool(raw.get("attention_bias")),
        "mlp_bias": bool(raw.get("mlp_bias")),
        "use_sliding_window": bool(raw.get("use_sliding_window")),
        "layer_types other than full_attention": not set(raw.get("layer_types") or ()) <= {"full_attention"},
        "quantization_config": bool(raw.get("quantization_config")),
    }
    for feature, present in refused.items():
        if present:
            raise UserError(f"{path}: {feature} is not supported")
    try:
        config = ModelConfig(
            vocab_size=raw["vocab_size"],
            width=raw["hidden_size"],
            layers=raw["num_hidden_layers"],
            heads=raw["num_attention_heads"],
            kv_heads=raw.get("num_key_value_heads") or raw["num_attention_heads"],
            head_dim=raw.get("head_dim") or (128 if family == "qwen3" else None),
            mlp=raw["intermediate_size"],
            rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10_000.0))),
            norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            tied_embeddings=bool(raw.get("tie_word_embeddings", not has_output)),
            dtype=dtype,
            param_dtype=param_dtype,
        )
    except KeyError as error:
        raise UserError(f"{path}: the field {error} is missing") from None
    config.check()
    return config


def _family(config: ModelConfig) -> str:
    if config.qk_norm and config.qkv_bias:
        raise UserError(
            "a model with both qk_norm and qkv_bias is neither a Qwen2, a Qwen3 nor a Llama; it cannot be saved for others"
        )
    return "qwen3" if config.qk_norm else "qwen2" if config.qkv_bias else "llama"


def _tensors(directory: Path) -> dict[str, str]:
    """Tensor name → file name, of every `*.safetensors` in the directory."""
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory")
    found = sorted(directory.glob("*.safetensors"))
    if not found:
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in directory.glob(pattern))
        reason = (
            f"{pickles[0]} is a pickle, which can run code when read, and is refused; convert it"
            if pickles
            else "add the weights"
        )
        raise UserError(f"{directory} holds no *.safetensors file: {reason}")
    where: dict[str, str] = {}
    for path in found:
        try:
            with safe_open(path, framework="np") as file:
                where |= dict.fromkeys(file.keys(), path.name)
        except SafetensorError as error:
            raise UserError(f"{path} is not a sound safetensors file: {error}") from None
    return where


def _read(directory: Path, where: Mapping[str, str], name: str, inputs: int | None, shape: tuple[int, ...]) -> Tensor:
    if name not in where:
        raise UserError(f"{directory} lacks the tensor {name} that its config.json calls for")
    with safe_open(directory / where[name], framework="np") as file:
        value = np.asarray(file.get_tensor(name))
    if value.shape != _foreign_shape(shape, inputs):
        wanted = _foreign_shape(shape, inputs)
        raise UserError(f"{directory / where[name]}: {name} has the shape {value.shape}; by config.json it should have {wanted}")
    return value if inputs is None else value.T.reshape(shape)


def _outward(value: Tensor, inputs: int | None) -> Tensor:
    return np.ascontiguousarray(value if inputs is None else value.reshape(_foreign_shape(value.shape, inputs)[::-1]).T)


def _foreign_shape(shape: tuple[int, ...], inputs: int | None) -> tuple[int, ...]:
    if inputs is None:
        return shape
    return (prod(shape[inputs:]), prod(shape[:inputs])) if inputs else (prod(shape),)


def _flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _put(tree: dict[str, Any], path: str, value: Tensor) -> None:
    *above, name = path.split(".")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[name] = value
