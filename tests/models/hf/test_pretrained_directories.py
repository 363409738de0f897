"""Hugging Face directories in and out: bit for bit, opened by transformers, tensor by tensor, onto meshes."""

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig, RopeScaling
from w2sr_jax.models.hf import config_json, pretrained, safetensors_files
from w2sr_jax.parallel.mesh import make_mesh, shardings
from w2sr_jax.parallel.settings import Mesh

TINY = ModelConfig(vocab_size=48, width=24, layers=3, heads=4, kv_heads=2, mlp=40, rope_theta=3000.0)
GEMMA = {
    **{"qk_norm": True, "norm_offset": True, "post_norms": True, "scaled_embeddings": True, "activation": "gelu"},
    **{"pattern": ("local", "global"), "window": 4, "local_rope_theta": 100.0, "query_scale": 9.0, "logit_softcap": 5.0},
}
MODELS = {
    "qwen2": replace(TINY, qkv_bias=True),
    "qwen2, later layers local": replace(TINY, qkv_bias=True, pattern=("global", "local", "local"), window=4),
    "qwen3 untied": replace(TINY, qk_norm=True, tied_embeddings=False, head_dim=10),
    "llama": replace(TINY, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 32)),
    "mistral untied": replace(TINY, pattern=("local",), window=4, tied_embeddings=False),
    "gemma3_text": replace(TINY, rope_scaling=RopeScaling("linear", 2.0), **GEMMA),
}
TOKENS = np.random.default_rng(0).integers(0, 48, (2, 11))


def random_params(config: ModelConfig) -> Any:
    noise = np.random.default_rng(0)
    kind = np.dtype(config.param_dtype)
    return jax.tree.map(
        lambda leaf: (0.3 * noise.standard_normal(leaf.shape)).astype(kind) + kind.type(0.2), transformer.shapes(config)
    )


def same_bits(one: Any, other: Any) -> None:
    def equal(a: Any, b: Any) -> None:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a).view(np.uint8), np.asarray(b).view(np.uint8))

    jax.tree.map(equal, one, other)


def same_tensors(one: Path, other: Path) -> None:
    """By the safetensors library, whatever the files are called."""
    ours, theirs = (
        {name: value for path in folder.glob("*.safetensors") for name, value in load_file(path).items()}
        for folder in (one, other)
    )
    assert ours.keys() == theirs.keys()
    same_bits(ours, theirs)


@partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: transformer.Params) -> jax.Array:
    hidden = transformer.forward(config, params, TOKENS, np.broadcast_to(np.arange(TOKENS.shape[1]), TOKENS.shape))
    return transformer.logits(config, params, hidden)


@pytest.mark.parametrize("name", MODELS)
def test_transformers_opens_what_we_save_and_we_read_it_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = MODELS[name]
    params = random_params(config)
    pretrained.save(tmp_path, config, params, shard_bytes=9_000, extra={"eos_token_id": [3, 5], "max_position_embeddings": 512})
    again, same = pretrained.load(tmp_path)
    assert config_json.same(again, config)
    same_bits(same, params)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    assert model.config.model_type == name.split()[0].strip(",")
    assert (model.config.eos_token_id, model.config.bos_token_id) == ([3, 5], None)
    assert model.config.max_position_embeddings == 512
    assert config.parameters() == sum(parameter.numel() for parameter in model.parameters())
    with torch.no_grad():
        want = model(torch.tensor(TOKENS)).logits.float().numpy()
    np.testing.assert_allclose(logits(config, params), want, atol=1e-4)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
