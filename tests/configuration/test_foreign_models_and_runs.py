"""Models and runs of strangers: nothing outside of their directory is read, copied, overwritten or removed by way of them; absurd
sizes are refused before anything is made by them, and what they say of themselves is text."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2sr_jax.cli.arguments import run_directory
from w2sr_jax.configuration import saved
from w2sr_jax.convert import markdown
from w2sr_jax.convert.importing import import_model
from w2sr_jax.core import files, hub
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest as manifests
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.hf import config_json, pretrained
from w2sr_jax.stages.weights import RECORD, read_record
from w2sr_jax.training import steps

WIDTH, VOCAB, MLP = 16, 32, 32
CONFIG = {
    "model_type": "qwen2",
    "hidden_size": WIDTH,
    "intermediate_size": MLP,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
}
SECRET = "PRIVATE KEY"


def shapes() -> dict[str, tuple[int, ...]]:
    layer = "model.layers.0."
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, WIDTH), "model.norm.weight": (WIDTH,)}
    found |= {f"{layer}{name}.weight": (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
    found |= {f"{layer}mlp.{name}_proj.weight": (MLP, WIDTH) for name in ("gate", "up")}
    found |= {f"{layer}mlp.down_proj.weight": (WIDTH, MLP), f"{layer}self_attn.o_proj.weight": (WIDTH, WIDTH)}
    for name in "qkv":
        found |= {f"{layer}self_attn.{name}_proj.weight": (WIDTH, WIDTH), f"{layer}self_attn.{name}_proj.bias": (WIDTH,)}
    return found


def model(place: Path) -> Path:
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(CONFIG))
    header, end = {}, 0
    for name, shape in shapes().items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))
    return place


def link(name: str, target: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / name).unlink(missing_ok=True)
        (place / name).symlink_to(target)

    return change


def shard(name: str) -> Callable[[Path], None]:
    def change(place: Path) -> None:
        (place / "model.safetensors").rename(place.parent / "other.safetensors")
        index = {"weight_map": dict.fromkeys(shapes(), name)}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))

    return change


DIRECTORIES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a key as a tokenizer": (link("tokenizer.model", "../id_rsa"), "is a link to"),
    "a key as settings": (link("tokenizer_config.json", "../id_rsa"), "is a link to"),
    "a key as a template": (link("chat_template.jinja", "../id_rsa"), "is a link to"),
    "a configuration elsewhere": (link("config.json", "../config.json"), "is a link to"),
    "weights elsewhere": (link("model.safetensors", "../id_rsa"), "is a link to"),
    "a directory elsewhere": (link("0", ".."), "is a link to"),
    "zeros": (link("generation_config.json", "/dev/zero"), "is a link to"),
    "a pipe": (lambda place: os.mkfifo(place / "tokenizer.json"), "no regular file"),
    "a shard that climbs": (shard("../other.safetensors"), "would be right"),
    "a shard with a path": (shard("/etc/other.safetensors"), "would be right"),
}


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_model_s_directory_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    place = model(tmp_path / "model")
    (tmp_path / "id_rsa").write_text(SECRET)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    change, words = DIRECTORIES[name]
    change(place)
    with pytest.raises(UserError, match=words) as refused:
        import_model(str(place), tmp_path / "out", say=lambda line: None)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_links_of_the_hub_s_cache_and_data_alone_are_copied(tmp_path: Path) -> None:
    repository = tmp_path / "models--a--b"
    whole = model(repository / "blobs")
    place = repository / "snapshots" / ("0" * 40)
    place.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (place / name).symlink_to(f"../../blobs/{name}")
    (whole / "words").write_text("a\n")
    (place / "tokenizer.model").symlink_to("../../blobs/words")
    for name in ("tokenizer.py", "tokenizer.bin", "tokenizer.pkl"):
        (place / name).write_text("code")
    out = import_model(str(place), tmp_path / "out", say=lambda line: None)
    assert {path.name for path in (out / "tokenizer").iterdir()} == {"config.json", "tokenizer.model"}
    (place / "tokenizer.model").unlink()
    (place / "tokenizer.model").symlink_to("../../../outside")
    (tmp_path / "outside").write_text(SECRET)
    with pytest.raises(UserError, match="is a link to"):
        hub.snapshot(str(place), "tokenizer")


SIZES: dict[str, Any] = {
    "num_hidden_layers": (10**9, -1, 0, 2.0, "1", True, None, 10**400),
    "vocab_size": (2**33, -1, 0, 1e9, "32", [32]),
    "num_attention_heads": (10**6, -2, 0, 2.5, {}),
    "num_key_value_heads": (10**6, -2, 0, "2"),
    "hidden_size": (2**40, -16, 0, 16.0),
    "intermediate_size": (2**50, 0),
    "head_dim": (0, -8, 2**40, 1.5),
    "rms_norm_eps": (10**400, "0", -1.0, float("nan")),
    "rope_theta": (10**400, 0, -1, [1]),
    "rope_scaling": ({"rope_type": "linear", "factor": 10**400}, {"rope_type": ["linear"]}, [1], {"type": "\u202eevil"}),
    "model_type": ("evil" * 10**6, 7, ["qwen2"], "\x1b[2J"),
    "eos_token_id": ([2**40], "x", {"a": 1}),
    "layer_types": (["full_attention"] * 2, "full_attention", [["full_attention"]]),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in SIZES.items() for value in values], ids=lambda each: str(each)[:20]
)
def test_sizes_that_no_model_has_are_refused_at_once(tmp_path: Path, name: str, value: Any) -> None:
    place = model(tmp_path / "model")
    (place / "config.json").write_text(json.dumps(CONFIG | {name: value}))

    def read() -> None:
        config_json.architecture(place)
        config_json.extras(place)

    with pytest.raises(UserError) as refused:
        read()
    assert len(str(refused.value)) < 1000
    assert "config.json" in str(refused.value)


def test_sizes_are_compared_with_the_tensors_before_anything_is_made(tmp_path: Path) -> None:
    place = model(tmp_path / "model")
    (place / "config.json").write_text(
        json.dumps(CONFIG | {"num_hidden_layers": 9000, "vocab_size": 2**23, "hidden_size": 2**16})
    )
    program = (
        "import resource, sys; from w2sr_jax.models.hf import pretrained; from w2sr_jax.core.errors import UserError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "try:\n    pretrained.load(sys.argv[1])\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(place)], capture_output=True, text=True, check=True)
    assert "that its config.json calls for" in done.stdout


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**63] * 100_000, "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [float("nan")], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}},
        {"a": {"dtype": ["F32"], "shape": [2], "data_offsets": [0, 8]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [-8, 0]}},
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 2**70]}},
        {"a": {"dtype": "F32", "shape": "2", "data_offsets": [0, 8]}},
        {"a": 7},
        [],
    ],
    ids=lambda each: str(each)[:30],
)
def test_headers_that_cannot_be_true_are_refused(tmp_path: Path, header: Any) -> None:
    place = model(tmp_path / "model")
    text = json.dumps(header).encode()
    (place / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(UserError, match=r"model\.safetensors") as refused:
        pretrained.load(place)
    assert len(str(refused.value)) < 1000


def test_a_header_of_a_hundred_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    place = model(tmp_path / "model")
    with open(place / "model.safetensors", "wb") as file:
        file.write((10**11).to_bytes(8, "little") + b"{")
        file.truncate(2 * 10**11)
    with pytest.raises(UserError, match="does not begin with a header"):
        pretrained.load(place)


def manifest(run: Path, stage: str, **changes: Any) -> None:
    """A manifest with a digest that fits, whatever is in it."""
    raw = {
        **{"stage": stage, "kind": "train", "identity": "0" * 64, "settings": {}, "inputs": {}, "outputs": {}, "artifacts": {}},
        **{"seals": {}, "measures": {}, "versions": {}, "environment": {}, "format": files.FORMAT, **changes},
    }
    files.write_json(manifests.path(run, stage), raw | {manifests.OWN: files.digest_json(raw)})


@pytest.mark.parametrize("field", ["outputs", "artifacts", "seals"])
@pytest.mark.parametrize("way", ["../precious", "rungs/../../precious", "ABSOLUTE", "linked/precious", "", ".", "a\0b"])
def test_what_a_manifest_names_outside_of_its_run_does_not_count_and_is_not_touched(tmp_path: Path, field: str, way: str) -> None:
    run, precious = tmp_path / "run", tmp_path / "precious"
    run.mkdir()
    precious.write_text(SECRET)
    (run / "linked").symlink_to("..")
    (run / "sound").write_text("sound")
    manifest(run, "stage", **{field: {"sound": files.digest_file(run / "sound")}})
    store = RunStore(run)
    assert store.peek("stage") is not None
    manifest(run, "stage", **{field: {str(precious) if way == "ABSOLUTE" else way: "0" * 64}})
    assert store.peek("stage") is None
    assert list(store.damaged_manifests()) == [manifests.path(run, "stage")]
    with pytest.raises(UserError, match=r"stage\.json is damaged"):
        store.manifests()
    store.retract("stage")
    assert precious.read_text() == SECRET


def test_a_seal_names_nothing_outside(tmp_path: Path) -> None:
    sealed = tmp_path / "step"
    sealed.mkdir()
    (tmp_path / "secret").write_text(SECRET)
    files.write_json(sealed / files.SEAL, {"../secret": files.digest_file(tmp_path / "secret")})
    assert "lies outside of it" in str(files.damage(sealed))
    assert "lies outside of it" in str(steps.damage(sealed))


@pytest.mark.parametrize("target", ["/etc", "../..", "../../precious", "../../absent"])
def test_a_link_out_of_a_run_ends_every_command_before_it_reads(tmp_path: Path, target: str) -> None:
    run = tmp_path / "run"
    (run / "rungs").mkdir(parents=True)
    (run / "rungs" / "0-small").symlink_to(target)
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match=r"outside of .* and is not followed"):
        run_directory(str(run), tmp_path)
    (run / "rungs" / "0-small").unlink()
    (run / "rungs" / "0-small").symlink_to("../rungs")
    assert run_directory(str(run), tmp_path) == run
    os.mkfifo(run / "experiment.json")
    with pytest.raises(UserError, match="neither a file nor a directory"):
        run_directory(str(run), tmp_path)


def test_json_is_read_of_regular_files_of_a_sane_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with open(tmp_path / "large", "wb") as file:
        file.truncate(files.LARGEST_JSON + 1)
    for name, words in (("pipe", "regular file"), ("zeros", "regular file"), ("large", "is not read"), (".", "cannot be read")):
        with pytest.raises(UserError, match=words):
            files.read_json(tmp_path / name)
    (tmp_path / "large").rename(tmp_path / "experiment.json")
    with pytest.raises(UserError, match="is not read"):
        saved.load(tmp_path)


@pytest.mark.parametrize(
    "architecture",
    [
        {"type": "evil:A"},
        {"type": "os:system"},
        {"type": "w2sr_jax.cli.main:main"},
        {"type": "subprocess:Popen", "args": ["touch", "owned"]},
        {"type": "w2sr_jax.models.config:ModelConfig", "layers": 10**9},
        {"type": "w2sr_jax.models.config:ModelConfig", "layers": "1"},
        ["w2sr_jax.models.config:ModelConfig"],
        "os:system",
        7,
    ],
    ids=str,
)
def test_what_an_imported_model_says_of_itself_is_an_architecture_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: Any
) -> None:
    place = import_model(str(model(tmp_path / "model")), tmp_path / "out", say=lambda line: None)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    (place / "evil.py").write_text(f"open({str(tmp_path / 'owned')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(place)
    sound = json.loads((place / RECORD).read_text())
    kind = next(key for key, value in sound["architecture"].items() if "ModelConfig" in str(value))
    if isinstance(architecture, dict):
        own = sound["architecture"] if "ModelConfig" in architecture["type"] else {}
        architecture = own | {kind if name == "type" else name: value for name, value in architecture.items()}
    (place / RECORD).write_text(json.dumps(sound | {"architecture": architecture}))
    with pytest.raises(UserError) as refused:
        read_record(place)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob("owned"))
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "text", ["](javascript:alert(1))", "<script>", "a\n---\nlicense: evil", "`", "| x |", "![x](http://y)", "\u202e"]
)
def test_foreign_words_in_a_card_are_words(text: str) -> None:
    for shown in (markdown.code(text), markdown.plain(text)):
        assert "\n" not in shown
        assert shown.isprintable()
    bare = markdown.plain(text).replace("\\\\", "")
    assert all(bare[at - 1] == "\\" for at, char in enumerate(bare) if char in "<>[]()`|!")
