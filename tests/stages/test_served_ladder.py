"""A teacher behind a server in a whole run: its traces, its cost in the report, nothing asked for twice, no key on disk."""

import json
import sys
from pathlib import Path

import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.core import records
from w2sr_jax.core.records import Trace
from w2sr_jax.graph.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))
from stub_server import Stub, serving

KEY = "sk-a-secret-that-no-file-may-hold"

CONFIG = """
from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Served
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training


def experiment():
    small = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
    training = Training(steps=2, batching=Batching(length=256, rows=8))
    served = Served("oracle", url={url!r}, samples=2, prompt_price=2.0, completion_price=8.0, back_off=0.01, timeout=5.0)
    return Experiment(
        name="served",
        problems=Generated(),
        splits=Splits(pool=6, probe=2, test=4),
        teachers=(served,),
        tokenizer=BpeTokenizer(vocab_size=300),
        rungs=(Rung("student", small, teachers=("oracle",), arms=("all",), gold=False, training=training),),
        decoding=Decoding(temperature=0.0, max_tokens=4, batch=8),
        evaluation=Evaluation(samples=0, resamples=20),
    )
"""


def test_a_run_asks_a_server_once_and_says_what_it_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(Stub()) as stub:
        config = tmp_path / "served_config.py"
        config.write_text(CONFIG.format(url=stub.url))
        command = ["run", str(config), "--root", str(tmp_path / "runs"), "--plain"]
        assert cli.run(command) == 0, capsys.readouterr().err
        said, asked = capsys.readouterr().out, len(stub.requests)
        assert cli.run(command) == 0
    run = tmp_path / "runs" / "served"
    assert asked == len(stub.requests) == 8 * 2
    assert "oracle: 16 requests, at most" in said
    traces = [trace for path in sorted(run.glob("teachers/oracle/rung-0/*.parquet")) for trace in records.read(path, Trace)]
    assert len(traces) == 16
    made = RunStore(run).manifest("rungs/0-student/traces-oracle")
    assert made is not None
    assert made.measures["cost"] == pytest.approx(16 * (10 * 2.0 + 5 * 8.0) / 1e6)
    stages = json.loads((run / "report" / "results.json").read_text())["stages"]
    assert [stage["cost"] for stage in stages if "cost" in stage] == [made.measures["cost"]]
    page = (run / "report" / "index.html").read_text()
    assert "Paid to servers" in page
    assert "0.00096" in page
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path
