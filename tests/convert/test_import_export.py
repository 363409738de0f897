"""Models in and out: what transformers wrote comes in, what a run made opens in transformers and peft."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import xla_flags
import yaml
from safetensors.numpy import load_file

from w2sr_jax.batches.settings import Batching
from w2sr_jax.convert import atomic_directory, exporting, markdown
from w2sr_jax.convert.exporting import export
from w2sr_jax.convert.importing import import_model
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, ModelTeacher, Rung
from w2sr_jax.graph import manifest
from w2sr_jax.graph.stage import Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import config_json, pretrained
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import models, problems, tokenizer, weights
from w2sr_jax.stages.execute import execute
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training import checkpoints
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.fingerprint import PIECE, fingerprint
from w2sr_jax.training.settings import Training

ROOT = Path(__file__).resolve().parents[2]
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def quiet(_: str) -> None: ...


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """A Qwen2 that transformers made, bfloat16, in several shards, with a tokenizer."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    directory = tmp_path_factory.mktemp("theirs")
    torch.manual_seed(0)
    config = transformers.Qwen2Config(
        **SIZES, num_key_value_heads=2, tie_word_embeddings=False, eos_token_id=5, bos_token_id=None, max_position_embeddings=77
    )
    model = transformers.Qwen2ForCausalLM(config).to(torch.bfloat16)
    model.generation_config.eos_token_id = [5, 6]
    model.save_pretrained(directory, max_shard_size="10KB")
    vocabulary = tokenizers.build(WordTokenizer(largest=9), ["a b c"])
    vocabulary.save(directory / "vocabulary")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.move(directory / "vocabulary" / name, directory / name)
    shutil.rmtree(directory / "vocabulary")
    (directory / "pytorch_model.bin").write_bytes(b"a pickle")
    return directory


@pytest.fixture(scope="module")
def imported(theirs, tmp_path_factory) -> Path:
    return import_model(str(theirs), tmp_path_factory.mktemp("imported") / "qwen", "bfloat16", say=quiet)


@pytest.fixture(scope="module")
def run(theirs, tmp_path_factory) -> Path:
    """A run of one seed on one device: a student from random weights, and one with adapters from what was imported."""
    directory = tmp_path_factory.mktemp("runs") / "mine"
    short = Training(steps=6, batching=Batching(length=112, rows=4))
    small = ModelConfig(width=32, layers=1, heads=2, kv_heads=2)
    teacher = ModelTeacher("teacher", small, short, samples=1, decoding=Decoding(temperature=0.7, max_tokens=8))
    base = tmp_path_factory.mktemp("base") / "base"
    start = dataclasses.replace(small, vocab_size=112)
    pretrained.save(base, start, transformer.init(start, jax.random.key(1)), extra={"max_position_embeddings": 99})
    adapted = dataclasses.replace(short, lora=Lora(rank=2, alpha=4.0))
    experiment = Experiment(
        name="mine",
        problems=Generated(largest=9),
        splits=Splits(teacher=30, pool=30, probe=4, test=6),
        tokenizer=WordTokenizer(largest=9),
        teachers=(teacher,),
        rungs=(
            Rung("plain", small, arms=("all",), gold=False, training=short, pool=(0.0, 0.5)),
            Rung("low", start, FromCheckpoint(str(base)), arms=("all",), gold=False, training=adapted, pool=(0.5, 1.0)),
        ),
        evaluation=Evaluation(resamples=20),
        decoding=Decoding(temperature=0.0, max_tokens=8),
        mesh=Mesh(data=1),
    )
    execute(experiment, directory, Silent())
    return directory


def ours_of(run: Path, name: str) -> tuple[ModelConfig, dict]:
    from w2sr_jax.configuration import saved
    from w2sr_jax.convert.exported import all_models

    experiment, store = saved.load(run), RunStore(run)
    model = next(each for each in all_models(experiment) if each.name == name)
    config = models.sized(model.config, tokenizer.renderer(store))
    return config, models.parameters(store, model, config, make_mesh(experiment.mesh))


