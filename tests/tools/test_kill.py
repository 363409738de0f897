"""A small ladder is killed and continued (tools/kill), and what checks it sees what it must."""

import collections
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hand_made import commit

from w2sr_jax.core import records
from w2sr_jax.core.records import Trace

TOOL = Path(__file__).resolve().parents[2] / "tools" / "kill"


@pytest.fixture(scope="module")
def tool():
    """The tool's modules."""
    before = set(sys.modules)
    sys.path.insert(0, str(TOOL))
    import check
    import kill
    import moments

    yield check, kill, moments
    sys.path.remove(str(TOOL))
    for name in set(sys.modules) - before:
        if str(TOOL) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def ladder(tmp_path):
    """A finished run as far as the check looks at it."""
    run = tmp_path / "undisturbed"
    for number in range(2):
        traces = [Trace(f"{number}-{i}", f"p{number}", "t", i, "text", "1", "correct", "stop", 3, -0.5, "x") for i in range(3)]
        records.write(run / "teachers" / "t" / "rung-0" / f"traces-{number:05d}.parquet", Trace, traces)
    (run / "rungs" / "checkpoints" / "4").mkdir(parents=True)
    (run / "rungs" / "metrics.jsonl").write_text('{"step":2}\n{"step":4}\n')
    outputs = [path for path in sorted(run.rglob("*")) if path.is_file()]
    commit(run, "rungs/all/train", "train", outputs)
    return run


def shards(run):
    return sorted((run / "teachers" / "t" / "rung-0").glob("*.parquet"))


def double(run):
    records.write(shards(run)[1], Trace, records.read(shards(run)[0], Trace))


def lose(run):
    records.write(shards(run)[1], Trace, records.read(shards(run)[1], Trace)[1:])


def recommit(run):
    commit(run, "rungs/all/train", "train", shards(run)[:1])


@pytest.mark.parametrize(
    ("disturb", "said"),
    [
        (double, "is there 2 times"),
        (lose, "1 traces are lost"),
        (recommit, "stage rungs/all/train has digest"),
        (lambda run: (run / "rungs" / "metrics.jsonl").write_text('{"step":2}\n{"step":2}\n{"step":4}\n'), "has other bytes"),
        (lambda run: (run / "rungs" / ".packing.npz.x1.tmp").touch(), "left over: rungs/.packing.npz.x1.tmp"),
        (lambda run: (run / "rungs" / "checkpoints" / "8.orbax-checkpoint-tmp-3").mkdir(), "left over: rungs/checkpoints/8"),
        (lambda run: (run / "rungs" / "checkpoints" / "4.unsound").mkdir(), "left over: rungs/checkpoints/4.unsound"),
        (lambda run: (run / "rungs" / "stray.json").touch(), "stray.json is there only after an interruption"),
        (lambda run: shards(run)[0].unlink(), "traces-00000.parquet is missing"),
    ],
)
def test_the_check_sees_what_an_interruption_must_not_leave(tool, ladder, tmp_path, disturb, said):
    check, _, _ = tool
    undisturbed = check.snapshot(ladder)
    run = shutil.copytree(ladder, tmp_path / "run")
    assert check.unlike(undisturbed, run) == []
    disturb(run)
    assert any(said in words for words in check.unlike(undisturbed, run))


def test_the_check_sees_a_step_that_a_termination_did_not_save(tool, ladder):
    check, _, _ = tool
    assert check.unsaved(ladder, 0.0) == []
    with open(ladder / "rungs" / "metrics.jsonl", "a") as lines:
        lines.write('{"step":5}\n')
    assert check.unsaved(ladder, 0.0) == ["rungs: step 5 was done, and the newest checkpoint is 4"]
    assert check.unsaved(ladder, 4e9) == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs /proc")
def test_the_check_sees_a_process_that_outlives_its_parent(tool):
    check, _, _ = tool
    shell = {**os.environ, check.TOKEN: "test-outlives"}
    process = subprocess.Popen([sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"], env=shell, stdout=-1)
    try:
        process.stdout.read(1)
        assert check.orphans("test-outlives", patience=0.1) == [process.pid]
    finally:
        process.kill()
        process.wait()
    assert check.orphans("test-outlives", patience=0.1) == []


def test_a_hundred_kills_cover_every_moment_and_every_kind_of_instant(tool):
    _, kill, moments = tool
    names = tuple(moment.name for moment in moments.MOMENTS)
    calls = [{"moment": name, "stage": "s", "call": i, "seconds": 2.0, "begins": i} for name in names for i in range(9)]
    strikes = kill.deck(100, 10, names, calls, 60.0, random.Random(0))
    counts = collections.Counter(strike.label for strike in strikes)
    assert counts[kill.TERMINATED] == 10
    assert sum(counts.values()) == 110
    assert counts[kill.AT_RANDOM] == 20
    assert min(counts[name] for name in names) >= 3
    assert set(kill.SHORT) <= set(names)
    assert {strike.call for strike in strikes if strike.label == "sampling"} - {0}
    assert strikes == kill.deck(100, 10, names, calls, 60.0, random.Random(0))


def test_a_ladder_that_is_killed_a_dozen_times_ends_as_if_it_had_not_been(tool, tmp_path):
    _, kill, _ = tool
    counts = tmp_path / "counts.json"
    command = [sys.executable, str(TOOL / "kill.py"), "--short", "--json", str(counts), "--directory", str(tmp_path / "kill")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(counts.read_text())
    assert found["failures"] == []
    assert found["kills"] >= len(kill.SHORT)
    assert found["terminations"] >= 1
    assert found["taking"] == 2
    assert set(kill.SHORT) <= found["moments"].keys()
