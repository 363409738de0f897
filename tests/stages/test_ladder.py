"""Miniatures of both experiments, end to end, as a user starts them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.core import files, records
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.graph.store import RunStore

ROOT = Path(__file__).resolve().parents[2]

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
    return {manifest.stage: manifest.digest() for manifest in RunStore(run).manifests()}


def test_the_quickstart_ends_in_a_report_with_a_verdict(quickstart):
    page = (quickstart / "report" / "index.html").read_text()
    found = results(quickstart)
    assert "W2SR-P" in page
    assert [rung["name"] for rung in found["rungs"]] == ["small", "large"]
    assert set(found["rungs"][0]["comparisons"]) == {"all", "correct", "incorrect", "gold"}
    assert [rung["rung"] for rung in found["verdict"]["rungs"]] == [0, 1]
    assert found["verdict"]["rungs"][1]["teacher"] == "0-small.correct"
    assert (found["climb"]["student"], found["climb"]["teacher"]) == ("1-large.correct", "teacher")
    ends = [found["models"][found["climb"][end]]["scores"]["accuracy"]["value"] for end in ("student", "teacher")]
    assert found["climb"]["difference"]["difference"] == pytest.approx(ends[0] - ends[1])
    assert found["rehearsal"] is False
    said = (quickstart / "output.txt").read_text()
    assert said.index("Rung 0, ") < said.index("Rung 1, ") < said.index("Answer: ") < said.index("Report:")


def test_what_is_required_of_a_run_is_its_exit_code(quickstart, capsys):
    accuracy = results(quickstart)["models"]["teacher"]["scores"]["accuracy"]
    report = ["report", str(quickstart), "--plain", "--require"]
    assert cli.run([*report, f"teacher.accuracy>={accuracy['low']!r}"]) == 0
    assert cli.run([*report, f"teacher.accuracy<{accuracy['high']!r}"]) == 3
    assert cli.run([*report, "rungs.accuracy>0"]) == 2
    assert "there is no 'rungs' here" in capsys.readouterr().err


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


def test_a_flipped_byte_in_a_checkpoint_is_named_and_the_stage_done_again_with_the_same_result(quickstart, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(quickstart, run)
    before = digests(run)
    manifest = RunStore(run).manifest("rungs/0-small/gold/train")
    (step,) = (run / name for name in manifest.artifacts)
    victim = max((path for path in step.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    command = [sys.executable, "-m", "w2sr_jax.cli", "train", str(run)]
    done = subprocess.run(command, check=True, env={**os.environ, "XLA_FLAGS": ""}, cwd=ROOT, capture_output=True, text=True)
    assert f"rungs/0-small/gold/train is done again, since {victim} does not have the digest" in done.stdout
    assert digests(run) == before
    assert not list(run.rglob("*.unsound"))


def test_the_ledger_counts_what_is_in_the_files(quickstart):
    """Recounted from the tables with nothing of the ledger's own code."""

    def answers(path, sample):
        traces = [trace for trace in records.read(quickstart / path, Trace) if trace.sample == sample]
        return {trace.problem_id: trace for trace in traces}

    found = {(entry["student"], entry["set"]): entry for entry in results(quickstart)["ledgers"]}
    assert len(found) == 2 * 6  # three arms and the ceiling of the first rung, one arm and the ceiling of the second
    for which, theirs, ours in (
        ("held-out", ("evaluations/teacher/generations.parquet", -1), "generations.parquet"),
        ("training", ("teachers/teacher/rung-0/traces-00000.parquet", 0), "pool.parquet"),
    ):
        entry = found["0-small.incorrect", which]
        assert entry["base"] == "0-small.base-direct"
        taught, base, own = (
            answers(*theirs),
            *(answers(f"evaluations/{model}/{ours}", -1) for model in ("0-small.base-direct", "0-small.incorrect")),
        )
        wrong = [key for key in own if taught[key].verdict == "incorrect"]
        right = [key for key in own if taught[key].verdict == "correct"]
        metrics = entry["metrics"]
        assert (entry["teacher_wrong"], entry["teacher_right"]) == (len(wrong), len(right))
        assert metrics["repeat"]["n"] == metrics["corrected"]["n"] == len(wrong)
        # Answers are plain numbers here, so that their spelling tells whether they are equal.
        for name, rows in (("repeat", own), ("chance", base)):
            repeated = sum(rows[key].answer == taught[key].answer for key in wrong)
            assert metrics[name]["value"] == pytest.approx(repeated / len(wrong))
        corrected = sum(own[key].verdict == "correct" for key in wrong)
        assert metrics["corrected"]["value"] == pytest.approx(corrected / len(wrong))
        if right:
            lost = sum(own[key].verdict != "correct" for key in right)
            assert metrics["corrupted"]["value"] == pytest.approx(lost / len(right))


def test_numbers_lead_to_rows_and_files_with_their_digests(quickstart):
    found = results(quickstart)
    sources = [
        source
        for entry in (*found["models"].values(), *found["ledgers"], *found["teachers"], *found["rungs"])
        for source in entry["sources"]
    ]
    assert len({source["path"] for source in sources}) > 40
    for source in sources:
        assert files.digest_file(quickstart / source["path"]) == source["digest"]
    pages = {path.stem for path in (quickstart / "report" / "evidence").glob("*.html")}
    keys = [entry["evidence"] for entry in (*found["models"].values(), *found["ledgers"], *found["teachers"])]
    assert set(keys) <= pages
    assert all(set(rung["curation_evidence"].values()) <= pages for rung in found["rungs"])


