"""Our decoder against transformers' torch models on tiny random weights, both directions, and what is refused."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from w2sr_jax.errors import UserError
from w2sr_jax.models import hf, transformer
from w2sr_jax.models.config import ModelConfig

SIZES = {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2 untied": ("Qwen2", {"tie_word_embeddings": False}),
    "qwen2 tied": ("Qwen2", {"tie_word_embeddings": True}),
    "qwen3 tied, wide heads": ("Qwen3", {"tie_word_embeddings": True, "head_dim": 10}),
    "llama untied": ("Llama", {"tie_word_embeddings": False}),
}
TOKENS = np.random.default_rng(0).integers(0, 37, (2, 11))


def torch_model(kind: str, changes: dict[str, Any]) -> Any:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**(SIZES | changes))
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def torch_logits(model: Any) -> np.ndarray:
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        return model(torch.tensor(TOKENS)).logits.float().numpy()


@partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: transformer.Params) -> jax.Array:
    hidden, _ = transformer.forward(config, params, TOKENS, np.broadcast_to(np.arange(TOKENS.shape[1]), TOKENS.shape))
    return transformer.logits(config, params, hidden)


@pytest.mark.parametrize("case", CASES)
def test_logits_are_those_of_transformers(case: str, tmp_path: Path) -> None:
    model = torch_model(*CASES[case])
    model.save_pretrained(tmp_path, max_shard_size="9KB")
    config, params = hf.load(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert config.parameters() == sum(parameter.numel() for parameter in model.parameters())
    np.testing.assert_allclose(logits(config, params), torch_logits(model), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("switches", [{"qkv_bias": True}, {"qk_norm": True, "tied_embeddings": False}, {"head_dim": 8}], ids=str)
def test_transformers_reads_what_we_save(switches: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = replace(ModelConfig(vocab_size=37, width=24, layers=2, heads=4, kv_heads=2, mlp=40, rope_theta=3000.0), **switches)
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: np.asarray(leaf) + 0.1 * noise.standard_normal(leaf.shape).astype(np.float32),
        transformer.init(config, jax.random.key(0)),
    )
    hf.save(tmp_path, config, params)
    again, same = hf.load(tmp_path)
    assert (again.head_size, again.mlp_size) == (config.head_size, config.mlp_size)
    assert replace(again, head_dim=config.head_dim) == config
    jax.tree.map(np.testing.assert_array_equal, same, params)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    np.testing.assert_allclose(logits(config, params), torch_logits(model), atol=1e-4)


def test_bfloat16_files_are_read_in_either_type(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch_model(*CASES["qwen2 tied"]).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    want = model.model.layers[1].mlp.up_proj.weight.detach().float().numpy().T
    for kept in ("float32", "bfloat16"):
        _, params = hf.load(tmp_path, param_dtype=kept)
        assert params["layers"]["mlp"]["up"].dtype == kept
        np.testing.assert_array_equal(params["layers"]["mlp"]["up"][1].astype(np.float32), want)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config = ModelConfig(vocab_size=11, width=8, layers=1, heads=2, kv_heads=2, mlp=16)
    hf.save(tmp_path, config, transformer.init(config, jax.random.key(0)))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "rotary positions of type 'llama3'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None}, "rotary positions of type 'linear'"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ({"model_type": "gpt2"}, "'gpt2'; supported are qwen2, qwen3, llama"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu'"),
        ({"use_sliding_window": True}, "use_sliding_window"),
        ({"layer_types": ["sliding_attention"]}, "layer_types"),
        ({"intermediate_size": 17}, r"mlp\.down_proj\.weight has the shape \(8, 16\); .* \(8, 17\)"),
        ({"num_hidden_layers": 2}, r"lacks the tensor model\.layers\.1\."),
        ({"model_type": "qwen3"}, r"lacks the tensor .*[qk]_norm"),
        ({"hidden_size": None}, "hidden_size"),
    ],
    ids=str,
)
def test_what_the_decoder_lacks_is_refused_by_name(saved: Path, changes: dict[str, Any], words: str) -> None:
    path = saved / "config.json"
    raw = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in raw.items() if value is not None}))
    with pytest.raises(UserError, match=words):
        hf.load(saved)


def test_superfluous_tensors_broken_files_and_pickles_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    tensors = load_file(weights)
    save_file(tensors | {"model.layers.0.self_attn.o_proj.bias": np.zeros(8, np.float32)}, weights)
    with pytest.raises(UserError, match=r"o_proj\.bias"):
        hf.load(saved)
    weights.write_bytes(b"not a safetensors file")
    with pytest.raises(UserError, match="not a sound safetensors file"):
        hf.load(saved)
    weights.rename(saved / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin is a pickle"):
        hf.load(saved)
    with pytest.raises(UserError, match="not a directory"):
        hf.load(saved / "absent")


def test_a_model_of_no_known_family_is_not_saved(tmp_path: Path) -> None:
    config = ModelConfig(vocab_size=11, width=8, layers=1, heads=2, kv_heads=2, mlp=16, qkv_bias=True, qk_norm=True)
    with pytest.raises(UserError, match="neither a Qwen2"):
        hf.save(tmp_path, config, {})