def forward(config: ModelConfig, params: dict, tokens: np.ndarray) -> np.ndarray:
    rows, length = tokens.shape
    segments = np.ones((rows, length), np.int32)
    positions = np.broadcast_to(np.arange(length, dtype=np.int32), tokens.shape)
    hidden = transformer.forward(config, params, tokens, positions, segments)
    return np.asarray(transformer.logits(config, params, hidden))


def same_tensors(one: Path, other: Path) -> None:
    def tensors(directory: Path) -> dict[str, np.ndarray]:
        return {name: value for path in directory.glob("*.safetensors") for name, value in load_file(path).items()}

    left, right = tensors(one), tensors(other)
    assert left.keys() == right.keys()
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        np.testing.assert_array_equal(left[name].view(np.uint8), right[name].view(np.uint8), err_msg=name)


def test_an_import_is_a_checkpoint_with_architecture_tokenizer_and_lineage(theirs, imported):
    config, params = pretrained.load(theirs, "bfloat16", "bfloat16")
    restored = checkpoints.restore_params(imported)
    jax.tree.map(np.testing.assert_array_equal, restored, params)
    record = weights.read_record(imported)
    assert record.config == config
    digests = {path.name: files.digest_file(path) for path in theirs.glob("model*")}
    assert digests.items() <= record.source["files"].items()
    assert len(digests) > 3
    origin = checkpoints.read_lineage(imported)
    assert origin["checkpoint"] == str(theirs)
    assert origin["weights_digest"] == files.digest_json(record.source["files"])
    names = {path.name for path in (imported / "tokenizer").iterdir()}
    assert names == {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
    assert not list(imported.rglob("*.bin"))


def test_importing_and_exporting_gives_the_same_bits(theirs, imported, tmp_path):
    out = export(imported, tmp_path / "out", say=quiet)
    same_tensors(theirs, out)
    before, after = (json.loads((path / "config.json").read_text()) for path in (theirs, out))
    for name in ("max_position_embeddings", "eos_token_id", "model_type", "architectures"):
        assert after[name] == before[name], name
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [5, 6]
    again = import_model(str(out), tmp_path / "again", "bfloat16", say=quiet)
    assert checkpoints.read_lineage(again)["params_digest"] == checkpoints.read_lineage(imported)["params_digest"]


def test_shards_have_the_chosen_size_and_an_index(imported, tmp_path):
    out = export(imported, tmp_path / "out", shard_bytes=10_000, say=quiet)
    sizes = [path.stat().st_size for path in out.glob("model-*.safetensors")]
    assert len(sizes) > 3
    assert max(sizes) < 12_000
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"].values()) == {path.name for path in out.glob("model-*.safetensors")}


def test_another_type_is_written_where_it_is_asked_for(imported, tmp_path):
    out = export(imported, tmp_path / "out", dtype="float32", say=quiet)
    assert {str(value.dtype) for value in load_file(out / "model.safetensors").values()} == {"float32"}
    assert json.loads((out / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("name", ["0-plain.all", "1-low.all", "teacher"])
def test_a_model_of_a_run_opens_in_transformers_with_equal_logits_prompts_and_ends(run, name, tmp_path):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    out = export(run, tmp_path / "out", model=name, say=quiet)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out)
    vocabulary = transformers.AutoTokenizer.from_pretrained(out)
    config, params = ours_of(run, name)
    renderer = tokenizer.renderer(RunStore(run))

    tokens = np.random.default_rng(0).integers(0, 100, (2, 20), dtype=np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(expected, forward(config, params, tokens), atol=1e-4)

    question = problems.read(RunStore(run), problems.TEST)[0].question
    for style in ("reason", "direct"):
        turns = [{"role": "user", "content": question}]
        asked = vocabulary.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=True, enable_thinking=style == "reason"
        )
        assert asked["input_ids"] == renderer.prompt(question, style)

    assert theirs.generation_config.eos_token_id == list(renderer.end_tokens)
    assert theirs.generation_config.do_sample is False
    limits = ("max_new_tokens", "max_length", "min_new_tokens", "max_time", "stop_strings")
    assert not {*limits} & json.loads((out / "generation_config.json").read_text()).keys()  # 8 tokens were the evaluation's limit
    _always(theirs, renderer.end_tokens[0])
    prompt = torch.tensor([renderer.prompt(question)])
    written = theirs.generate(prompt, attention_mask=torch.ones_like(prompt))[0, prompt.shape[1] :].tolist()
    assert written == [renderer.end_tokens[0]]


def _always(model, token: int) -> None:
    """Make a model say one token and nothing else."""
    original = model.forward

    def forward(*args, **kwargs):
        out = original(*args, **kwargs)
        out.logits[..., token] = 1e4
        return out

    model.forward = forward


def test_adapters_alone_open_in_peft_with_equal_logits(run, tmp_path):
    torch, transformers, peft = (pytest.importorskip(name) for name in ("torch", "transformers", "peft"))
    out = export(run / "rungs/1-low/all", tmp_path / "out", adapter=True, say=quiet)
    assert not list(out.glob("model*"))
    named = json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"]
    origin = checkpoints.read_lineage(run / "rungs/1-low/base/checkpoints")
    assert named == origin["checkpoint"]
    base = transformers.AutoModelForCausalLM.from_pretrained(named)
    theirs = peft.PeftModel.from_pretrained(base, out)
    config, params = ours_of(run, "1-low.all")
    tokens = np.random.default_rng(1).integers(0, 100, (1, 12), dtype=np.int32)
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens.astype(np.int64))).logits.numpy()
    np.testing.assert_allclose(expected, forward(config, params, tokens), atol=1e-4)
    assert 'library_name: "peft"' in (out / "README.md").read_text()