def test_results_depend_on_no_clock(quickstart):
    text = (quickstart / "report" / "results.json").read_text()
    assert "seconds" not in text
    timings = json.loads((quickstart / "report" / "timings.json").read_text())["stages"]
    assert set(timings) == {stage["name"] for stage in results(quickstart)["stages"]}
    assert all(stage["seconds"] > 0 and stage["finished"].startswith("20") for stage in timings.values())


def test_students_were_looked_at_while_they_learnt(quickstart):
    found = results(quickstart)["models"]
    for name in ("0-small.all", "0-small.gold", "1-large.correct"):
        assert [line["step"] for line in found[name]["probe"]] == [0, 15, 30]
        assert all(line["n"] == 20 and 0 <= line["accuracy"] <= 1 for line in found[name]["probe"])
    assert found["0-small.base"]["probe"] is None


def test_chains_were_cut_and_changed(quickstart):
    found = results(quickstart)["models"]
    for name in ("teacher", "0-small.correct", "1-large.gold"):
        faithfulness = found[name]["faithfulness"]
        curve = faithfulness["early_answering"]["curve"]
        assert [point["fraction"] for point in curve] == [0, 0.25, 0.5, 0.75, 1]
        assert 0 < faithfulness["problems"] <= 10
        assert 0 <= faithfulness["mistakes"]["coverage"] <= 1
    assert found["0-small.base"]["faithfulness"] is None


def test_a_gate_stops_a_training_and_says_why(tmp_path):
    command = [
        sys.executable,
        "-m",
        "w2sr_jax.cli",
        "train",
        str(ROOT / "tools" / "kill" / "ladder.py"),
        "--root",
        str(tmp_path),
    ]
    gate = ["--rungs.0.probe.every", "20", "--rungs.0.probe.weakest-teacher", "0.9", "--rungs.0.probe.action", "stop"]
    for stage in ("train", "sample", "curate"):  # what the gated training needs
        command[3] = stage
        shell = {**os.environ, "XLA_FLAGS": ""}
        subprocess.run([*command, *gate], check=True, env=shell, cwd=ROOT, capture_output=True)
    command[3] = "train"
    done = subprocess.run([*command, *gate], check=False, env=shell, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    sentence = done.stderr.strip()
    assert len(sentence.splitlines()) == 1, sentence
    assert "teacher 'teacher' is too weak: it is right on" in sentence
    assert "below probe.weakest_teacher 90.0%" in sentence


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
    (compared,) = found["teachers"]
    assert [teacher["name"] for teacher in compared["teachers"]] == ["gemma-2b", "llama2-7b"]
    ledgers = {(entry["student"], entry["teacher"], entry["set"]): entry for entry in found["ledgers"]}
    assert len(ledgers) == 3 * 2 * 2
    for (_, teacher, which), entry in ledgers.items():
        assert entry["base"] == "0-tiny.base"
        assert any(f"teachers/{teacher}/rung-0" in source["path"] for source in entry["sources"])
        # The files' teachers answer no test problems: held-out ones are the probe problems that each of them answered.
        split = "probe" if which == "held-out" else "pool"
        assert any(source["path"] == f"evaluations/0-tiny.base/{split}.parquet" for source in entry["sources"])
        assert 0 < entry["problems"] <= (40 if which == "held-out" else 8)


def test_another_run_takes_what_is_the_same_and_repeats_nothing_of_it(quickstart):
    root, before = quickstart.parent, digests(quickstart)
    config = root.parent / "mini_quickstart.py"
    changed = ["--name", "other", "--rungs.1.training.learning-rate", "1e-3"]
    command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(config), "--root", str(root), *changed]
    shell = {**os.environ, "XLA_FLAGS": ""}
    planned = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, cwd=ROOT, env=shell, check=True).stdout
    assert not (root / "other").exists()
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=shell, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    other = RunStore(root / "other")
    own = {manifest.stage for manifest in other.manifests() if not manifest.shared_from}
    trained = {f"rungs/1-large/{arm}/train" for arm in ("correct", "gold")}
    assert own == {*trained, "evaluations/1-large.correct", "evaluations/1-large.gold", "report"}
    told = {line.split()[2]: line for line in planned.splitlines() if line.startswith("to do")}
    assert set(told) == own
    assert "it is not done yet" in told["rungs/1-large/gold/train"]
    assert {stage for stage, digest in digests(other.directory).items() if digest != before[stage]} == own
    shutil.rmtree(root / "other")
    assert digests(quickstart) == before
    assert cli.run(["show", str(quickstart), "--plain"]) == 0


def test_a_dry_run_names_the_setting_and_both_values(quickstart, capsys):
    config = quickstart.parent.parent / "mini_quickstart.py"
    before = digests(quickstart)
    command = ["run", str(config), "--root", str(quickstart.parent), "--dry-run", "--evaluation.samples", "8"]
    assert cli.run(command) == 0
    lines = capsys.readouterr().out.splitlines()
    due = [line.split()[2] for line in lines if line.startswith("to do")]
    assert set(due) == {stage for stage in before if stage.startswith("evaluations/")} | {"report"}
    assert any("evaluation.samples is 8, was 2" in line for line in lines)
    assert digests(quickstart) == before
