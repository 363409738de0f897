"""The `config.json` of Hugging Face models ↔ our ModelConfig. What is not supported is refused by name. No jax."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.models.config import LARGEST, ModelConfig, Reach
from w2sr_jax.models.hf import rope, snapshot, windows
from w2sr_jax.models.hf.families import DEFAULTS, FAMILIES, WRAPPED
from w2sr_jax.models.hf.fields import Fields
from w2sr_jax.models.hf.names import Names

Type = Literal["float32", "bfloat16"]
CONTEXT = 32_768
"""`max_position_embeddings` where the original does not say; our models have no such limit."""
EXTRAS = ("model_type", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings", "initializer_range")
"""Fields of an original `config.json` that no ModelConfig holds."""
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_ACTIVATIONS: Mapping[Any, Literal["silu", "gelu"]] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu",
    "gelu_new": "gelu",
}
_WRITTEN = {"silu": "silu", "gelu": "gelu_pytorch_tanh"}
_COMPUTING = ("dtype", "param_dtype", "attention", "remat")
"""Fields that say how a model is computed, not what it is."""


def architecture(directory: Path | str, dtype: Type = "float32", param_dtype: Type = "float32") -> ModelConfig:
    """What the model in a Hugging Face directory is, by its `config.json` alone. Raises UserError for what is not supported."""
    directory = Path(directory)
    return from_json(snapshot.raw_config(directory), directory / snapshot.CONFIG, dtype, param_dtype)


def extras(directory: Path | str) -> dict[str, Any]:
    """The `EXTRAS` of the model in a Hugging Face directory, for `to_json`. Raises UserError for one that is not of its type."""
    raw = snapshot.raw_config(Path(directory))
    inner = raw.get("text_config")
    merged = {**(inner if isinstance(inner, dict) else {}), **{name: value for name, value in raw.items() if value is not None}}
    kind = WRAPPED.get(str(merged.get("model_type")), merged.get("model_type"))
    if str(kind) in FAMILIES:  # the context that a family has where its config.json is silent
        merged = {**FAMILIES[str(kind)].defaults, **merged}
    return checked_extras(merged | {"model_type": kind}, Path(directory) / snapshot.CONFIG)


def checked_extras(raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Those of `EXTRAS` that `raw` (of `path`) has. Raises UserError for one that is not of its type."""
    fields = Fields(raw, path, {})
    for name in EXTRAS:
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
    return {name: raw[name] for name in EXTRAS if name in raw}


def canonical(config: ModelConfig) -> ModelConfig:
    """The same model in the one spelling that reading gives: sizes that follow from others are None (the feed-forward size is
    a number), the pattern is as short as can be, and what has no effect has its default."""
    local = config.local_layers
    scaling, own = rope.canonical(config.rope_scaling), config.local_rope_theta
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
    """The model that a `config.json` (of `path`) describes. Raises UserError, naming the field that is missing or not
    supported."""
    kind = raw.get("model_type")
    if isinstance(kind, str) and kind in WRAPPED:
        kind, raw = WRAPPED[kind], _unwrapped(raw)
    if not isinstance(kind, str) or kind not in FAMILIES:
        supported = ", ".join([*FAMILIES, *WRAPPED])
        raise UserError(f"{path}: model_type {sentences.value(kind)} is not supported; supported are {supported}")
    family = FAMILIES[kind]
    fields = Fields(raw, path, {**DEFAULTS, **family.defaults})
    for name in ("quantization_config", *family.refused):
        if raw.get(name):
            right = "only float32, float16 and bfloat16 weights are" if name == "quantization_config" else "only false is"
            raise fields.refusal(name, right)
    activation = fields.get(family.activation) or "silu"
    if not isinstance(activation, str) or activation not in _ACTIVATIONS:
        raise fields.refusal(family.activation, f"supported are {', '.join(_ACTIVATIONS)}")
    layers = fields.size("num_hidden_layers", LARGEST["layers"])
    heads, width = fields.integer("num_attention_heads"), fields.integer("hidden_size")
    window, reaches = windows.read(family.windows, kind, fields, layers)
    rotary = rope.read(fields, family.local_rope)
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
        rope_theta=rotary.theta,
        rope_scaling=rotary.scaling,
        local_rope_theta=rotary.local_theta,
        query_scale=fields.number(family.query_scale) if family.query_scale else None,
        attention_softcap=fields.optional("attn_logit_softcapping") if family.softcaps else None,
        logit_softcap=fields.optional("final_logit_softcapping") if family.softcaps else None,
        dtype=dtype,
        param_dtype=param_dtype,
        **family.fixed,
    )
    try:
        config.check()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return canonical(config)


