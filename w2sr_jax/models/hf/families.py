"""The families of models that are read and written, each one value. No jax.

To add one, add it to `FAMILIES`, with a table in `names` where its tensors have names of their own. Fields and defaults are those
of transformers' configuration classes, as version 4 and as version 5 write them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from w2sr_jax.models.hf import names, windows
from w2sr_jax.models.hf.names import Names
from w2sr_jax.models.hf.windows import Windows


@dataclass(frozen=True)
class Family:
    """An architecture of transformers: what its models have in common, and how their `config.json` says what they have not."""

    architecture: str
    """Its class in transformers."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Fields of ModelConfig that all its models have in common."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `config.json` that may be left out, where not as in all families."""
    names: Names = names.LLAMA
    """What its tensors are called."""
    windows: Windows = windows.AllGlobal()
    """How its `config.json` says which layers are local."""
    activation: str = "hidden_act"
    """The field that names the activation."""
    query_scale: str = ""
    """The field, a whole number, for ModelConfig's `query_scale`; empty: there is none."""
    softcaps: bool = False
    """Its `config.json` has caps of scores and of logits."""
    local_rope: bool = False
    """Its `config.json` has rotary frequencies of their own for local layers."""
    refused: tuple[str, ...] = ()
    """Switches that must be off."""
    whole_heads: bool = False
    """The width must be a multiple of the number of heads."""


FAMILIES: Mapping[str, Family] = {
    "qwen2": Family("Qwen2ForCausalLM", {"qkv_bias": True}, {"sliding_window": 4096}, windows=windows.LaterLayers()),
    "qwen3": Family(
        "Qwen3ForCausalLM",
        {"qk_norm": True},
        {"head_dim": 128, "sliding_window": 4096},
        windows=windows.LaterLayers(),
        refused=("attention_bias",),
    ),
    "llama": Family("LlamaForCausalLM", refused=("attention_bias", "mlp_bias"), whole_heads=True),
    "mistral": Family(
        "MistralForCausalLM",
        defaults={"sliding_window": 4096, "max_position_embeddings": 131_072},
        windows=windows.AllOrNone(),
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        {"qk_norm": True, "norm_offset": True, "post_norms": True, "scaled_embeddings": True},
        {
            **{"vocab_size": 262_208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256},
            **{"sliding_window": 4096, "sliding_window_pattern": 6, "query_pre_attn_scalar": 256},
            **{"hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True, "rope_theta": 1_000_000.0},
            "max_position_embeddings": 131_072,
        },
        names=names.GEMMA,
        windows=windows.Periodic(),
        activation="hidden_activation",
        query_scale="query_pre_attn_scalar",
        softcaps=True,
        local_rope=True,
        refused=("attention_bias", "use_bidirectional_attention"),
        whole_heads=True,
    ),
}
"""By the `model_type` of their `config.json`."""
WRAPPED = {"gemma3": "gemma3_text"}
"""Models with an image encoder, of which the decoder alone is read: the decoder's family by the whole model's `model_type`."""
DEFAULTS = {"rms_norm_eps": 1e-6, "rope_theta": 10_000.0, "tie_word_embeddings": False, "max_window_layers": 28}
"""Fields of `config.json` that may be left out in all families."""
