"""Miniatures of both experiments, end to end, as a user starts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from w2sr_jax import cli, lineage, records, saved
from w2sr_jax.records import Example, Problem, Trace

ROOT = Path(__file__).resolve().parents[1]

MINIATURE = """
from {module} import miniature

def experiment():
    return miniature()
"""


def start(directory: Path, module: str, environment: dict[str, str] | None = None) -> Path:
    """Run a miniature in a process of its own on one device; the run's directory."""
    shutil.copy(ROOT / "configs" / f"{module}.py", directory)
    config = directory / f"mini_{module}.py"
    config.write_text(MINIATURE.format(module=module))
    command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(config), "--root", str(directory / "runs")]
    shell = {**os.environ, "XLA_FLAGS": "", **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=shell, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    (run,) = (directory / "runs").iterdir()
    (run / "output.txt").write_text(done.stdout)
    return run


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    return start(tmp_path_factory.mktemp("quickstart"), "quickstart")


def results(run):
    return json.loads((run / "report" / "results.json").read_text())


def digests(run):
    return {
        path.relative_to(run / "lineage").with_suffix("").as_posix(): lineage.load(
            run, path.relative_to(run / "lineage").with_suffix("").as_posix()
        ).digest()
        for path in sorted((run / "lineage").rglob("*.json"))
    }


def test_the_quickstart_ends_in_a_report_with_a_verdict(quickstart):
    page = (quickstart / "report" / "index.html").read_text()
    found = results(quickstart)
    assert "W2SR-P" in page
    assert [rung["name"] for rung in found["rungs"]] == ["small", "large"]
    assert set(found["rungs"][0]["comparisons"]) == {"all", "correct", "incorrect"}
    assert "Report:" in (quickstart / "output.txt").read_text()


def test_every_model_is_scored_on_the_same_test_problems(quickstart):
    found = results(quickstart)
    assert {model["scores"]["problems"] for model in found["models"].values()} == {40}
    assert found["test_problems"] == 40


def test_splits_are_disjoint_on_disk(quickstart):
    ids = [
        {problem.id for problem in records.read(path, Problem)} for path in sorted((quickstart / "problems").glob("*.parquet"))
    ]
    assert len(ids) == 5
    assert len(set.union(*ids)) == sum(map(len, ids))


def test_arms_hold_what_their_names_say(quickstart):
    rung = quickstart / "rungs" / "0-small"
    verdicts = {
        arm: {example.verdict for example in records.read(rung / arm / "curated.parquet", Example)}
        for arm in ("correct", "incorrect", "gold")
    }
    assert verdicts == {"correct": {"correct"}, "incorrect": {"incorrect"}, "gold": {"correct"}}
    traces = [t for path in (quickstart / "teachers/teacher/rung-0").glob("*.parquet") for t in records.read(path, Trace)]
    pool = {problem.id for problem in records.read(quickstart / "problems" / "pool.parquet", Problem)}
    funnel = json.loads((rung / "curation.json").read_text())["correct"]
    assert funnel["given"] == sum(trace.problem_id in pool for trace in traces)
    assert funnel["given"] == funnel["kept"] + sum(funnel["rejections"].values())


def test_the_second_rung_starts_as_its_parent(quickstart):
    """Growing keeps the function: the larger base answers exactly as the smaller one that it was grown from."""

    def greedy(model):
        traces = records.read(quickstart / "evaluations" / model / "generations.parquet", Trace)
        return {trace.problem_id: trace.text for trace in traces if trace.sample < 0}

    parent, base = greedy("0-small.base"), greedy("1-large.base")
    assert sum(parent[key] == base[key] for key in parent) >= len(parent) - 1  # a tie may fall the other way


def test_finished_work_is_not_redone(quickstart, capsys):
    before = digests(quickstart)
    stamps = {path: path.stat().st_mtime_ns for path in quickstart.rglob("*.parquet")}
    for command in ("run", "sample", "curate", "train", "evaluate", "report"):
        if command != "run":
            assert cli.run([command, str(quickstart)]) == 0
    assert digests(quickstart) == before
    assert {path: path.stat().st_mtime_ns for path in quickstart.rglob("*.parquet")} == stamps


def test_a_stage_that_lost_its_output_is_done_again_with_the_same_result(quickstart, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quickstart, run)
    before = digests(run)
    lost = run / "evaluations" / "teacher" / "generations.parquet"
    content = lost.read_bytes()
    lost.unlink()
    shell = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, "-m", "w2sr_jax.cli", "evaluate", str(run)]
    subprocess.run(command, check=True, env=shell, cwd=ROOT, capture_output=True)
    assert lost.read_bytes() == content
    assert digests(run) == before


def test_an_experiment_can_be_loaded_from_its_run(quickstart):
    experiment = saved.load(quickstart)
    assert experiment.name == "miniature"
    assert results(quickstart)["config_hash"] == saved.config_hash(experiment)


def test_real_traces_end_to_end(shared_data, tmp_path):
    run = start(tmp_path, "gsm8k_recorded", {"W2SR_DATA": str(shared_data)})
    found = results(run)
    (rung,) = found["rungs"]
    assert {teacher["teacher"]: teacher["graded"] > 200 for teacher in rung["traces"]} == {"gemma-2b": True, "llama2-7b": True}
    student = found["models"]["0-tiny.all"]
    assert student["held_out"]["nll"] < student["held_out"]["unigram"] + 0.5
    assert found["test_problems"] == 24
