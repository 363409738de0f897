"""Damaged, unfinished and foreign model directories: one sentence each that names the file, before anything is read."""

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained

CONFIG = ModelConfig(vocab_size=11, width=8, layers=2, heads=2, kv_heads=2, mlp=16)
INDEX = "model.safetensors.index.json"
FIRST = "model-00001-of-00006.safetensors"
SECOND = "model-00002-of-00006.safetensors"


def save(folder: Path, shard_bytes: int) -> Path:
    ones = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), transformer.shapes(CONFIG))
    pretrained.save(folder, CONFIG, ones, shard_bytes=shard_bytes)
    return folder


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return save(tmp_path / "whole", 10**9)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = save(tmp_path / "sharded", 1200)
    assert len(list(folder.glob("*.safetensors"))) == 6
    return folder


def refused(folder: Path, words: str) -> None:
    before = sorted(str(path) for path in folder.parent.rglob("*"))
    with pytest.raises(UserError, match=words) as caught:
        pretrained.load(folder)
    assert "\n" not in str(caught.value)
    assert sorted(str(path) for path in folder.parent.rglob("*")) == before


def index(folder: Path, **changes: Any) -> None:
    raw = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps(raw | changes))


def with_header(path: Path, header: Any, data: bytes = b"\0" * 8) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"{", r"header is damaged"),
        (b'{"a": {}}', "header is damaged"),
        (b"[1]", "does not begin with a header"),
        (b'{"a": 1, "a": 2}', "a is listed twice"),
        ({"a": F32 | {"shape": [3]}}, r"a is said to be F32 of shape \[3\] in the bytes 0 to 8"),
        ({"a": F32 | {"shape": [-1, -2]}}, "a is said to be"),
        ({"a": F32 | {"data_offsets": [8, 0]}}, "a is said to be"),
        ({"a": F32, "b": F32}, "overlap or leave a gap"),
        ({"a": F32 | {"data_offsets": [4, 12]}}, "overlap or leave a gap"),
        ({"a": F32 | {"shape": [1], "data_offsets": [0, 4]}}, r"it has \d+ bytes, by its header it should have"),
        ({"a": F32 | {"shape": [4], "data_offsets": [0, 16]}}, "truncated: by its header it should have"),
    ],
    ids=str,
)
def test_a_header_that_cannot_be_true_is_refused(whole: Path, header: Any, words: str) -> None:
    with_header(whole / "model.safetensors", header)
    refused(whole, rf"model\.safetensors is .*{words}")


def test_a_file_cut_anywhere_is_refused(whole: Path) -> None:
    path = whole / "model.safetensors"
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for size in (0, 4, 8, 20, header - 1, header, len(data) - 1):
        path.write_bytes(data[:size])
        refused(whole, r"model\.safetensors is (truncated|not a sound safetensors file)")
    path.write_bytes(data + b"\0")
    refused(whole, "by its header it should have")
    path.write_bytes(b"not a safetensors file")
    refused(whole, "not a sound safetensors file: it does not begin with a header")
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    refused(whole, "is a Git LFS pointer")


def test_an_index_that_disagrees_with_its_shards_is_refused(sharded: Path) -> None:
    where = json.loads((sharded / INDEX).read_text())["weight_map"]
    name = next(tensor for tensor, file in where.items() if file == FIRST)
    index(sharded, weight_map=where | {name: SECOND})
    refused(sharded, rf"says that {name} is in {SECOND}; it is in {FIRST}")
    index(sharded, weight_map=where | {"made.up": FIRST})
    refused(sharded, rf"says that made\.up is in {FIRST}, where it is not")
    index(sharded, weight_map={tensor: file for tensor, file in where.items() if tensor != name})
    refused(sharded, rf"{FIRST} holds {name}, which {INDEX} does not list")
    index(sharded, weight_map=where | {name: "../../secret.safetensors"})
    refused(sharded, r"names '\.\./\.\./secret\.safetensors'")
    index(sharded, weight_map=[])
    refused(sharded, "has no weight_map")
    (sharded / INDEX).write_text("{")
    refused(sharded, rf"{INDEX} is not valid JSON")
    (sharded / INDEX).unlink()
    pretrained.load(sharded)  # the names of the shards say how many there are
    shutil.copy(sharded / FIRST, sharded / "extra.safetensors")
    refused(sharded, r"is both in .*extra\.safetensors and in model-00001-of-00006\.safetensors")


def test_a_tensor_in_two_shards_is_refused(sharded: Path) -> None:
    twice = load_file(sharded / FIRST) | load_file(sharded / SECOND)
    save_file(twice, sharded / SECOND)
    refused(sharded, rf"is both in .*{FIRST} and in {SECOND}")


def test_two_sets_of_weights_are_refused(sharded: Path) -> None:
    shutil.copy(sharded / FIRST, sharded / "model.safetensors")
    refused(sharded, r"holds both model\.safetensors and model\.safetensors\.index\.json")