def test_the_context_of_the_original_goes_with_a_student(run, tmp_path):
    out = export(run, tmp_path / "out", model="1-low.all", say=quiet)
    assert json.loads((out / "config.json").read_text())["max_position_embeddings"] == 99


def test_the_card_says_what_the_manifests_say(run, tmp_path):
    text = (export(run / "rungs/1-low", tmp_path / "out", say=quiet) / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    matter = yaml.safe_load(front)
    assert matter["license"] == "unknown"
    assert matter["library_name"] == "transformers"
    assert "base_model" not in matter  # a local directory is no model of the Hub
    base = checkpoints.read_lineage(run / "rungs/1-low/base/checkpoints")
    for digest in (base["checkpoint"], base["weights_digest"], base["params_digest"]):
        assert f"`{digest}`" in body
    store = RunStore(run)
    manifest = store.peek("rungs/1-low/all/train")
    assert f"`{next(iter(manifest.artifacts.values()))}`" in body
    assert f"steps 6, tokens {manifest.measures['tokens']}, examples {manifest.measures['examples']}" in body
    curated = store.peek("rungs/1-low/curation").outputs["rungs/1-low/all/curated.parquet"]
    assert f"| `rungs/1-low/all/curated.parquet` | `{curated}` |" in body
    traces = store.peek("rungs/1-low/traces-teacher").measures["traces"]
    assert re.search(rf"\| `teacher` \| a model of [\d,]+ parameters, trained in the run on gold solutions \| {traces} \|", body)
    scores = json.loads((run / "evaluations/1-low.all/scores.json").read_text())["accuracy"]
    low, high = (f"{100 * scores[end]:.1f}" for end in ("low", "high"))
    assert f"| {100 * scores['value']:.1f}\u202f% | {low} to {high}\u202f% | 6 |" in body
    assert "`Lora(rank=2, alpha=4.0)`" in body
    assert "difference to the teacher" in body


def test_the_card_of_an_import_names_the_original(theirs, imported, tmp_path):
    text = (export(imported, tmp_path / "out", say=quiet) / "README.md").read_text()
    assert f"`{theirs}`" in text
    assert f"| `config.json` | `{files.digest_file(theirs / 'config.json')}` |" in text
    assert "It was not trained in between" in text


def test_a_hub_model_is_imported_from_the_cache_and_named_as_the_base(theirs, tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit, cache = "0123456789abcdef0123456789abcdef01234567", tmp_path / "cache" / "models--owner--some-name"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(theirs, cache / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent))
    out = import_model("owner/some-name", tmp_path / "imported", say=quiet)
    source = weights.read_record(out).source
    assert (source["ref"], source["repository"], source["revision"]) == ("owner/some-name", "owner/some-name", commit)
    text = (export(out, tmp_path / "out", say=quiet) / "README.md").read_text()
    assert yaml.safe_load(text.split("---\n", 2)[1])["base_model"] == "owner/some-name"
    assert f"revision `{commit}`" in text
    config = config_json.architecture(theirs)
    places = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), transformer.shapes(config))
    for ref in ("owner/some-name", f"owner/some-name@{commit}", str(out)):
        origin = weights.load(ref, config, places).origin
        assert (origin["checkpoint"], origin["repository"], origin["revision"]) == (ref, "owner/some-name", commit)
    assert checkpoints.mark("owner/some-name") == ("owner/some-name", fingerprint(theirs))


