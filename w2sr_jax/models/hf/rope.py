"""Rotary positions in `config.json`. No jax.

Version 4 of transformers writes `rope_theta` and `rope_scaling`, version 5 `rope_parameters`, which Gemma 3 has once for global
and once for local layers.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.hf.fields import Fields

_PLAIN = RopeScaling()
_LOCAL_THETA = 10_000.0
_SUPPORTED = "supported are default, linear and llama3"


class Rope(NamedTuple):
    """Rotary positions of a model."""

    theta: float
    scaling: RopeScaling
    local_theta: float | None
    """None: local layers are as global ones."""


def read(fields: Fields, local_rope: bool) -> Rope:
    """The rotary positions that the fields describe; `local_rope`: those of global and of local layers apart. Raises UserError,
    naming the field that is not supported."""
    raw = fields.raw
    scaling, parameters = (raw.get(name) or {} for name in ("rope_scaling", "rope_parameters"))
    for name, value in (("rope_scaling", scaling), ("rope_parameters", parameters)):
        if not isinstance(value, dict):
            raise fields.refusal(name, "an object is")
    local: Any = {}
    if local_rope and parameters:
        if not isinstance(parameters.get("full_attention"), dict):
            raise fields.refusal("rope_parameters", "one with full_attention and sliding_attention is")
        local = parameters.get("sliding_attention") or {}
        parameters = parameters["full_attention"]
    elif any(isinstance(value, dict) for value in parameters.values()):
        raise fields.refusal("rope_parameters", "one for all layers is")
    for key in scaling.keys() & parameters.keys():
        if scaling[key] != parameters[key]:
            raise fields.refusal(
                "rope_scaling", f"it contradicts rope_parameters, where {key} is {sentences.value(parameters[key])}"
            )
    whole = {**parameters, **scaling}
    theta = _theta(fields, whole.get("rope_theta"), fields.number("rope_theta"))
    name = "rope_scaling" if scaling else "rope_parameters"
    stretching = _scaling(fields, name, whole)
    if not local_rope:
        return Rope(theta, stretching, None)
    near = _theta(fields, local.get("rope_theta"), fields.optional("rope_local_base_freq") or _LOCAL_THETA)
    near_scaling = _scaling(fields, "rope_parameters", local)
    if near_scaling == _PLAIN:
        return Rope(theta, stretching, near)
    if (near, near_scaling) != (theta, stretching):
        raise fields.refusal("rope_parameters", "sliding_attention of the type default is, or the same as full_attention")
    return Rope(theta, stretching, None)


def written(config: ModelConfig, local_rope: bool) -> dict[str, Any]:
    """The fields that say it, for both versions of transformers; `local_rope` as for `read`."""
    scaling, theta, own = config.rope_scaling, config.rope_theta, config.local_rope_theta
    values: dict[str, Any] = {"rope_type": "default"}
    if scaling.kind != "none":
        values = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
        values |= {"original_max_position_embeddings": scaling.original}
    fields: dict[str, Any] = {"rope_theta": theta, "rope_scaling": None if scaling.kind == "none" else values}
    whole = {**values, "rope_theta": theta}
    if not local_rope:
        return {**fields, "rope_parameters": whole}
    local = whole if own is None else {"rope_type": "default", "rope_theta": own}
    fields["rope_local_base_freq"] = local["rope_theta"]
    return {**fields, "rope_parameters": {"full_attention": whole, "sliding_attention": local}}


def canonical(scaling: RopeScaling) -> RopeScaling:
    """The same stretching with defaults where a field has no effect."""
    if scaling.kind == "none" or (scaling.kind == "linear" and scaling.factor == 1):
        return _PLAIN
    return RopeScaling("linear", scaling.factor) if scaling.kind == "linear" else scaling


def _scaling(fields: Fields, name: str, values: Mapping[str, Any]) -> RopeScaling:
    kind = values.get("rope_type", values.get("type")) or "default"
    partial = values.get("partial_rotary_factor", fields.raw.get("partial_rotary_factor"))
    if partial not in (None, 1):
        raise fields.refused("partial_rotary_factor", partial, "only 1 is")
    if kind == "default":
        return _PLAIN
    if kind not in ("linear", "llama3"):
        raise fields.refused(f"{name} of the type", kind, _SUPPORTED)
    inner = Fields(values, fields.path, {"original_max_position_embeddings": _original(fields)})
    if kind == "linear":
        return canonical(RopeScaling("linear", inner.number("factor")))
    low, high, factor = (inner.number(part) for part in ("low_freq_factor", "high_freq_factor", "factor"))
    return RopeScaling("llama3", factor, low, high, inner.integer("original_max_position_embeddings"))


def _original(fields: Fields) -> Any:
    return fields.get("original_max_position_embeddings") or fields.get("max_position_embeddings")


def _theta(fields: Fields, value: Any, otherwise: float) -> float:
    return otherwise if value is None else Fields({"rope_theta": value}, fields.path, {}).number("rope_theta")
