"""Function-preserving growth (Net2Net, Chen et al. 2016; Gong et al. 2019): a larger model that computes the same at first."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig

SAME = (
    *("vocab_size", "width", "head_size", "rope_theta", "rope_scaling", "local_rope_theta", "norm_eps", "qkv_bias", "qk_norm"),
    *("tied_embeddings", "pattern", "window", "activation", "norm_offset", "post_norms", "scaled_embeddings", "query_scale"),
    *("attention_softcap", "logit_softcap"),
)
GROWING = ("layers", "heads", "kv_heads", "mlp_size")


def grow(small: ModelConfig, params: transformer.Params, large: ModelConfig, key: Key[Array, ""]) -> transformer.Params:
    """Parameters of `large` that compute what `params` compute in `small`, to rounding.

    New parameters are drawn as by `transformer.init`, but write nothing to the residual stream: new layers (after the old ones)
    have zero output and down matrices, new heads zero rows in the output matrix, new SwiGLU units zero rows in the down matrix.
    The zeros have a gradient from the first step on, the other new parameters from the second. Raises UserError where a size that
    must stay differs, or one shrinks.
    """
    large.check()
    check(small, large)
    group, old_group = large.heads // large.kv_heads, small.heads // small.kv_heads
    heads = (jnp.arange(small.kv_heads)[:, None] * group + jnp.arange(old_group)[None]).reshape(-1)
    fresh = transformer.init(large, key)
    same = {name: value for name, value in params.items() if name != "layers"}
    return {**same, "layers": _layers(small, params["layers"], fresh["layers"], heads)}


def _layers(small: ModelConfig, old: Mapping[str, Any], fresh: Mapping[str, Any], heads: Int[Array, " H"]) -> dict[str, Any]:
    def one(path: Any, new: Array) -> Array:
        names = [part.key for part in path]
        value: Any = old
        for name in names:
            value = value[name]
        index = _index(small, names, heads)
        base = jnp.zeros_like(new) if names in (["attention", "output"], ["mlp", "down"]) else new
        return base.at[index].set(jnp.asarray(value).astype(new.dtype))

    return jax.tree_util.tree_map_with_path(one, dict(fresh))


def _index(small: ModelConfig, names: list[str], heads: Int[Array, " H"]) -> tuple[Any, ...]:
    """The part of the large model's stacked array that takes the small one's."""
    layers, every = slice(small.layers), slice(None)
    keys, units = slice(small.kv_heads), slice(small.mlp_size)
    indices: dict[str, tuple[Any, ...]] = {
        "query": (layers, every, heads),
        "key": (layers, every, keys),
        "value": (layers, every, keys),
        "query_bias": (layers, heads),
        "key_bias": (layers, keys),
        "value_bias": (layers, keys),
        "output": (layers, heads),
        "gate": (layers, every, units),
        "up": (layers, every, units),
        "down": (layers, units),
        "scale": (layers,),
    }
    return indices[names[-1]]


def check(small: ModelConfig, large: ModelConfig) -> None:
    """`UserError` where `large` cannot be grown from `small`, naming the size."""
    for field in SAME:
        before, after = getattr(small, field), getattr(large, field)
        if before != after:
            hint = "; set head_dim" if field == "head_size" else ""
            raise UserError(f"a model cannot grow from {field} {before} to {after}: it must stay the same{hint}")
    for field in GROWING:
        before, after = getattr(small, field), getattr(large, field)
        if before > after:
            raise UserError(f"a model cannot grow from {field} {before} to {after}: it would shrink")
    before, after = small.heads // small.kv_heads, large.heads // large.kv_heads
    if before > after:
        raise UserError(
            f"a model cannot grow from {before} to {after} query heads per kv head: it would shrink; keep kv_heads lower"
        )