def test_results_that_are_not_what_the_evaluation_wrote_are_refused(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    scores = copy / "evaluations/0-plain.all/scores.json"
    scores.write_text(scores.read_text().replace('"value": 0', '"value": 1'))
    words = "scores.json is not what evaluations/0-plain.all wrote"
    refused(tmp_path, lambda out: export(copy, out, model="0-plain.all", say=quiet), words)


def test_foreign_text_stays_text_in_markdown_and_yaml():
    hostile = "x` <script>alert(1)</script> | [a](http://b) \n# title ``` {{ y }}"
    shown = markdown.code(hostile)
    assert "\n" not in shown
    assert "|" not in shown
    assert shown.startswith("````x` <script>")
    assert shown.endswith("````")
    template = markdown.environment(str(ROOT)).from_string("{{ name }}, {{ sizes.a }}, {{ own }}")
    assert template.render(name="*b*", sizes={"a": 3}, own=markdown.Raw("*c*")) == "`*b*`, 3, *c*"
    assert yaml.safe_load(f"a: {markdown.yaml([hostile, '---', 'yes', 'é'])}") == {"a": [hostile, "---", "yes", "é"]}


def test_a_checkpoint_is_read_alike_from_its_directory_the_import_and_an_export(theirs, imported, tmp_path):
    config = config_json.architecture(theirs)
    places = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.devices()[0]), transformer.shapes(config))
    out = export(imported, tmp_path / "out", say=quiet)
    loaded = [weights.load(str(path), config, places) for path in (theirs, imported, imported / "0", out)]
    for each in loaded:
        assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(each.params))
        jax.tree.map(np.testing.assert_array_equal, each.params, loaded[0].params)
    assert [each.origin.get("context") for each in loaded] == ["77", "77", None, "77"]
    other = dataclasses.replace(config, layers=3)
    for path in (theirs, imported):
        with pytest.raises(UserError, match="layers is 2 there and 3 here"):
            weights.load(str(path), other, places)
    wide = dataclasses.replace(config, vocab_size=72)
    with pytest.raises(UserError, match=r"embedding is \(64, 32\) there and \(72, 32\) here"):
        weights.load(str(imported / "0"), wide, places)


def test_the_mark_of_weights_follows_every_tensor_and_not_the_place(theirs, imported, tmp_path):
    shutil.copytree(theirs, tmp_path / "copy")
    name, digest = checkpoints.mark(str(theirs))
    assert name == str(theirs)
    assert checkpoints.mark(str(tmp_path / "copy"))[1] == digest == fingerprint(theirs)
    whole = export(imported, tmp_path / "whole", say=quiet)
    shutil.copy(theirs / "config.json", whole / "config.json")
    assert fingerprint(whole) == digest  # other files, the same tensors
    path = whole / "model.safetensors"
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for at in (header, len(content) - 1):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert fingerprint(whole) != digest
    path.write_bytes(content)
    config = whole / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 10001.0'))
    assert fingerprint(whole) != digest
    assert checkpoints.mark(str(imported))[1] == files.digest_file(imported / "0" / "lineage" / "metadata")
    assert PIECE > 0


