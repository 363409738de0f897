"""`w2sr plan` as a user calls it: what it prints, and what it refuses."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.planning import hardware
from w2sr_jax.planning.plan import Asked, plan

ROOT = Path(__file__).resolve().parents[2]
QWEN = str(ROOT / "configs" / "qwen3_math.py")
TINY = """
from w2sr_jax.batches.settings import Batching
from w2sr_jax.experiment import Experiment, FromCheckpoint, ModelTeacher, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(vocab_size=256, width=128, layers=2, heads=2, kv_heads=2, mlp=256, dtype="bfloat16")
HOW = Training(steps=4, batching=Batching(length=256, rows=4))


def experiment() -> Experiment:
    return Experiment(
        name="tiny",
        splits=Splits(pool=16, test=4, teacher=8),
        teachers=(ModelTeacher(model=MODEL, training=HOW, decoding=Decoding(batch=8)),),
        rungs=(Rung("small", MODEL, start=FromCheckpoint("somebody/absent"), arms=("correct",), training=HOW),),
        decoding=Decoding(batch=8, temperature=0.0),
        mesh=Mesh(fsdp=2),
    )
"""


@pytest.fixture(autouse=True)
def _platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.py"
    path.write_text(TINY, encoding="utf-8")
    return str(path)


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert cli.run(["plan", *words]) == 2
    return capsys.readouterr().err.strip()


def test_arithmetic_says_memory_rows_and_time(tiny: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, root = len(jax.live_arrays()), tmp_path / "runs"
    assert cli.run(["plan", tiny, "--topology", "v5e:2x2", "--arithmetic", "--root", str(root), "--price", "2"]) == 0
    text = capsys.readouterr().out
    assert len(jax.live_arrays()) == before, "no parameter is made"
    assert "4 devices of 16 GiB each, 1 host; mesh 2 × 2 × 1" in text
    assert "arithmetic alone" in text
    assert "somebody/absent: not on this disk; the sizes are those of the configuration's models" in text
    for program in ("train step", "lay out", "prefill", "seat", "decode", "held-out"):
        assert sum(line.startswith(program) for line in text.splitlines()) == 1, "the two models are of one size"
    last = text.splitlines()[-1].split()
    assert last[:2] == ["all", "stages"]
    assert float(last[-1]) == pytest.approx(2 * float(last[-2]), abs=0.1)
    assert "none is the cheapest for its 4 (attention is set)" in text
    assert not root.exists(), "nothing is written"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((QWEN,), "w2sr plan needs --topology: there are TPU slices"),
        ((QWEN, "--topology", "v9:2x2"), "there are TPU slices (v4, v5e, v5p, v6e"),
        ((QWEN, "--topology", "v5p:2x2x2"), "does not divide the 8 v5p:2x2x2 devices"),
        ((QWEN, "--topology", "v5p:2x4x4", "--mesh.data", "1"), "uses 16 of the 32 devices of v5p:2x4x4"),
        ((QWEN, "--topology", "h100:16", "--mesh.tensor", "3", "--mesh.fsdp", "4"), "does not divide the 16 h100:16 devices"),
        ((QWEN, "--topology", "h100:16", "--mesh.tensor", "16", "--mesh.fsdp", "1"), "does not divide over mesh.tensor = 16"),
        ((QWEN, "--topology", "v5p:2x2x4", "--mfu", "40"), "--mfu is 40; it must be a fraction"),
        ((QWEN, "--topology", "v5p:2x2x4", "--test-problems", "0"), "--test-problems is 0"),
        (("nowhere", "--topology", "v5p:2x2x4"), "nowhere is neither a configuration"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, *words, "--arithmetic")
    assert said in text
    assert len(text.splitlines()) == 1


def test_what_does_not_fit_is_refused_with_its_numbers(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, tiny, "--topology", "v5e:2x2", "--arithmetic", "--decoding.batch", "400000")
    assert "tiny does not fit v5e:2x2" in text
    assert "the decode of teacher, 0-small.base, 0-small.correct, 0-small.gold (400000 × 768)" in text
    cache = 2 * 2 * 2 * 64 * 2 * 100_000 * 768  # on one device: keys and values of 2 layers, 2 heads of 64, bfloat16
    assert "GiB of 16.0 GiB" in text
    needed = float(text.split("the decode of")[1].split("it needs ")[1].split()[0])
    assert needed > cache / 2**30
    assert len(text.splitlines()) == 1


def test_gpus_that_are_not_here_are_planned_by_arithmetic(tiny: str, tmp_path: Path) -> None:
    made = plan(saved.load_config(Path(tiny)), hardware.named("h100:4"), Asked(), tmp_path, print)
    assert made.targets.devices is None
    assert made.targets.why == "this machine has none of its 4 GPUs"
    assert all(each.compiled is None and each.needed > 0 for each in made.programs)
    trained = {name for each in made.programs if each.use.program.what == "train step" for name in each.use.models}
    assert trained == {"teacher", "0-small.correct", "0-small.gold"}


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: nothing compiles for a TPU here")
@pytest.mark.parametrize("mesh", [{"fsdp": 2}, {"fsdp": 4}, {"data": 4, "fsdp": 1}], ids=["both", "fsdp", "data"])
def test_every_program_is_compiled_for_a_tpu_that_is_not_here(mesh: dict[str, int], tiny: str, tmp_path: Path) -> None:
    """Steps of several micro-batches with an output matrix of their own, which a compiler for TPUs has failed on, are among
    them."""
    settings = [
        "--rungs.0.model.no-tied-embeddings",
        "--rungs.0.training.accumulation",
        "2",
        "--rungs.0.training.batching.rows",
        "8",
    ]
    settings += [word for axis, ways in mesh.items() for word in (f"--mesh.{axis}", str(ways))]
    where = ["--topology", "v5e:2x2", "--root", str(tmp_path)]
    command = [sys.executable, "-m", "w2sr_jax.cli", "plan", tiny, *where, *settings]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.endswith("compiler")]
    assert [line.split("  ")[0] for line in rows] == ["train step", "lay out", "prefill", "seat", "decode", "held-out"]
    assert "What one device receives" in done.stdout
