"""What `pretrained.save` writes, opened by transformers: the same logits, the same architecture."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_checkpoints as tiny

from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, pretrained

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LENGTH = 40
FIELDS = (
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "layer_types",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "use_bidirectional_attention",
    "max_position_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
    "dtype",
)


@partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: transformer.Params, tokens: Any) -> jax.Array:
    hidden = transformer.forward(config, params, tokens, jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape))
    return transformer.logits(config, params, hidden)


def opened(name: str, directory: Path, **options: Any) -> Any:
    attention = tiny.attention(name)
    return transformers.AutoModelForCausalLM.from_pretrained(directory, attn_implementation=attention, **options).eval()


def changed(params: transformer.Params) -> transformer.Params:
    """The parameters as after some training: no longer those of any file."""
    noise = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: leaf + (0.05 * noise.standard_normal(leaf.shape)).astype(leaf.dtype), params)


def drawn(config: ModelConfig) -> transformer.Params:
    """Random parameters, norms about 1."""
    noise = np.random.default_rng(0)

    def one(path: Any, leaf: Any) -> np.ndarray:
        return 0.2 * noise.standard_normal(leaf.shape).astype(np.float32) + np.float32(path[-1].key == "scale")

    return jax.tree_util.tree_map_with_path(one, transformer.shapes(config))


@pytest.mark.parametrize("name", tiny.CASES)
def test_logits_of_the_exported_shards_are_ours(name: str, tmp_path: Path) -> None:
    tiny.save(name, tmp_path / "given")
    config, params = pretrained.load(tmp_path / "given")
    params = changed(params)
    pretrained.save(tmp_path / "out", config, params, 60_000, config_json.extras(tmp_path / "given"))
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 4

    model = opened(name, tmp_path / "out")
    tokens = np.stack(tiny.texts([LENGTH, LENGTH]))
    want = tiny.torch_logits(model, tokens)
    np.testing.assert_allclose(np.asarray(logits(config, params, tokens)), want, rtol=0, atol=1e-4)
    assert np.abs(want - tiny.torch_logits(tiny.torch_model(name), tokens)).max() > 0.1

    original = transformers.AutoConfig.from_pretrained(tmp_path / "given")
    assert type(model.config) is type(original)
    for field in filter(partial(hasattr, original), FIELDS):
        assert getattr(model.config, field) == getattr(original, field), field


@pytest.mark.parametrize("name", tiny.EACH_FAMILY)
def test_bfloat16_parameters_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    tiny.save(name, tmp_path / "given", "bfloat16", shard="60KB")
    config, params = pretrained.load(tmp_path / "given", "bfloat16", "bfloat16")
    pretrained.save(tmp_path / "out", config, params)
    model, original = opened(name, tmp_path / "out", dtype="auto"), tiny.torch_model(name, "bfloat16")
    assert model.dtype == torch.bfloat16
    theirs = dict(original.named_parameters())
    assert theirs.keys() == dict(model.named_parameters()).keys()
    for path, parameter in model.named_parameters():
        assert torch.equal(parameter, theirs[path]), path
    tokens = np.stack(tiny.texts([LENGTH]))
    np.testing.assert_array_equal(tiny.torch_logits(model, tokens), tiny.torch_logits(original, tokens))


def test_a_model_of_our_own_opens_in_transformers(tmp_path: Path) -> None:
    """One that never was a file of theirs: no field of `config.json` comes from elsewhere."""
    config = ModelConfig(vocab_size=tiny.VOCAB, width=48, layers=3, heads=3, kv_heads=1, rope_theta=3000.0)
    tokens = np.stack(tiny.texts([LENGTH, LENGTH]))
    own_of: dict[str, dict[str, Any]] = {
        "llama": {},
        "qwen2": {"qkv_bias": True, "tied_embeddings": False},
        "qwen3": {"qk_norm": True, "head_dim": 24},
        "mistral": {"pattern": ("local",), "window": 9},
    }
    for kind, switches in own_of.items():
        own = replace(config, **switches)
        params = drawn(own)
        pretrained.save(tmp_path / kind, own, params)
        model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / kind, attn_implementation="eager").eval()
        want = tiny.torch_logits(model, tokens)
        np.testing.assert_allclose(np.asarray(logits(own, params, tokens)), want, rtol=0, atol=1e-4)
        assert want.std() > 0.5
        assert model.config.model_type == kind
