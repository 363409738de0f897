"""config.json ↔ ModelConfig: both spellings of transformers, what is refused by name, and what no family can say."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.hf import config_json

SIZES = {
    **{"vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2},
    **{"intermediate_size": 40, "rms_norm_eps": 1e-5, "rope_theta": 5000.0},
}
PLAIN = ModelConfig(37, 24, 6, 4, 2, None, 40, 5000.0, 1e-5, tied_embeddings=False)
LLAMA3 = {"factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
GEMMA = replace(
    PLAIN,
    **{"qk_norm": True, "norm_offset": True, "post_norms": True, "scaled_embeddings": True, "tied_embeddings": True},
    **{"activation": "gelu", "head_dim": 256, "query_scale": None, "window": 512, "local_rope_theta": 10_000.0},
    pattern=("local",) * 5 + ("global",),
)
LOCAL_GLOBAL = ["sliding_attention", "full_attention"] * 3
STRETCHED = {"rope_type": "linear", "factor": 8.0, "rope_theta": 5000.0}
READ: dict[str, tuple[str, dict[str, Any], ModelConfig]] = {
    "qwen2": ("qwen2", {"sliding_window": 9, "max_window_layers": 3}, replace(PLAIN, qkv_bias=True)),
    "qwen2, later layers local": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 4},
        replace(PLAIN, qkv_bias=True, window=9, pattern=("global",) * 4 + ("local",) * 2),
    ),
    "qwen2, no layer reaches max_window_layers": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 6},
        replace(PLAIN, qkv_bias=True),
    ),
    "qwen2, default window": (
        "qwen2",
        {"use_sliding_window": True, "max_window_layers": 4},
        replace(PLAIN, qkv_bias=True, window=4096, pattern=("global",) * 4 + ("local",) * 2),
    ),
    "qwen3, layer_types": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 9, "layer_types": LOCAL_GLOBAL},
        replace(PLAIN, qk_norm=True, head_dim=128, window=9, pattern=("local", "global")),
    ),
    "llama, rope_scaling": (
        "llama",
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3}, "head_dim": 8},
        replace(PLAIN, rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192), head_dim=8),
    ),
    "llama, rope_parameters": (
        "llama",
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 70.0, **LLAMA3}, "rope_theta": None, "head_dim": 6},
        replace(PLAIN, rope_scaling=RopeScaling("llama3", 32.0, 1.0, 4.0, 8192), rope_theta=70.0),
    ),
    "llama, older linear": (
        "llama",
        {"rope_scaling": {"type": "linear", "factor": 2}, "num_key_value_heads": None, "tie_word_embeddings": True},
        replace(PLAIN, rope_scaling=RopeScaling("linear", 2.0), kv_heads=4, tied_embeddings=True),
    ),
    "mistral": ("mistral", {"sliding_window": 9}, replace(PLAIN, pattern=("local",), window=9)),
    "mistral, no window": ("mistral", {"sliding_window": None}, PLAIN),
    "mistral, default window": ("mistral", {}, replace(PLAIN, pattern=("local",), window=4096)),
    "gemma3, version 4": (
        "gemma3_text",
        {"head_dim": 256, "sliding_window": 512, "sliding_window_pattern": 6, "rope_local_base_freq": 10_000},
        replace(GEMMA, query_scale=None),
    ),
    "gemma3, version 5": (
        "gemma3_text",
        {
            "layer_types": LOCAL_GLOBAL,
            "sliding_window": 9,
            "query_pre_attn_scalar": 168,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
            "rope_theta": None,
            "rope_parameters": {"full_attention": STRETCHED, "sliding_attention": {"rope_type": "default", "rope_theta": 7.0}},
        },
        replace(
            GEMMA,
            **{"pattern": ("local", "global"), "window": 9, "query_scale": 168.0, "local_rope_theta": 7.0},
            **{"attention_softcap": 50.0, "logit_softcap": 30.0, "rope_scaling": RopeScaling("linear", 8.0)},
        ),
    ),
}


def written(folder: Path, changes: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps({k: v for k, v in (SIZES | changes).items() if v != "absent"}))
    return folder


@pytest.mark.parametrize("case", READ)
def test_both_spellings_of_transformers_are_read(case: str, tmp_path: Path) -> None:
    kind, fields, want = READ[case]
    theta = {"rope_theta": "absent"} if fields.get("rope_theta", 0) is None else {}
    config = config_json.architecture(written(tmp_path, {"model_type": kind, **fields, **theta}))
    assert config == config_json.canonical(want)


@pytest.mark.parametrize("case", READ)
def test_transformers_reads_what_is_written_as_it_read_the_original(case: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    kind, fields, _ = READ[case]
    extras = {"bos_token_id": 7, "eos_token_id": [3, 4], "pad_token_id": None, "max_position_embeddings": 512}
    theta = {"rope_theta": "absent"} if fields.get("rope_theta", 0) is None else {}
    original = written(tmp_path, {"model_type": kind, **extras, **fields, **theta})
    before = transformers.AutoConfig.from_pretrained(original).to_dict()
    foreign = config_json.to_json(config_json.architecture(original), config_json.extras(original))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "config.json").write_text(json.dumps(foreign))
    after = transformers.AutoConfig.from_pretrained(tmp_path / "ours").to_dict()
    free = {"architectures", "dtype", "_name_or_path", "max_window_layers", "sliding_window_pattern", "_sliding_window_pattern"}
    free |= {"rope_local_base_freq", "attention_bias", "mlp_bias"}  # no fields of the class, or false by default
    ours, theirs = ({k: v for k, v in each.items() if k not in free and v is not None} for each in (after, before))
    for each in (ours, theirs):
        each["rope_parameters"].pop("type", None)  # transformers adds rope_type
        if "sliding_attention" not in each.get("layer_types", ["sliding_attention"]):
            each["use_sliding_window"] = each["sliding_window"] = None  # no layer has one
    if "head_dim" not in theirs:  # which then follows from others
        del ours["head_dim"]
    assert ours == theirs


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, r"model_type 'gpt2' is not supported; supported are qwen2, qwen3, llama, mistral, gemma3_text"),
        ({"model_type": "absent"}, "model_type None is not supported"),
        ({"model_type": ["llama"]}, r"model_type \['llama'\] is not supported"),
        ({"hidden_act": ["silu"]}, r'hidden_act \["silu"\] is not supported; supported are silu'),
        ({"rms_norm_eps": float("inf")}, "rms_norm_eps is Infinity; it should be a number"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0}},
            r'rope_scaling of the type "yarn" is not .* default, linear and llama3',
        ),
        ({"rope_parameters": {"rope_type": "longrope"}}, 'rope_parameters of the type "longrope" is not supported'),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "the field low_freq_factor is missing"),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters .* is not supported; one for all layers is"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"type": "linear", "factor": 3.0}},
            "rope_scaling .* contradicts rope_parameters, where factor is 3.0",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5 is not supported; only 1 is"),
        ({"attention_bias": True}, "attention_bias true is not supported; only false is"),
        ({"mlp_bias": True}, "mlp_bias true"),
        ({"hidden_act": "gelu"}, 'hidden_act "gelu" is not supported; supported are silu'),
        ({"quantization_config": {"quant_method": "gptq"}}, r"quantization_config .*gptq.* is not supported; only float32"),
        ({"layer_types": ["sliding_attention"] * 6}, "layer_types .* in a llama all layers see the same"),
        (
            {"layer_types": ["chunked_attention"] * 6},
            "layer_types .* one of full_attention and sliding_attention for each of the 6",
        ),
        ({"model_type": "qwen2", "layer_types": LOCAL_GLOBAL}, "layers of sliding_attention need a sliding_window"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "use_bidirectional_attention true"),
        ({"model_type": "gemma3_text", "rope_parameters": {"rope_type": "default"}}, "full_attention and sliding_attention"),
        (
            {"model_type": "gemma3_text", "rope_parameters": {"full_attention": {}, "sliding_attention": STRETCHED}},
            "sliding_attention of the type default is, or the same as full_attention",
        ),
        ({"hidden_size": "absent"}, "the field hidden_size is missing"),
        ({"hidden_size": "24"}, 'hidden_size is "24"; it should be a whole number'),
        ({"rms_norm_eps": True}, "rms_norm_eps is true; it should be a number"),
        ({"num_key_value_heads": 3}, r"config\.json: the model's 4 heads are no multiple of its 3 kv_heads"),
        ({"num_attention_heads": 0}, "the model's heads is 0"),
    ],
    ids=str,
)
def test_what_is_not_supported_is_refused_by_field_and_value(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        config_json.architecture(written(tmp_path, {"model_type": "llama", **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"qkv_bias": True, "qk_norm": True}, r"has qkv_bias True \(the nearest is qwen3\)"),
        ({"norm_offset": True, "qk_norm": True}, r"has norm_offset True, .*nearest is gemma3_text|post_norms False"),
        ({"pattern": ("local", "global"), "window": 4}, r"has pattern \('local', 'global'\), window 4 \(the nearest is llama\)"),
        ({"logit_softcap": 30.0}, "has logit_softcap 30.0"),
        ({"query_scale": 9.0}, "has query_scale 9.0"),
        ({"pattern": ("local",), "window": 4, "local_rope_theta": 7.0}, "has local_rope_theta 7.0"),
    ],
    ids=str,
)
def test_a_model_of_no_known_family_is_not_written(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        config_json.to_json(replace(PLAIN, **changes))
    with pytest.raises(UserError, match="no whole number"):
        config_json.to_json(replace(GEMMA, query_scale=9.5))


def test_a_family_is_kept_where_several_would_do() -> None:
    assert config_json.to_json(PLAIN)["model_type"] == "llama"
    assert config_json.to_json(PLAIN, {"model_type": "mistral"})["model_type"] == "mistral"
    assert config_json.to_json(PLAIN, {"model_type": "gemma3_text"})["model_type"] == "llama"
    odd = replace(PLAIN, width=26, head_dim=6)  # transformers' Llama insists on whole heads
    assert config_json.to_json(odd)["model_type"] == "mistral"
    with pytest.raises(ValueError, match="hidden_size"):
        config_json.to_json(PLAIN, {"hidden_size": 3})


def test_one_model_has_one_canonical_spelling() -> None:
    explicit = replace(PLAIN, head_dim=6, pattern=("global", "global"), window=7, query_scale=6.0, local_rope_theta=3.0)
    assert config_json.canonical(explicit) == PLAIN
    assert config_json.same(replace(explicit, dtype="bfloat16", remat="layers"), PLAIN)
    assert not config_json.same(replace(explicit, rope_theta=1.0), PLAIN)