def to_json(config: ModelConfig, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The `config.json` of a model, for transformers 4 and 5.

    `extra` (see `extras`) adds fields; its model_type is followed if a model of that family can be like this one, and otherwise
    another family is taken. Raises UserError, naming the fields, for a model that no family has.
    """
    config.check()
    extra = dict(extra or {})
    closest = natural(config)
    tried = [kind for kind in (extra.pop("model_type", None), closest, "mistral") if kind in FAMILIES]
    for kind in tried:
        if not _unsaid(kind, config):
            written = _written(kind, config)
            overwritten = sorted(extra.keys() & (written.keys() - set(EXTRAS)))
            if overwritten:
                raise ValueError(f"extra would overwrite {', '.join(overwritten)}")
            return {**written, **extra}
    unsaid = _unsaid(closest, config)
    raise UserError(f"no architecture that others know has {unsaid} (the nearest is {closest}); it cannot be saved for others")


def natural(config: ModelConfig) -> str:
    """The `model_type` that is written for a model of which nobody says another one."""
    if config.norm_offset or config.post_norms or config.scaled_embeddings:
        return "gemma3_text"
    if config.qk_norm:
        return "qwen3"
    if config.qkv_bias:
        return "qwen2"
    return "mistral" if all(config.local_layers) else "llama"


def names(config: ModelConfig, model_type: str | None) -> Names:
    """What the tensors of a model are called, of the family `model_type` if that is one, else of its natural one."""
    return FAMILIES[model_type if model_type is not None and model_type in FAMILIES else natural(config)].names


def _unsaid(kind: str, config: ModelConfig) -> str:
    """What of a model its `config.json` as one of `kind` would not say, in words; empty if nothing."""
    if FAMILIES[kind].whole_heads and config.width % config.heads:
        return f"a width of {config.width} and {config.heads} heads, of which it is no multiple"
    if FAMILIES[kind].query_scale and (config.query_scale or 0) % 1:
        return f"a query_scale of {config.query_scale}, which is no whole number"
    try:
        return _differences(config, from_json(_written(kind, config), Path(snapshot.CONFIG)))
    except UserError as error:
        return f"such fields ({error})"


def _differences(one: ModelConfig, other: ModelConfig) -> str:
    one, other = canonical(one), canonical(other)
    fields = [field.name for field in dataclasses.fields(one) if field.name not in _COMPUTING]
    return ", ".join(f"{name} {getattr(one, name)}" for name in fields if getattr(one, name) != getattr(other, name))


def _written(kind: str, config: ModelConfig) -> dict[str, Any]:
    """The `config.json` of a model as one of `kind`, whether that says all of it or not."""
    family, scaling = FAMILIES[kind], config.rope_scaling
    context = max(CONTEXT, int(scaling.original * scaling.factor)) if scaling.kind == "llama3" else CONTEXT
    written = {
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
        **rope.written(config, family.local_rope),
        **family.windows.written(config),
    }
    if family.query_scale:
        written[family.query_scale] = int(config.query_scale if config.query_scale is not None else config.head_size)
    if family.softcaps:
        written |= {"attn_logit_softcapping": config.attention_softcap, "final_logit_softcapping": config.logit_softcap}
    return written


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
