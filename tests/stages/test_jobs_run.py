"""`w2sr run --jobs 2`: the same bits as one process on as many cores, also after it was stopped or killed amid the work.

Two seeds with a loss of the user's own, so that a worker goes from one run with such code to the other and back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from w2sr_jax.core import files
from w2sr_jax.graph import manifest
from w2sr_jax.graph.jobs.pool import Ended, Pool, worker_command

ROOT = Path(__file__).resolve().parents[2]
LADDER = """
import dataclasses

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.losses.objective import Objective
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
HOW = Training(steps=40, learning_rate=1e-3, save_every=5, batching=Batching(length=112, rows=4))
SHORT = Decoding(temperature=0.7, max_tokens=8, batch=16)


def own(tokens):
    from w2sr_jax.losses.token import Nll

    return Nll()(tokens)


def experiment():
    return Experiment(
        name="ladder",
        seeds=(0, 1),
        problems=Generated(seed=1, operations=(2, 2), largest=9),
        splits=Splits(pretrain=20, teacher=40, pool=40, probe=5, test=10),
        tokenizer=WordTokenizer(largest=9),
        teachers=(ModelTeacher(model=MODEL, training=HOW, samples=2, decoding=SHORT),),
        rungs=(Rung("small", MODEL, curation=Curation(per_problem=1), arms=("all", "incorrect"), training=HOW,
                    objective=Objective(loss=own)),),
        grader=NumberGrader(),
        evaluation=Evaluation(samples=2, temperature=0.7, resamples=50, faithfulness=0),
        decoding=dataclasses.replace(SHORT, temperature=0.0),
    )
"""
two_cores = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="two jobs take two cores"
)
pytestmark = two_cores


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("jobs")
    (place / "ladder.py").write_text(LADDER, encoding="utf-8")
    return place


def started(place: Path, root: str, *options: str, core: int | None = None, home: Path | None = None) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "w2sr_jax.cli", "run", "ladder.py", "--root", root, "--plain", *options]
    one = f"import os; os.sched_setaffinity(0, {{{core}}}); os.execv({command[0]!r}, {command!r})"
    return subprocess.Popen(
        command if core is None else [sys.executable, "-c", one],
        cwd=place,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
        | ({} if home is None else {"HOME": str(home), "XDG_DATA_HOME": "", "XDG_CACHE_HOME": ""}),
    )


def made(run: Path) -> dict[str, object]:
    """What every stage of a run and of its seeds is and wrote, by seed and name."""
    parts = ("identity", "inputs", "outputs", "artifacts")
    found = {}
    for seed in ("", "seed-0", "seed-1"):
        for path in (run / seed / manifest.FOLDER).rglob("*.json"):
            each = files.read_json(path)
            found[f"{seed}/{each['stage']}"] = [each[part] for part in parts]
    return found


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, object]:
    """The run as one process makes it on one core."""
    done = started(place, "alone", core=min(os.sched_getaffinity(0)))
    said, _ = done.communicate(timeout=600)
    assert done.returncode == 0, said
    stages = made(place / "alone" / "ladder")
    assert {"/report", "seed-0/report", "seed-1/rungs/0-small/all/train"} <= set(stages), sorted(stages)
    return stages


def test_two_jobs_make_what_one_process_makes_on_one_core(place: Path, alone: dict[str, object]) -> None:
    (place / "no-folder").touch()  # where nothing can be remembered
    done = started(place, "two", "--jobs", "2", home=place / "no-folder")
    said, _ = done.communicate(timeout=600)
    assert done.returncode == 0, said
    assert made(place / "two" / "ladder") == alone
    assert "Report: " in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_a_run_that_is_stopped_goes_on_and_ends_the_same(place: Path, alone: dict[str, object], number: int) -> None:
    name = f"signal-{number}"
    run = place / name / "ladder"
    work = started(place, name, "--jobs", "2")
    until = time.monotonic() + 300
    while not list(run.glob("seed-*/rungs/*/*/checkpoints/5/*")) and time.monotonic() < until:
        time.sleep(0.05)
    work.send_signal(number)
    said, _ = work.communicate(timeout=60)
    assert work.returncode == (128 + number if number == signal.SIGTERM else -number), said
    until = time.monotonic() + 60
    while True:  # workers that were left alone save what they are at, and hold the run meanwhile
        again = started(place, name, "--jobs", "2")
        said, _ = again.communicate(timeout=600)
        if again.returncode != 2 or "is in use by" not in said or time.monotonic() > until:
            break
        time.sleep(1)
    assert again.returncode == 0, said
    assert made(run) == alone


def test_more_jobs_than_cores_are_refused(place: Path) -> None:
    done = started(place, "many", "--jobs", "1000")
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "--jobs is 1000, and this process may use" in said


def test_ctrl_c_before_a_worker_is_ready_ends_it_with_its_code_and_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with Pool(worker_command("w2sr_jax.stages.worker", "1"), [None]) as pool:
        pool._processes[0].send_signal(signal.SIGINT)
        assert pool.next(120) == (0, Ended(128 + signal.SIGINT))
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert "Traceback" not in capfd.readouterr().err


def test_no_job_at_all_is_refused(place: Path) -> None:
    done = started(place, "none", "--jobs", "0")
    said, _ = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "--jobs is 0; it must be at least 1" in said
    assert not (place / "none" / "ladder" / manifest.FOLDER).exists()