def refused(tmp_path: Path, what, match: str) -> None:
    """`what(out)` is refused in one sentence, and leaves nothing."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        what(tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_refused_leaves_nothing(theirs, imported, run, tmp_path, monkeypatch):
    broken = tmp_path / "broken"
    shutil.copytree(theirs, broken)
    shard = max(broken.glob("model-*"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-5])
    refused(tmp_path, lambda out: import_model(str(broken), out, say=quiet), f"{shard.name} is truncated")
    shard.unlink()
    refused(tmp_path, lambda out: import_model(str(broken), out, say=quiet), shard.name)
    refused(tmp_path, lambda out: import_model(str(tmp_path / "absent"), out, say=quiet), "does not exist")
    refused(tmp_path, lambda out: import_model("", out, say=quiet), "the name of a model is empty")
    refused(tmp_path, lambda out: import_model(str(imported), out, say=quiet), "is what `w2sr import` wrote")
    refused(tmp_path, lambda out: export(imported, out, model="0-plain.all", say=quiet), "is an imported model, not a run")
    refused(tmp_path, lambda out: export(tmp_path, out, say=quiet), "neither a model of a run")
    refused(tmp_path, lambda out: export(run, out, say=quiet), "is a run; name one with --model: teacher, 0-plain.base")
    refused(tmp_path, lambda out: export(run, out, model="0-plain.some", say=quiet), "has no model '0-plain.some'")
    refused(tmp_path, lambda out: export(run / "rungs/0-plain/all", out, adapter=True, say=quiet), "not trained with LoRA")
    (tmp_path / "file").touch()
    refused(tmp_path, lambda out: export(imported, out.parent / "file", say=quiet), "file is a file")
    refused(tmp_path, lambda out: export(imported, broken, say=quiet), "is not empty")
    refused(tmp_path, lambda out: import_model(str(theirs), broken, say=quiet), "is not empty")


def test_a_tokenizer_that_the_embedding_cannot_serve_is_not_imported(theirs, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(theirs, other)
    path = other / "tokenizer.json"
    fields = json.loads(path.read_text())
    fields["added_tokens"].append({**fields["added_tokens"][0], "id": 64, "content": "<image>"})
    path.write_text(json.dumps(fields))
    import_model(str(other), tmp_path / "added", say=quiet)
    fields["model"]["vocab"]["beyond"] = 65
    path.write_text(json.dumps(fields))
    refused(
        tmp_path, lambda out: import_model(str(other), out, say=quiet), "has 66 tokens but the model's embedding only 64 rows"
    )
    path.write_text("{")
    refused(tmp_path, lambda out: import_model(str(other), out, say=quiet), "tokenizer.json is not a sound tokenizer")


def test_an_export_says_where_transformers_would_open_another_tokenizer(imported, tmp_path):
    lines: list[str] = []
    export(imported, tmp_path / "one", say=lines.append)
    assert "PreTrainedTokenizerFast.from_pretrained" in "".join(lines)
    own = tmp_path / "own"
    shutil.copytree(imported, own)
    settings = own / "tokenizer" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"tokenizer_class": "Qwen2TokenizerFast"}))
    lines.clear()
    export(own, tmp_path / "two", say=lines.append)
    assert "PreTrainedTokenizerFast" not in "".join(lines)


def test_a_tokenizer_that_transformers_5_saved_is_exported_for_transformers_4_too(imported, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(imported, own)
    settings = own / "tokenizer" / "tokenizer_config.json"
    saved = json.loads(settings.read_text())
    template = saved.pop("chat_template")
    (own / "tokenizer" / "chat_template.jinja").write_text(template)
    of_5 = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "extra_special_tokens": ["<q>"]}
    settings.write_text(json.dumps(saved | of_5 | {"model_max_length": 10**30}))
    out = export(own, tmp_path / "out", say=quiet)
    exported = json.loads((out / "tokenizer_config.json").read_text())
    assert exported["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert exported["additional_special_tokens"] == ["<q>"]
    assert "extra_special_tokens" not in exported
    assert (exported["chat_template"], exported["model_max_length"]) == (template, 77)
    assert "<end>" in {token["content"] for token in exported["added_tokens_decoder"].values()}
    assert json.loads(settings.read_text())["tokenizer_class"] == "TokenizersBackend"  # what was imported stays


def test_weights_are_looked_at_before_a_run_begins(theirs, imported, tmp_path):
    config = weights.read_record(imported).config
    for vocabulary in (0, config.vocab_size):
        weights.check(str(theirs), dataclasses.replace(config, vocab_size=vocabulary))
        weights.check(str(imported), dataclasses.replace(config, vocab_size=vocabulary))
    weights.check("owner/name", config)
    for directory in (theirs, imported):
        with pytest.raises(UserError, match="layers is 2 there and 3 here"):
            weights.check(str(directory), dataclasses.replace(config, layers=3))
    broken = tmp_path / "broken"
    shutil.copytree(theirs, broken)
    shard = next(broken.glob("model-*"))
    shard.write_bytes(shard.read_bytes()[:-5])
    with pytest.raises(UserError, match="is truncated"):
        weights.check(str(broken), config)


def test_a_model_that_is_not_trained_is_refused_by_its_stage(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    manifest.path(copy, "rungs/0-plain/all/train").unlink()
    words = "rungs/0-plain/all/train.json, on which evaluations/0-plain.all stands, is missing"
    refused(tmp_path, lambda out: export(copy / "rungs/0-plain/all", out, say=quiet), words)
    for stage in ("report", "evaluations/0-plain.all"):
        manifest.path(copy, stage).unlink(missing_ok=True)
    refused(tmp_path, lambda out: export(copy / "rungs/0-plain/all", out, say=quiet), "no stage rungs/0-plain/all/train yet")


def test_a_full_disk_and_a_failure_leave_nothing(imported, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(exporting.pretrained, "save", full)
    refused(tmp_path, lambda out: export(imported, out, say=quiet), "the disk is full; free some space")
    monkeypatch.undo()
    monkeypatch.setattr(atomic_directory.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 5, 5))
    refused(tmp_path, lambda out: export(imported, out, say=quiet), "has room for 0.0 kB, and .* are needed")
    monkeypatch.undo()
    leftover = tmp_path / ".out.making" / "made"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    export(imported, tmp_path / "out", say=quiet)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_output_that_another_process_is_making_is_refused(imported, tmp_path):
    from w2sr_jax.core.process.lock import locked

    with locked(tmp_path / ".out.making"), pytest.raises(UserError, match="is in use by process"):
        export(imported, tmp_path / "out", say=quiet)
    assert not (tmp_path / "out").exists()


def test_sizes_in_words():
    assert exporting.size_of("5GB") == 5 * 10**9
    assert exporting.size_of("1.5 mb") == 1_500_000
    for wrong in ("", "GB", "-1GB", "5XB", "0"):
        with pytest.raises(UserError, match="is not a size"):
            exporting.size_of(wrong)


def test_two_processes_import_and_export_what_one_does(theirs, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    variables = {**os.environ, "XLA_FLAGS": xla_flags.devices(2), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("import_export_processes.py")
    running = [
        subprocess.Popen(
            [sys.executable, str(script), port, index, str(theirs), str(tmp_path)],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in "01"
    ]
    try:
        outputs = [process.communicate(timeout=200) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], outputs
    alone = import_model(str(theirs), tmp_path / "alone", say=quiet)
    together = params_digest(checkpoints.restore_params(tmp_path / "imported"))
    assert together == checkpoints.read_lineage(alone)["params_digest"]
    export(alone, tmp_path / "apart", shard_bytes=40_000, say=quiet)
    same_tensors(tmp_path / "apart", tmp_path / "exported")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone", "apart", "exported", "imported"]