def test_a_foreign_directory_is_exported_as_it_was(stored: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 37, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.Qwen2Config(**sizes, intermediate_size=40, tie_word_embeddings=True, max_position_embeddings=99)
    model = transformers.Qwen2ForCausalLM(config).to(getattr(torch, stored))
    model.save_pretrained(tmp_path / "theirs", max_shard_size="5KB")
    dtype = "bfloat16" if stored == "bfloat16" else "float32"
    config, params = pretrained.load(tmp_path / "theirs", param_dtype=dtype)
    want = model.model.layers[1].mlp.up_proj.weight.detach().float().numpy().T
    np.testing.assert_array_equal(params["layers"]["mlp"]["up"][1].astype(np.float32), want)
    pretrained.save(tmp_path / "ours", config, params, extra=config_json.extras(tmp_path / "theirs"))
    if stored == dtype:
        same_tensors(tmp_path / "theirs", tmp_path / "ours")
    raw = files.read_json(tmp_path / "ours" / "config.json")
    assert (raw["max_position_embeddings"], raw["dtype"], raw["model_type"]) == (99, dtype, "qwen2")


def test_shards_are_of_the_size_asked_for_and_listed_in_the_index(tmp_path: Path) -> None:
    config = replace(TINY, tied_embeddings=False)
    params = random_params(config)
    pretrained.save(tmp_path / "one", config, params)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["config.json", "model.safetensors"]
    pretrained.save(tmp_path / "many", config, params, shard_bytes=10_000)
    index = files.read_json(tmp_path / "many" / "model.safetensors.index.json")
    names = sorted({path.name for path in (tmp_path / "many").glob("*.safetensors")})
    assert len(names) > 3
    assert names == [f"model-{number + 1:05}-of-{len(names):05}.safetensors" for number in range(len(names))]
    assert sorted(set(index["weight_map"].values())) == names
    assert index["metadata"]["total_size"] == 4 * config.parameters()
    for name in names:
        tensors = load_file(tmp_path / "many" / name)
        assert {tensor for tensor, file in index["weight_map"].items() if file == name} == tensors.keys()
        assert len(tensors) == 1 or sum(value.nbytes for value in tensors.values()) <= 10_000
    same_tensors(tmp_path / "one", tmp_path / "many")


def test_an_export_that_ends_early_is_taken_for_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = random_params(TINY)
    seen: list[Path] = []

    def gather(leaf: Any) -> np.ndarray:
        seen.extend(tmp_path.glob("config.json"))
        if len(list(tmp_path.glob("*.safetensors"))) == 2:
            raise KeyboardInterrupt
        return np.asarray(leaf)

    with pytest.raises(KeyboardInterrupt):
        pretrained.save(tmp_path, TINY, params, shard_bytes=9_000, gather=gather)
    assert not seen
    with pytest.raises(UserError, match=r"config\.json is missing"):
        config_json.architecture(tmp_path)
    with pytest.raises(UserError, match="lacks model-00003-of-"):
        pretrained.load(tmp_path)
    with pytest.raises(UserError, match=r"already holds a model \(model-00001-of-"):
        pretrained.save(tmp_path, TINY, params)


def test_a_process_that_does_not_write_gathers_all_the_same(tmp_path: Path) -> None:
    calls = []

    def gather(leaf: Any) -> np.ndarray:
        calls.append(leaf.shape)
        return np.asarray(leaf)

    pretrained.save(tmp_path / "out", TINY, random_params(TINY), gather=gather, write=False)
    assert not (tmp_path / "out").exists()
    assert len(calls) == 2 + 9 * TINY.layers
    assert max(np.prod(shape) for shape in calls) == TINY.vocab_size * TINY.width


@pytest.mark.parametrize("name", ["qwen2", "qwen3 untied", "gemma3_text"])
def test_a_mesh_gets_its_slices_and_gives_them_back(name: str, tmp_path: Path) -> None:
    config = MODELS[name]
    pretrained.save(tmp_path / "in", config, random_params(config), shard_bytes=9_000)
    mesh = make_mesh(Mesh(data=2, fsdp=2, tensor=2))
    places = shardings(mesh, transformer.logical_axes(config), transformer.shapes(config))
    read, params = pretrained.load(tmp_path / "in", "bfloat16", shardings=places)
    assert read.dtype == "bfloat16"
    jax.tree.map(lambda leaf, sharding: pytest.fail("elsewhere") if leaf.sharding != sharding else None, params, places)
    same_bits(params, pretrained.load(tmp_path / "in")[1])
    pretrained.save(tmp_path / "out", config, params)
    same_tensors(tmp_path / "in", tmp_path / "out")


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_the_host_never_holds_more_than_a_tensor_beside_the_devices(tmp_path: Path, traced: None) -> None:
    config = ModelConfig(vocab_size=64, width=256, layers=6, heads=4, kv_heads=4, mlp=2048)
    largest = 4 * 256 * 2048
    pretrained.save(tmp_path, config, random_params(config), shard_bytes=10**7)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    pretrained.load(tmp_path, shardings=device)  # compiles
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    _, params = pretrained.load(tmp_path, shardings=device)
    above = tracemalloc.get_traced_memory()[1] - before  # NumPy's arrays; those on devices are not seen
    assert 0.5 * largest < above < 2 * largest
    assert params["layers"]["mlp"]["up"].nbytes == config.layers * largest
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    pretrained.save(tmp_path / "out", config, params, gather=np.array)
    assert tracemalloc.get_traced_memory()[1] - before < 3 * largest


def test_tied_models_may_store_the_head_too_or_alone_but_no_other_one(tmp_path: Path) -> None:
    params = random_params(TINY)
    pretrained.save(tmp_path, TINY, params)
    weights = tmp_path / "model.safetensors"
    tensors = load_file(weights)
    embedding = tensors["model.embed_tokens.weight"]
    save_file(tensors | {"lm_head.weight": embedding}, weights)
    same_bits(pretrained.load(tmp_path)[1], params)
    save_file({name: value for name, value in tensors.items() if "embed" not in name} | {"lm_head.weight": embedding}, weights)
    same_bits(pretrained.load(tmp_path)[1], params)
    save_file(tensors | {"lm_head.weight": embedding * (1 + 1e-6 * (np.arange(48) == 47)[:, None]).astype(np.float32)}, weights)
    with pytest.raises(UserError, match=r"lm_head\.weight is not model\.embed_tokens\.weight, but .* tie_word_embeddings"):
        pretrained.load(tmp_path)
    for odd in (np.zeros((), np.float32), np.zeros((0, 24), np.float32)):
        save_file(tensors | {"model.embed_tokens.weight": odd, "lm_head.weight": odd}, weights)
        with pytest.raises(UserError, match=r"embed_tokens\.weight has the shape"):
            pretrained.load(tmp_path)
    save_file(tensors, weights)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"tie_word_embeddings": False}))
    with pytest.raises(UserError, match=r"lacks the tensor .*: lm_head\.weight; with tie_word_embeddings true none would"):
        pretrained.load(tmp_path)


