"""What is kept of a frozen reference, in a whole run: once for each data set, none of it made again, its cost counted once."""

import sys
from pathlib import Path

import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.graph.store import RunStore

sys.path.insert(0, str(Path(__file__).parents[1] / "teachers"))
from stub_server import Stub, serving

CONFIG = """
from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Served
from w2sr_jax.text.settings import BpeTokenizer
from w2sr_jax.training.settings import Training


def experiment():
    small = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
    training = Training(steps=3, batching=Batching(length=256, rows=8), reference_top={top})
    return Experiment(
        name="kept",
        problems=Generated(),
        splits=Splits(pool=6, probe=2, test=4),
        teachers=(Served("oracle", url={url!r}, samples=2, back_off=0.01, timeout=5.0),),
        tokenizer=BpeTokenizer(vocab_size=300),
        rungs=(
            Rung(
                "student",
                small,
                teachers=("oracle",),
                arms=("all",),
                training=training,
                objective=Objective(Nll() + 0.5 * ReverseKL()),
            ),
        ),
        decoding=Decoding(temperature=0.0, max_tokens=4, batch=8),
        evaluation=Evaluation(samples=0, resamples=20),
    )
"""


def test_a_run_keeps_the_reference_once_per_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flops = {}
    for top in (0, 16):
        with serving(Stub()) as stub:
            config = tmp_path / f"config_{top}.py"
            config.write_text(CONFIG.format(url=stub.url, top=top))
            assert cli.run(["run", str(config), "--root", str(tmp_path / str(top)), "--plain"]) == 0, capsys.readouterr().err
        run = tmp_path / str(top) / "kept"
        made = RunStore(run).manifest("rungs/0-student/all/train")
        assert made is not None
        flops[top] = made.measures["flops"]
        said = capsys.readouterr().out
        assert ("of the reference's mass kept" in said) == (top > 0)
    assert 0 < made.measures["reference_mass"] < 1
    assert not (tmp_path / "0" / "kept" / "references").exists()
    kept = sorted((run / "references").glob("*/piece-*.npy"))
    assert len(kept) == 2  # the arm's data and the gold solutions'
    stamps = [path.stat().st_mtime_ns for path in kept]
    for path in (run / "lineage" / "rungs" / "0-student").glob("*/train.json"):
        path.unlink()
    assert cli.run(["train", str(run), "--plain"]) == 0, capsys.readouterr().err
    assert [path.stat().st_mtime_ns for path in kept] == stamps
    assert flops[16] < flops[0]
