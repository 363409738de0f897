"""A whole ladder in two real processes: what they write is what one process with as many devices writes, they end together when
one is terminated, and the same command goes on. Teachers write with a copy of the model on each device; the second student trains
over the devices of both processes, and one copy of it answers on all of them."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import xla_flags

from w2sr_jax.core import files, records
from w2sr_jax.core.records import Trace
from w2sr_jax.graph.store import RunStore
from w2sr_jax.training import journal

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
    from w2sr_jax.batches.settings import Batching
    from w2sr_jax.curation.settings import Curation
    from w2sr_jax.evaluation.probe import Probe
    from w2sr_jax.evaluation.settings import Evaluation
    from w2sr_jax.experiment import Experiment, FromParent, Graduate, ModelTeacher, Pretraining, Rung
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.parallel.settings import Mesh, Meshes
    from w2sr_jax.problems.settings import Generated, Splits
    from w2sr_jax.sampling.settings import Decoding
    from w2sr_jax.text.settings import WordTokenizer
    from w2sr_jax.training.settings import Training

    MODEL = ModelConfig(width=32, layers=1, heads=2, kv_heads=2)
    TRAINING = Training(steps=12, learning_rate=3e-3, log_every=1, save_every=4, batching=Batching(length=96, rows=4))
    KEPT = Curation(keep_unfinished=True)
    DRAWN = Decoding(temperature=0.7, max_tokens=16, batch=8)

    def experiment():
        return Experiment(
            name="two",
            problems=Generated(),
            splits=Splits(pretrain=60, teacher=60, pool=24, probe=4, test=10),
            tokenizer=WordTokenizer(),
            teachers=(
                ModelTeacher("teacher", MODEL, TRAINING, samples=2, decoding=DRAWN),
                Graduate("graduate", arm="all", samples=1, decoding=DRAWN),
            ),
            rungs=(
                Rung(
                    "small",
                    MODEL,
                    Pretraining(training=TRAINING, facts=20),
                    ("teacher",),
                    arms=("all",),
                    curation=KEPT,
                    training=TRAINING,
                    probe=Probe(every=6),
                ),
                Rung(
                    "large",
                    MODEL,
                    FromParent("all"),
                    ("graduate",),
                    arms=("all",),
                    curation=KEPT,
                    gold=False,
                    training=TRAINING,
                    meshes=Meshes(training=Mesh(fsdp=4), evaluation=Mesh(fsdp=2, tensor=2)),
                ),
            ),
            evaluation=Evaluation(samples=2, temperature=0.7, resamples=20, faithfulness=4, pool=6),
            decoding=DRAWN,
            mesh=Mesh(data=2, fsdp=2),
        )
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "two_processes.py"
    path.write_text(textwrap.dedent(CONFIG))
    return path


@dataclasses.dataclass(frozen=True)
class Ended:
    code: int
    said: str


@dataclasses.dataclass(frozen=True)
class Running:
    """Processes of one run, each with what it says in a file."""

    processes: Sequence[subprocess.Popen[bytes]]
    logs: Sequence[Path]

    def wait(self) -> list[Ended]:
        for process in self.processes:
            process.wait(timeout=240)
        return [Ended(process.returncode, log.read_text()) for process, log in zip(self.processes, self.logs)]


def start(config: Path, root: Path, count: int, *arguments: str, own: Sequence[Sequence[str]] = ()) -> Running:
    """`w2sr run` in `count` processes which have four devices together; each may have arguments of its own."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = os.environ | {"XLA_FLAGS": xla_flags.devices(4 // count), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    root.mkdir(exist_ok=True)
    logs = [root / f"said-{index}" for index in range(count)]
    processes = []
    for index, log in enumerate(logs):
        command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(config), "--plain", "--root", str(root), *arguments]
        if count > 1:
            command += ["--coordinator", f"localhost:{port}", "--processes", str(count), "--process", str(index)]
        command += own[index] if own else []
        with log.open("wb") as file:
            processes.append(subprocess.Popen(command, env=variables, stdout=file, stderr=subprocess.STDOUT))
    return Running(processes, logs)


EQUAL = (
    *(f"problems/{split}.parquet" for split in ("pretrain", "teacher", "pool", "probe", "test")),
    *(f"rungs/{folder}/packing.npz" for folder in ("0-small/base", "0-small/gold")),
    *(f"rungs/{folder}/dispositions.parquet" for folder in ("0-small/all", "1-large/all")),
    *(f"evaluations/{model}/scores.json" for model in ("teacher", "0-small.base", "0-small.all", "0-small.gold", "1-large.all")),
)
"""Files that hold neither log-probabilities nor digests of parameters."""


BASE, ALL = "rungs/0-small/base", "rungs/0-small/all"


def wait_for(root: Path, model: str, running: Running) -> None:
    """Until a model's training has written a step down."""
    metrics = root / "two" / model / "metrics.jsonl"
    while not (metrics.is_file() and metrics.stat().st_size) and running.processes[0].poll() is None:
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(config: Path, tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    root = tmp_path_factory.mktemp("alone")
    (ended,) = start(config, root, 1).wait()
    assert ended.code == 0, ended.said
    return RunStore(root / "two")


@pytest.fixture(scope="module")
def interrupted(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Ended], list[Ended], RunStore]:
    """Two processes of which the second is terminated in the midst of a training; then one with as many devices goes on and is
    terminated in another training; then two again. How the first two and the last two ended."""
    root = tmp_path_factory.mktemp("together")
    running = start(config, root, 2)
    wait_for(root, BASE, running)
    running.processes[1].send_signal(signal.SIGTERM)
    first = running.wait()
    alone = start(config, root, 1)
    wait_for(root, ALL, alone)
    alone.processes[0].send_signal(signal.SIGTERM)
    (ended,) = alone.wait()
    assert ended.code == 143, ended.said
    return first, start(config, root, 2).wait(), RunStore(root / "two")


