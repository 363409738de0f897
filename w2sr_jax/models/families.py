"""The `config.json` of Hugging Face models ↔ our ModelConfig: what the families fix, what differs, and what is refused by name.

Fields and defaults are those of transformers' configuration classes, as version 4 and as version 5 write them. No jax.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import rope_fields, snapshot
from w2sr_jax.models.config import LARGEST, ModelConfig, Reach
from w2sr_jax.models.config_fields import Fields

Type = Literal["float32", "bfloat16"]
CONTEXT = 32_768
"""`max_position_embeddings` where the original does not say; our models have no such limit."""
KEPT = ("model_type", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "initializer_range")
"""Fields of an original `config.json` that no ModelConfig holds."""
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_REACHES: Mapping[str, Reach] = {"full_attention": "global", "sliding_attention": "local"}
_KINDS = {reach: kind for kind, reach in _REACHES.items()}
_ACTIVATIONS: Mapping[Any, Literal["silu", "gelu"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
}
_WRITTEN = {"silu": "silu", "gelu": "gelu_pytorch_tanh"}
_COMPUTING = ("dtype", "param_dtype", "attention", "remat")
"""Fields that say how a model is computed, not what it is."""


@dataclass(frozen=True)
class Family:
    """An architecture of transformers."""

    architecture: str
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that all its models have in common."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `config.json` that may be left out, where not as in all families."""
    activation: str = "hidden_act"
    """The field that names the activation."""
    refused: tuple[str, ...] = ()
    """Switches that must be off."""
    whole_heads: bool = False
    """The width must be a multiple of the number of heads."""


FAMILIES: Mapping[str, Family] = {
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, {"sliding_window": 4096}),
    "qwen3": Family(
        "Qwen3ForCausalLM", {"qk_norm": True}, {"head_dim": 128, "sliding_window": 4096}, refused=("attention_bias",)
    ),
    "llama": Family("LlamaForCausalLM", refused=("attention_bias", "mlp_bias"), whole_heads=True),
    "mistral": Family("MistralForCausalLM", defaults={"sliding_window": 4096, "max_position_embeddings": 131_072}),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {"qk_norm": True, "norm_offset": True, "post_norms": True, "scaled_embeddings": True},
        {
            **{"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
            **{"sliding_window": 4096, "sliding_window_pattern": 6, "query_pre_attn_scalar": 256},
            **{"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "rope_theta": 1_000_000.0},
            "max_position_embeddings": 131_072,
        },
        activation="hidden_activation",
        refused=("attention_bias", "use_bidirectional_attention"),
        whole_heads=True,
    ),
}
WRAPPED = {"gemma3": "gemma3_text"}
"""Models with an image encoder, whose decoder alone is read: the kind of the decoder."""
_DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": False, "max_window_layers": 28}


def architecture(directory: Path | str, dtype: Type = "float32", param_dtype: Type = "float32") -> ModelConfig:
    """What the model in a Hugging Face directory is, by its `config.json` alone. Raises UserError for what is not supported."""
    directory = Path(directory)
    return from_json(snapshot.raw_config(directory), directory / snapshot.CONFIG, dtype, param_dtype)


def kept(directory: Path | str) -> dict[str, Any]:
    """What the `config.json` says that a ModelConfig does not hold, for `to_json`: token ids, context, …"""
    raw = snapshot.raw_config(Path(directory))
    inner = raw.get("text_config")
    merged = {**(inner if isinstance(inner, dict) else {}), **{name: value for name, value in raw.items() if value is not None}}
    kind = WRAPPED.get(str(merged.get("model_type")), merged.get("model_type"))
    if str(kind) in FAMILIES:  # the context that a family has where its config.json is silent
        merged = {**FAMILIES[str(kind)].defaults, **merged}
    return checked_kept(merged | {"model_type": kind}, Path(directory) / snapshot.CONFIG)


