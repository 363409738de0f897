"""The configurations of real models, shrunk: the whole path on a machine without network and accelerator."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import xla_flags

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.core import records
from w2sr_jax.core.records import Example, Trace
from w2sr_jax.experiment import Experiment, Rung, Scratch
from w2sr_jax.graph.stage import Silent
from w2sr_jax.models import presets
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained
from w2sr_jax.preflight import rehearsal
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.stages.execute import execute
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork
from w2sr_jax.text.settings import WordTokenizer

ROOT = Path(__file__).resolve().parents[2]
PRESETS = {name: value for name, value in vars(presets).items() if isinstance(value, ModelConfig)}


_MORE = pytest.mark.skipif(
    not os.environ.get("W2SR_ALL_REHEARSALS"), reason="minutes: W2SR_ALL_REHEARSALS=1 has it too; its path is that of the others"
)


MANY = ("qwen2_5_gsm8k", "qwen3_math")


@pytest.fixture(scope="module", params=[*(pytest.param(name, marks=_MORE) for name in MANY), "simplerl_w2sr", "llama3_recorded"])
def shrunk(request, tmp_path_factory):
    """A configuration's shrunk run, made as a user makes it; its directory."""
    root = tmp_path_factory.mktemp(request.param)
    command = [sys.executable, "-m", "w2sr_jax.cli", "run", f"configs/{request.param}.py", "--shrink", "--root", str(root)]
    shell = {**os.environ, "XLA_FLAGS": xla_flags.devices(1), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=shell, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout.count("Rehearsal: tiny models that began with random weights") == 2  # before and after
    (run,) = root.iterdir()
    return run


def test_a_shrunk_configuration_ends_in_a_report_on_its_own_ladder(shrunk):
    experiment = saved.load(shrunk)
    found = json.loads((shrunk / "report" / "results.json").read_text())
    assert [rung["name"] for rung in found["rungs"]] == [rung.name for rung in experiment.rungs]
    assert all(rung["comparisons"] for rung in found["rungs"])
    assert found["rehearsal"] is True
    assert {rung["verdict"] for rung in found["verdict"]["rungs"]} == {found["verdict"]["overall"]} == {"unknown"}
    assert "Rehearsal: tiny models" in (shrunk / "report" / "index.html").read_text()
    assert {model["scores"]["problems"] for model in found["models"].values()} == {rehearsal.TEST}


@dataclasses.dataclass(frozen=True)
class Costly(Teacher):
    """A teacher of a user's own that a rehearsal must not ask."""

    name: str = "costly"

    def traces(self, work: TeacherWork):
        raise AssertionError("asked in a rehearsal")


def test_the_stand_in_of_an_own_teacher_answers_the_problems_of_the_rehearsal(tmp_path):
    experiment = Experiment(
        name="own",
        problems=Generated(),
        splits=Splits(pretrain=400, pool=400, probe=40, test=100),
        teachers=(Costly(),),
        tokenizer=WordTokenizer(),
        rungs=(Rung("student", ModelConfig(width=32, layers=1, heads=2, kv_heads=2), Scratch(), ("costly",)),),
    )
    small = rehearsal.shrink(experiment, tmp_path)
    execute(small, tmp_path / small.name, Silent(), kind="sample")
    execute(small, tmp_path / small.name, Silent(), kind="curate")
    (shard,) = (tmp_path / small.name / "teachers/costly/rung-0").glob("traces-*.parquet")
    traces = records.read(shard, Trace)
    assert len(traces) == rehearsal.POOL + rehearsal.PROBE
    assert 0.2 < sum(trace.verdict == "incorrect" for trace in traces) / len(traces) < 0.5
    curated = records.read(tmp_path / small.name / "rungs/0-student/correct/curated.parquet", Example)
    assert 0.5 * rehearsal.POOL <= len(curated) <= rehearsal.POOL


def test_its_students_open_in_transformers(shrunk, tmp_path, capsys):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    experiment = saved.load(shrunk)
    out = tmp_path / "out"
    source = shrunk / "rungs" / f"{len(experiment.rungs) - 1}-{experiment.rungs[-1].name}" / "correct"
    assert cli.run(["export", str(source), str(out)]) == 0, capsys.readouterr().err
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    config, params = pretrained.load(out)
    assert config.vocab_size == experiment.rungs[-1].model.vocab_size
    turn = [{"role": "user", "content": "What is 1 + 2?"}]
    ids = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_tensors="pt", return_dict=False)
    with torch.no_grad():
        logits = model(ids).logits[0].float().numpy()
    from w2sr_jax.models import transformer

    exact = dataclasses.replace(config, dtype="float32")
    hidden = transformer.forward(exact, params, ids.numpy(), jax.numpy.arange(ids.shape[1])[None])
    assert abs(transformer.logits(exact, params, hidden)[0] - logits).max() <= 1e-4


@pytest.mark.parametrize("name", PRESETS)
def test_a_shrunk_architecture_keeps_its_switches(name):
    small, full = rehearsal.model(PRESETS[name], 120), PRESETS[name]
    small.check()
    assert small.parameters() < 10**6
    sizes = {"vocab_size", "width", "layers", "heads", "kv_heads", "head_dim", "mlp", "window", "query_scale"}
    assert [
        field.name
        for field in dataclasses.fields(ModelConfig)
        if field.name not in sizes and getattr(small, field.name) != getattr(full, field.name)
    ] == []
    assert (small.kv_heads < small.heads) == (full.kv_heads < full.heads)
    assert set(small.local_layers) == set(full.local_layers)


def test_a_run_is_not_shrunk(tmp_path, capsys):
    (tmp_path / "made").mkdir()
    assert cli.run(["run", str(tmp_path / "made"), "--shrink"]) == 2
    assert "--shrink takes a configuration" in capsys.readouterr().err