def test_an_unfinished_download_is_refused_and_said_to_be_one(sharded: Path, tmp_path: Path) -> None:
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    shutil.copytree(sharded, snapshot)
    (snapshot / SECOND).rename(blobs / "abc.incomplete")
    refused(snapshot, rf"{INDEX} names {SECOND}, which is missing: the download did not end \(abc\.incomplete is left of it\)")
    (snapshot / FIRST).unlink()
    (snapshot / FIRST).symlink_to(blobs / "gone")
    (blobs / "abc.incomplete").unlink()
    refused(snapshot, rf"{FIRST}, {SECOND}, which are missing: the download did not end \({FIRST} is a link to nothing\)")
    (snapshot / INDEX).unlink()
    refused(snapshot, rf"lacks {FIRST}, {SECOND}: the download did not end")
    for path in snapshot.glob("*.safetensors"):
        path.unlink()
    refused(snapshot, r"holds no \*\.safetensors file: add the weights; fetch it again")
    (snapshot / "model.safetensors").symlink_to(blobs / "gone")
    refused(snapshot, r"model\.safetensors is a link to a file that is missing: the download did not end")
    (snapshot / "model.safetensors").unlink()
    os.mkdir(snapshot / ".cache")
    (snapshot / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (snapshot / ".cache" / "huggingface" / "download" / "x.incomplete").touch()
    refused(snapshot, r"x\.incomplete is left of it")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pytorch_model.bin", r"pytorch_model\.bin is a pickle, which can run code"),
        ("consolidated.00.pth", "is a pickle"),
        ("last.ckpt", "is a pickle"),
        ("qwen-q4.gguf", r"qwen-q4\.gguf is of a format that is not read"),
        ("adapter_model.safetensors", "it is an adapter; give the model that it was trained on"),
    ],
)
def test_weights_in_another_form_are_refused(whole: Path, name: str, words: str) -> None:
    (whole / "model.safetensors").rename(whole / name)
    refused(whole, words)
    (whole / "config.json").unlink()
    refused(whole, words)


def test_a_directory_that_is_none_or_lacks_its_config_is_refused(whole: Path) -> None:
    refused(whole / "absent", "absent is not a directory")
    refused(whole / "model.safetensors", "is a file; give the directory")
    raw = (whole / "config.json").read_text()
    for text, words in (("{", "not valid JSON"), ("[]", "is not a JSON object"), (raw.replace("llama", "bert"), "'bert'")):
        (whole / "config.json").write_text(text)
        refused(whole, words)
    (whole / "config.json").unlink()
    refused(whole, r"config\.json is missing; a Hugging Face directory has it beside the weights")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"intermediate_size": 17}, r"mlp\.down_proj\.weight|mlp\.gate_proj\.weight has the shape \(16, 8\); by .* \(17, 8\)"),
        ({"vocab_size": 12}, r"embed_tokens\.weight has the shape \(11, 8\); by config\.json it should have \(12, 8\)"),
        ({"num_hidden_layers": 3}, r"lacks 9 tensors .*: model\.layers\.2\.\S+, \S+, \S+ and 6 more$"),
        ({"num_hidden_layers": 1}, r"holds 9 tensors that it does not: model\.layers\.1\.\S+, \S+, \S+ and 6 more$"),
        ({"model_type": "qwen3", "head_dim": 4}, r"lacks 4 tensors .*[qk]_norm"),
    ],
    ids=str,
)
def test_a_config_that_contradicts_the_weights_is_refused(whole: Path, changes: dict[str, Any], words: str) -> None:
    path = whole / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(whole, words)


def test_superfluous_tensors_and_types_that_are_not_read_are_refused_by_name(whole: Path) -> None:
    path = whole / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(2)}, path)
    pretrained.load(whole)
    save_file(tensors | {"model.layers.0.self_attn.o_proj.bias": np.zeros(8, np.float32)}, path)
    refused(whole, r"holds the tensor that it does not: model\.layers\.0\.self_attn\.o_proj\.bias")
    save_file(tensors | {"model.norm.weight": np.ones(8, np.int8)}, path)
    refused(whole, r"model\.norm\.weight is of the type I8; supported are F64, F32, F16, BF16")


def test_what_stands_in_the_way_of_an_export_is_named(whole: Path, tmp_path: Path) -> None:
    _, params = pretrained.load(whole)
    with pytest.raises(UserError, match=r"already holds a model \(config\.json\)"):
        pretrained.save(whole, CONFIG, params)
    with pytest.raises(UserError, match="is a file; a model is written to a directory"):
        pretrained.save(whole / "config.json", CONFIG, params)
    with pytest.raises(UserError, match="the size of a shard is 0 bytes"):
        pretrained.save(tmp_path / "out", CONFIG, params, shard_bytes=0)
    assert not (tmp_path / "out").exists()
