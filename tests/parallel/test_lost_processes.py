"""`w2sr import` in two real processes of which one is lost: both end with a sentence, and nothing half-made is left."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import xla_flags

from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained
from w2sr_jax.training import checkpoints

ROOT = Path(__file__).resolve().parents[2]
MINUTE = 60.0
CONFIG = ModelConfig(vocab_size=64, width=16, layers=1, heads=2, kv_heads=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("theirs")
    pretrained.save(directory, CONFIG, transformer.init(CONFIG, jax.random.key(0)))
    return directory


def run(model: Path, out: Path, what: str, index: int) -> list[tuple[int, str]]:
    """Exit code and standard error of both processes; `what` happens to one of them. A stopped one is continued at the end."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {**os.environ, "XLA_FLAGS": xla_flags.devices(2), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    script = str(Path(__file__).with_name("importing_process.py"))
    asked = ["import", str(model), str(out), "--coordinator", f"localhost:{port}", "--processes", "2"]
    running = [
        subprocess.Popen(
            [sys.executable, script, what if own == index else "nothing", *asked, "--process", str(own)],
            env=variables,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in range(2)
    ]
    try:
        errors = [""] * 2
        for own in (1 - index, index):
            if own == index:
                running[own].send_signal(signal.SIGCONT)
            errors[own] = running[own].communicate(timeout=3 * MINUTE)[1]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, words) for process, words in zip(running, errors)]


@pytest.mark.parametrize(
    ("what", "index", "codes", "words"),
    [
        ("is killed", 0, (-9, 75), "is gone without a word (killed, or its machine is); start all again"),
        ("is killed", 1, (-9, 75), "is gone without a word (killed, or its machine is); start all again"),
        (
            "is stopped",
            0,
            (75, 75),
            "has not been heard of for 4 s (stopped, or its machine or network is gone); start all again",
        ),
        ("is terminated", 1, (143, 143), "ended: terminated; nothing was made; the same command begins anew"),
        ("fails", 0, (2, 2), "ended: this one cannot go on"),
        ("is at fault", 1, (1, 1), "ended: RuntimeError: an odd fault"),
    ],
)
def test_both_end_when_one_is_lost(
    model: Path, tmp_path: Path, what: str, index: int, codes: tuple[int, int], words: str
) -> None:
    outcomes = run(model, tmp_path / "out", what, index)
    assert [outcomes[index][0], outcomes[1 - index][0]] == list(codes), outcomes
    last = outcomes[1 - index][1].splitlines()[-1]
    assert last == f"w2sr: process {index} of 2 {words}", outcomes
    assert not (tmp_path / "out").exists()


def test_what_both_have_written_is_whole(model: Path, tmp_path: Path) -> None:
    outcomes = run(model, tmp_path / "out", "nothing", 0)
    assert [code for code, _ in outcomes] == [0, 0], outcomes
    _, expected = pretrained.load(model, "float32", "float32")
    restored = checkpoints.restore_params(tmp_path / "out")
    jax.tree.map(lambda left, right: (left == right).all() or pytest.fail("other parameters"), restored, expected)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_arguments_that_differ_are_said_before_anything_is_read(model: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    asked = ["import", str(model), str(tmp_path / "out"), "--coordinator", f"localhost:{port}", "--processes", "2"]
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "w2sr_jax.cli", *asked, "--process", str(own), "--dtype", dtype],
            env=variables,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own, dtype in enumerate(("float32", "bfloat16"))
    ]
    for process in running:
        errors = process.communicate(timeout=3 * MINUTE)[1]
        assert process.returncode == 2
        assert "process 1 was started otherwise than process 0: --dtype is 'bfloat16' and not 'float32'" in errors
    assert not (tmp_path / "out").exists()