def test_all_processes_end_when_one_is_terminated(interrupted: tuple[list[Ended], list[Ended], RunStore]) -> None:
    first, _, _ = interrupted
    assert [ended.code for ended in first] == [143, 143], [ended.said for ended in first]
    assert re.search("the same command.* goes on", first[0].said)
    assert not any("Traceback" in ended.said for ended in first)


def test_the_same_command_goes_on_and_writes_what_one_process_writes(
    alone: RunStore, interrupted: tuple[list[Ended], list[Ended], RunStore]
) -> None:
    _, again, together = interrupted
    assert [ended.code for ended in again] == [0, 0], [ended.said for ended in again]
    assert "done    teachers/teacher/train" in again[0].said
    assert "done    rungs/0-small/base/train" in again[0].said
    assert [manifest.stage for manifest in together.manifests()] == [manifest.stage for manifest in alone.manifests()]
    for name in EQUAL:
        assert together.file(name).read_bytes() == alone.file(name).read_bytes(), name


def test_manifests_say_how_many_processes_did_a_stage_and_where_a_training_went_on_with_others(
    interrupted: tuple[list[Ended], list[Ended], RunStore],
) -> None:
    _, _, together = interrupted
    processes = {manifest.stage: manifest.environment["processes"] for manifest in together.manifests()}
    assert [processes[f"{model}/train"] for model in ("teachers/teacher", BASE, ALL)] == ["2", "1", "2"]
    for model in (BASE, ALL):
        ran_on = together.manifest(f"{model}/train").measures.get("ran_on", [])
        began = [each["on"].partition(",")[0] for each in ran_on]
        # The whole training may have been done before the signal came.
        assert began in (["2 processes", "1 process"] if model == BASE else ["1 process", "2 processes"], [])
        assert all(0 < each["after_step"] <= 12 for each in ran_on[1:])


def test_texts_are_equal_and_losses_to_six_digits(
    alone: RunStore, interrupted: tuple[list[Ended], list[Ended], RunStore]
) -> None:
    """Sums over processes round otherwise than sums over the devices of one, and checkpoints have digests of another kind."""
    _, _, together = interrupted
    for name in ("teachers/teacher/rung-0/traces-00000.parquet", "teachers/graduate/rung-1/traces-00000.parquet"):
        drawn = [[(row.id, row.text, row.token_ids) for row in records.read(run.file(name), Trace)] for run in (alone, together)]
        assert drawn[0] == drawn[1], name
    for model in ("teachers/teacher", "rungs/0-small/base", "rungs/0-small/all", "rungs/0-small/gold", "rungs/1-large/all"):
        own, theirs = (journal.read(run.file(f"{model}/metrics.jsonl")) for run in (together, alone))
        assert [line["step"] for line in own] == [line["step"] for line in theirs]
        assert [line["loss"] for line in own] == pytest.approx([line["loss"] for line in theirs], rel=1e-5), model


def test_every_use_of_a_model_has_its_mesh(interrupted: tuple[list[Ended], list[Ended], RunStore]) -> None:
    _, _, together = interrupted
    meshes = {manifest.stage: manifest.environment["mesh"] for manifest in together.manifests()}
    assert meshes["rungs/1-large/traces-graduate"] == "data 4, fsdp 1, tensor 1"
    assert meshes["rungs/0-small/all/train"] == "data 2, fsdp 2, tensor 1"
    assert meshes["rungs/1-large/all/train"] == "data 1, fsdp 4, tensor 1"
    assert meshes["evaluations/1-large.all"] == "data 1, fsdp 2, tensor 2"


def test_the_second_process_says_nothing_of_what_it_does(interrupted: tuple[list[Ended], list[Ended], RunStore]) -> None:
    _, again, _ = interrupted
    said = [line for line in again[1].said.splitlines() if line and "[Gloo]" not in line]
    assert said == []


def test_the_report_says_what_the_interruption_cost(interrupted: tuple[list[Ended], list[Ended], RunStore]) -> None:
    """Trainings in which processes were terminated had two sittings; all stopped at one step, saved: none was lost."""
    _, _, together = interrupted
    stages = files.read_json(together.file("report/timings.json"))["stages"]
    spent = {name: stage["training"] for name, stage in stages.items() if "training" in stage}
    copied = "rungs/1-large/base/train"  # whose parameters are another model's
    assert set(spent) == {name for name in stages if name.endswith("/train")} - {copied}
    assert all(each["sittings"] >= 1 for each in spent.values())
    assert sum(each["sittings"] for each in spent.values()) in range(len(spent), len(spent) + 3)
    assert all(0 <= each["stepping"] <= each["wall"] and each["lost_steps"] == 0 for each in spent.values())


def test_processes_with_other_settings_are_told_before_anything_is_done(config: Path, tmp_path: Path) -> None:
    first, second = start(config, tmp_path, 2, own=([], ["--rungs.0.training.steps", "6"])).wait()
    assert (first.code, second.code) == (2, 2)
    assert "process 1" in first.said
    assert "another command" in first.said or "the command" in first.said
    assert not list((tmp_path / "two").rglob("*.parquet"))


def test_a_process_that_is_killed_ends_the_other_which_names_it(config: Path, tmp_path: Path) -> None:
    running = start(config, tmp_path, 2)
    while not (tmp_path / "two" / "problems").is_dir() and running.processes[0].poll() is None:
        time.sleep(0.02)
    running.processes[1].kill()
    first, second = running.wait()
    assert second.code == -signal.SIGKILL
    assert first.code not in (0, 143)
    assert "process 1" in first.said