def checked_kept(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Those of `KEPT` that `raw` (of `path`) has. `UserError` for one that is not of its type."""
    fields = Fields(raw, path, {})
    for name in KEPT:
        value = raw.get(name)
        if name in _TOKENS and isinstance(value, list):
            if not all(type(token) is int and 0 <= token < LARGEST["vocab_size"] for token in value):
                raise fields.refusal(name, "a list of token ids is")
        elif name == "model_type":
            if not isinstance(value, str | None):
                raise fields.refusal(name, "a name is")
        elif name == "initializer_range":
            fields.optional(name)
        else:
            fields.integer(name, None)
    return {name: raw[name] for name in KEPT if name in raw}


def canonical(config: ModelConfig) -> ModelConfig:
    """The same model in the one spelling that reading gives: sizes that follow from others are None (the feed-forward size is
    given), the pattern is as short as can be, and what has no effect has its default."""
    local = config.local_layers
    scaling, own = rope_fields.canonical(config.rope_scaling), config.local_rope_theta
    if not any(local) or (own == config.rope_theta and scaling.kind == "none"):
        own = None
    return dataclasses.replace(
        config,
        head_dim=None if config.head_size * config.heads == config.width else config.head_size,
        mlp=config.mlp_size,
        rope_scaling=scaling,
        pattern=_shortest(tuple("local" if each else "global" for each in local)),
        window=config.window if any(local) else None,
        local_rope_theta=own,
        query_scale=None if config.query_scale == config.head_size else config.query_scale,
    )


def same(one: ModelConfig, other: ModelConfig) -> bool:
    """Whether two configurations describe the same model, however it is computed."""
    return not _differences(one, other)


def from_json(raw: Mapping[str, Any], path: Path, dtype: Type = "float32", param_dtype: Type = "float32") -> ModelConfig:
    """The model that a `config.json` (of `path`) describes. UserError names the field that is missing or not supported."""
    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in WRAPPED:
        kind, raw = WRAPPED[kind], _unwrapped(raw)
    if not isinstance(kind, str) or kind not in FAMILIES:
        known = ", ".join([*FAMILIES, *WRAPPED])
        raise UserError(f"{path}: model_type {sentences.value(kind)} is not supported; supported are {known}")
    family = FAMILIES[kind]
    fields = Fields(raw, path, {**_DEFAULTS, **family.defaults})
    for name in ("quantization_config", *family.refused):
        if raw.get(name):
            right = "only float32, float16 and bfloat16 weights are" if name == "quantization_config" else "only false is"
            raise fields.refusal(name, right)
    activation = fields.get(family.activation) or "silu"
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise fields.refusal(family.activation, f"supported are {', '.join(_ACTIVATIONS)}")
    layers = fields.size("num_hidden_layers", LARGEST["layers"])
    heads, width = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    window, reaches = _layers(kind, fields, layers)
    rope = rope_fields.read(fields, nested=kind == "gemma3_text")
    gemma: dict[str, Any] = {}
    if kind == "gemma3_text":
        gemma = {
            "query_scale": fields.number("query_pre_attn_scalar"),
            "attention_softcap": fields.optional("attn_logit_softcapping"),
            "logit_softcap": fields.optional("final_logit_softcapping"),
        }
    config = ModelConfig(
        vocab_size=fields.integer("vocab_size"),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=fields.integer("num_key_value_heads", heads),
        head_dim=fields.integer("head_dim", width // heads if heads > 0 and width % heads == 0 else None),
        mlp=fields.integer("intermediate_size"),
        norm_eps=fields.number("rms_norm_eps"),
        tied_embeddings=bool(fields.get("tie_word_embeddings")),
        activation=_ACTIVATIONS[activation],
        pattern=reaches,
        window=window,
        rope_theta=rope.theta,
        rope_scaling=rope.scaling,
        local_rope_theta=rope.local_theta,
        dtype=dtype,
        param_dtype=param_dtype,
        **family.fixed,
        **gemma,
    )
    try:
        config.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return canonical(config)


def to_json(config: ModelConfig, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `config.json` of a model, for transformers 4 and 5. `extra` (see `kept`) adds fields; its model_type, a wish, is
    followed if such a model can be like this one. Raises UserError, naming the fields, for a model that no family has."""
    config.check()
    extra = dict(extra or {})
    natural = _natural(config)
    tried = [kind for kind in (extra.pop("model_type", None), natural, "mistral") if kind in FAMILIES]
    for kind in tried:
        if not _faults(kind, config):
            foreign = _foreign(kind, config)
            taken = sorted(extra.keys() & (foreign.keys() - set(KEPT)))
            if taken:
                raise ValueError(f"extra would overwrite {', '.join(taken)}")
            return {**foreign, **extra}
    faults = _faults(natural, config)
    raise UserError(f"no architecture that others know has {faults} (the nearest is {natural}); it cannot be saved for others")


def _natural(config: ModelConfig) -> str:
    if config.norm_offset or config.post_norms or config.scaled_embeddings:
        return "gemma3_text"
    if config.qk_norm:
        return "qwen3"
    if config.qkv_bias:
        return "qwen2"
    return "mistral" if all(config.local_layers) else "llama"


def _faults(kind: str, config: ModelConfig) -> str:
    """What of a model its `config.json` as one of `kind` would not say, in words; empty if nothing."""
    if FAMILIES[kind].whole_heads and config.width % config.heads:
        return f"a width of {config.width} and {config.heads} heads, of which it is no multiple"
    if kind == "gemma3_text" and (config.query_scale or 0) % 1:
        return f"a query_scale of {config.query_scale}, which is no whole number"
    try:
        return _differences(config, from_json(_foreign(kind, config), Path(snapshot.CONFIG)))
    except UserError as error:
        return f"such fields ({error})"


def _differences(one: ModelConfig, other: ModelConfig) -> str:
    one, other = canonical(one), canonical(other)
    fields = [field.name for field in dataclasses.fields(one) if field.name not in _COMPUTING]
    return ", ".join(f"{name} {getattr(one, name)}" for name in fields if getattr(one, name) != getattr(other, name))


def _foreign(kind: str, config: ModelConfig) -> dict[str, Any]:
    family, scaling = FAMILIES[kind], config.rope_scaling
    context = max(CONTEXT, int(scaling.original * scaling.factor)) if scaling.kind == "llama3" else CONTEXT
    found = {
        "architectures": [family.architecture],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_size,
        "intermediate_size": config.mlp_size,
        family.activation: _WRITTEN[config.activation],
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied_embeddings,
        "max_position_embeddings": context,
        "dtype": config.param_dtype,
        **dict.fromkeys(_TOKENS),
        **dict.fromkeys(family.refused, False),
        **rope_fields.written(config, nested=kind == "gemma3_text"),
    }
    local = config.local_layers
    kinds = [_KINDS["local" if each else "global"] for each in local]
    window = config.window if any(local) else None
    if kind in ("qwen2", "qwen3"):
        found |= {"use_sliding_window": any(local), "sliding_window": window, "layer_types": kinds}
        found["max_window_layers"] = kinds.index(_KINDS["local"]) if any(local) else config.layers
    elif kind == "mistral":
        found["sliding_window"] = config.window if all(local) else None
    elif kind == "gemma3_text":
        scale = config.query_scale if config.query_scale is not None else config.head_size
        found |= {"sliding_window": window, "layer_types": kinds, "query_pre_attn_scalar": int(scale)}
        found |= {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.logit_softcap}
    return found


def _layers(kind: str, fields: Fields, layers: int) -> tuple[int | None, tuple[Reach, ...]]:
    """The window, and what each layer sees."""
    window = fields.integer("sliding_window", None) if kind != "llama" else None
    if kind in ("qwen2", "qwen3") and not fields.get("use_sliding_window"):
        window = None
    named = fields.get("layer_types")
    if kind in ("llama", "mistral"):
        reaches: tuple[Reach, ...] = ("global" if window is None else "local",) * layers
    elif kind in ("qwen2", "qwen3"):
        first = layers if window is None else fields.integer("max_window_layers")
        reaches = tuple("global" if layer < first else "local" for layer in range(layers))
    else:
        older = fields.raw.get("_sliding_window_pattern")
        every = older if isinstance(older, int) else fields.integer("sliding_window_pattern")
        reaches = tuple("local" if every < 1 or (layer + 1) % every else "global" for layer in range(layers))
    if named is not None:
        if not isinstance(named, list) or not set(map(str, named)) <= _REACHES.keys() or len(named) != layers:
            raise fields.refusal("layer_types", f"one of {' and '.join(_REACHES)} for each of the {layers} layers is")
        given = tuple(_REACHES[name] for name in named)
        if given != reaches and kind in ("llama", "mistral"):
            raise fields.refusal("layer_types", f"in a {kind} all layers see the same, by its sliding_window {window}")
        reaches = given
    if "local" in reaches and window is None:
        raise fields.refusal("layer_types", "layers of sliding_attention need a sliding_window in use")
    return window, reaches


def _unwrapped(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's part of the `config.json` of a model with an image encoder."""
    inner = raw.get("text_config")
    shared = {name: raw[name] for name in ("tie_word_embeddings", "quantization_config") if raw.get(name) is not None}
    return {**shared, **(inner if isinstance(inner, dict) else {})}


def _shortest(reaches: tuple[Reach, ...]) -> tuple[Reach, ...]:
    """The shortest pattern that, repeated, gives these layers."""
    for length in range(1, len(reaches)):
        if all(reach == reaches[layer % length] for layer, reach in enumerate(reaches)):
            return reaches[:length]
    return reaches