def test_the_decoder_of_a_model_with_an_image_encoder_is_read(tmp_path: Path) -> None:
    """In the names of the Hub's repositories and of transformers 5, without the fields that their text_config leaves out."""
    config = replace(TINY, heads=8, kv_heads=4, head_dim=256, **{**GEMMA, "query_scale": None, "logit_softcap": None})
    config = replace(config, vocab_size=48, rope_theta=1e6, local_rope_theta=1e4, pattern=("local",), layers=3)
    params = random_params(config)
    pretrained.save(tmp_path / "text", config, params)
    tensors = load_file(tmp_path / "text" / "model.safetensors")
    inner = {"hidden_size": 24, "intermediate_size": 40, "model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window": 4}
    outer = {"model_type": "gemma3", "text_config": inner | {"vocab_size": 48}, "vision_config": {}, "eos_token_id": [1, 106]}
    for prefix, vision in (("language_model.model.", "vision_tower.x"), ("model.language_model.", "model.vision_tower.x")):
        folder = tmp_path / vision
        folder.mkdir()
        wrapped = {prefix + name.removeprefix("model."): value for name, value in tensors.items()}
        save_file(wrapped | {vision: np.zeros(1)}, folder / "model.safetensors")
        files.write_json(folder / "config.json", outer)
        read, same = pretrained.load(folder)
        assert config_json.same(read, config)
        same_bits(same, params)
        context = 131_072  # of Gemma3TextConfig, where nothing is said
        assert config_json.extras(folder) == {
            "model_type": "gemma3_text",
            "eos_token_id": [1, 106],
            "max_position_embeddings": context,
        }


def test_safetensors_files_are_those_of_the_library(tmp_path: Path) -> None:
    values = {
        "b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a": np.ones(3, np.float16),
        "c": np.full((1, 2), 0.1, np.dtype("bfloat16")),
    }
    entries = [safetensors_files.Entry(name, value.dtype, value.shape) for name, value in values.items()]
    safetensors_files.write_file(tmp_path / "ours.safetensors", entries, (np.asfortranarray(each) for each in values.values()))
    same_bits(load_file(tmp_path / "ours.safetensors"), values)
    save_file(values, tmp_path / "theirs.safetensors")
    header = safetensors_files.read_header(tmp_path / "theirs.safetensors")
    same_bits({name: stored.view() for name, stored in header.items()}, values)
