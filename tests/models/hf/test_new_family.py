"""How a family is added: an entry of `families.FAMILIES` and, where its tensors have names of their own, a table of `names`.

Nimbus is made up. Its decoder is a Llama with biases on queries, keys and values; its tensors and its activation have other
names. `NIMBUS` and the line of the fixture that adds it are what one would write in `families.py` and `names.py`. The reference
is transformers' Qwen2, whose weights are stored by Nimbus's names.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import tiny_checkpoints as tiny
from safetensors.numpy import load_file, save_file

from w2sr_jax.convert.importing import import_model
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.hf import adapters, config_json, families, pretrained
from w2sr_jax.models.hf.families import Family
from w2sr_jax.models.hf.names import Name, Names
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.stages import weights

NIMBUS = Family(
    "NimbusForCausalLM",
    {"qkv_bias": True},
    activation="activation_function",
    names=Names(
        layer="decoder.blocks.{}.",
        embedding="decoder.wte.weight",
        norm="decoder.ln_f.weight",
        output="head.weight",
        layers={
            "attention_norm.scale": Name("ln_1.weight"),
            "attention.query": Name("attn.wq.weight", 1),
            "attention.key": Name("attn.wk.weight", 1),
            "attention.value": Name("attn.wv.weight", 1),
            "attention.query_bias": Name("attn.wq.bias", 0),
            "attention.key_bias": Name("attn.wk.bias", 0),
            "attention.value_bias": Name("attn.wv.bias", 0),
            "attention.output": Name("attn.wo.weight", 2),
            "mlp_norm.scale": Name("ln_2.weight"),
            "mlp.gate": Name("ffn.w1.weight", 1),
            "mlp.up": Name("ffn.w3.weight", 1),
            "mlp.down": Name("ffn.w2.weight", 1),
        },
    ),
)
BY_QWEN2 = {
    **{"model.embed_tokens": "decoder.wte", "model.norm": "decoder.ln_f", "lm_head": "head", "model.layers": "decoder.blocks"},
    **{"input_layernorm": "ln_1", "post_attention_layernorm": "ln_2", "self_attn": "attn", "mlp": "ffn"},
    **{"q_proj": "wq", "k_proj": "wk", "v_proj": "wv", "o_proj": "wo", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"},
}


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny Qwen2 as a Nimbus directory, with the family added."""
    monkeypatch.setitem(families.FAMILIES, "nimbus", NIMBUS)  # type: ignore[arg-type]
    qwen2, nimbus = tiny.save("qwen2", tmp_path / "qwen2"), tmp_path / "nimbus"
    nimbus.mkdir()
    tensors = {}
    for name, value in load_file(qwen2 / "model.safetensors").items():
        for theirs, ours in BY_QWEN2.items():
            name = name.replace(theirs, ours)
        tensors[name] = value
    save_file(tensors, nimbus / "model.safetensors")
    fields = json.loads((qwen2 / "config.json").read_text())
    fields |= {"model_type": "nimbus", "activation_function": fields.pop("hidden_act")}
    (nimbus / "config.json").write_text(json.dumps(fields))
    return nimbus


def logits(config: Any, params: Any, tokens: np.ndarray) -> np.ndarray:
    positions = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)
    return np.asarray(transformer.logits(config, params, transformer.forward(config, params, tokens, positions)))


def test_it_computes_what_its_reference_does(directory: Path) -> None:
    tokens = np.stack(tiny.texts([20, 20]))
    config, params = pretrained.load(directory)
    want = tiny.torch_logits(tiny.torch_model("qwen2"), tokens)
    np.testing.assert_allclose(logits(config, params, tokens), want, rtol=0, atol=1e-4)


def test_it_is_imported_and_saved_by_its_own_names(directory: Path, tmp_path: Path) -> None:
    imported = weights.read_record(import_model(str(directory), tmp_path / "imported", say=lambda _: None))
    assert imported.extras["model_type"] == "nimbus"
    _, params = pretrained.load(directory)
    pretrained.save(tmp_path / "saved", imported.config, params, extra=imported.extras)
    assert config_json.architecture(tmp_path / "saved") == imported.config
    before, after = (load_file(folder / "model.safetensors") for folder in (directory, tmp_path / "saved"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_adapters_lie_beside_its_own_names(directory: Path, tmp_path: Path) -> None:
    config, params = pretrained.load(directory)
    settings = Lora(rank=2, targets=("query", "down"))
    trained = lora.init(config, settings, params, jax.random.key(0))
    adapters.save_adapter(tmp_path / "adapter", config, settings, trained, "base", model_type="nimbus")
    names = load_file(tmp_path / "adapter" / adapters.WEIGHTS).keys()
    assert "base_model.model.decoder.blocks.0.attn.wq.lora_A.weight" in names
    assert json.loads((tmp_path / "adapter" / adapters.CONFIG).read_text())["target_modules"] == ["wq", "w2"]
    again, values = adapters.load_adapter(tmp_path / "adapter", config, "nimbus")
    assert again == dataclasses.replace(settings, alpha=again.alpha)
    jax.tree.map(np.testing.assert_array_equal, values, trained)


def test_what_is_missing_is_named_as_the_family_names_it(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    del tensors["head.weight"]
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(Exception, match=r"lacks the tensor that its config\.json calls for: head\.weight; with tie_word_emb"):
        pretrained.load(directory)
