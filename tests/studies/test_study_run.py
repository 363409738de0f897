"""`w2sr study` as a user calls it: what is done once, what a failing cell leaves, and the numbers of the page against the rows
behind them."""

import csv
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from w2sr_jax.cli import run as run_command
from w2sr_jax.cli import study as study_command
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph import manifest
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import wording
from w2sr_jax.studies import page
from w2sr_jax.studies import results as results_of
from w2sr_jax.studies.declared import declarations
from w2sr_jax.studies.forecast import forecast
from w2sr_jax.studies.results import StudyResults
from w2sr_jax.studies.run import opened

ROOT = Path(__file__).resolve().parents[2]
STUDY = """
import dataclasses
from functools import partial

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.curation.settings import Curation
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.experiment.study import Axis, Claim, Of, Study
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import LabelSmoothing, Nll
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.settings import Training

MODEL = ModelConfig(width=16, layers=1, heads=2, kv_heads=2, mlp=32)
HOW = Training(steps=12, learning_rate=1e-2, batching=Batching(length=112, rows=4))
SHORT = Decoding(temperature=0.7, max_tokens=8, batch=16)


def broken(tokens):
    raise ValueError("this loss is broken")


def experiment():
    return Experiment(
        name="base",
        problems=Generated(seed=1, operations=(2, 2), largest=9),
        splits=Splits(pretrain=20, teacher=40, pool=40, probe=5, test=10),
        tokenizer=WordTokenizer(largest=9),
        teachers=(ModelTeacher(model=MODEL, training=HOW, samples=2, decoding=SHORT),),
        rungs=(Rung("small", MODEL, curation=Curation(per_problem=1), arms=("all",), gold=False, training=HOW),),
        grader=NumberGrader(),
        evaluation=Evaluation(samples=2, temperature=0.7, resamples=50, faithfulness=0),
        decoding=dataclasses.replace(SHORT, temperature=0.0),
    )


def loss(one, base):
    return dataclasses.replace(base, rungs=(dataclasses.replace(base.rungs[0], objective=Objective(one)),))


def study():
    values = {"nll": partial(loss, Nll()), "smooth": partial(loss, LabelSmoothing()), "broken": partial(loss, broken)}
    smooth, nll, bad = (Of("0-small.all", {"loss": value}) for value in ("smooth", "nll", "broken"))
    return Study(
        name="losses",
        base=experiment(),
        axes=(Axis("loss", values),),
        primary=Claim("smoothing helps", smooth, nll),
        secondary=(
            Claim("a broken loss helps", bad, nll),
            Claim("students differ from their teacher", smooth, Of("teacher", {"loss": "nll"}), "two-sided"),
        ),
        seeds=(0, 1),
    )
"""


def study(place: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "w2sr_jax.cli", "study", "losses_study.py", "--root", "runs", *options],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    (place / "losses_study.py").write_text(STUDY, encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def first(place: Path) -> "subprocess.CompletedProcess[str]":
    """The study, done as far as it can be."""
    jobs = min(2, len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else 2
    return study(place, "--jobs", str(jobs), "--plain")


def results(place: Path) -> dict:
    return json.loads((place / "runs/losses/report/results.json").read_text())


def right(place: Path, cell: str, model: str) -> dict[int, dict[str, bool]]:
    """Which problems a model's greedy answers got right, by seed, read without the package."""
    found = {}
    for seed in (0, 1):
        path = place / f"runs/losses/cells/{cell}/seed-{seed}/evaluations/{model}/generations.parquet"
        rows = pq.read_table(path).to_pylist()
        found[seed] = {row["problem_id"]: row["verdict"] == "correct" for row in rows if row["sample"] == -1}
    return found


def test_before_it_is_done_a_study_says_what_is_to_do(place: Path) -> None:
    done = study(place, "--dry-run")
    assert done.returncode == 0, done.stderr
    # Ten stages a run: problems, tokenizer, teacher, base, traces, curation, student, and three evaluations. The first two are
    # the same for all, the student and its evaluation of each run alone, and the other six the same for a seed.
    alone = 2 + 2 * 6 + 6 * 2
    assert f"3 cells, 6 runs, 60 stages, {60 - alone} (57%) of them shared:" in done.stdout
    assert f"0 are finished, {alone} are to do." in done.stdout
    assert not (place / "runs/losses").exists()


def test_a_cell_that_fails_is_named_and_the_others_are_finished(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    assert first.returncode == 2, first.stdout
    assert "2 stages failed: loss-broken/seed-0/rungs/0-small/all/train" in first.stderr
    assert "this loss is broken" in first.stderr
    assert "Traceback" not in first.stderr + first.stdout
    by_name = {cell["name"]: cell for cell in results(place)["cells"]}
    assert [len(by_name[name]["missing"]) for name in ("loss-nll", "loss-smooth", "loss-broken")] == [0, 0, 4]
    assert {model["model"] for model in by_name["loss-broken"]["models"]} == {"teacher", "0-small.base"}


def test_what_is_the_same_in_several_cells_is_done_once(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    done: dict[str, int] = {}
    for path in (place / "runs/losses/cells").rglob(f"{manifest.FOLDER}/**/*.json"):
        read = files.read_json(path)
        done[read["identity"]] = done.get(read["identity"], 0) + (not read.get("shared_from"))
    assert set(done.values()) == {1}


def test_numbers_are_those_of_the_rows(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    made = results(place)
    smooth, nll = right(place, "loss-smooth", "0-small.all"), right(place, "loss-nll", "0-small.all")
    rows = [smooth[seed][problem] - nll[seed][problem] for seed in (0, 1) for problem in nll[seed]]
    outcome = made["primary"]["outcome"]
    assert outcome["difference"] == pytest.approx(sum(rows) / len(rows))
    assert (outcome["n"], outcome["seeds"], made["primary"]["seeds"]) == (10, 2, [0, 1])
    assert made["secondary"][0]["outcome"] is None
    table = list(csv.DictReader((place / "runs/losses/report/cells.csv").open(encoding="utf-8")))
    (row,) = [row for row in table if row["loss"] == "smooth" and row["model"] == "0-small.all"]
    assert float(row["accuracy"]) == pytest.approx(sum(sum(one.values()) for one in smooth.values()) / 20)
    for cell in made["cells"]:
        assert (place / "runs/losses" / cell["run"]).is_dir()


def test_the_page_says_what_came_out_and_leads_to_every_run(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    html = (place / "runs/losses/report/index.html").read_text(encoding="utf-8")
    assert "Smoothing helps: " in html
    assert "differences below" in html
    for link in set(re.findall(r'href="(\.\./[^"]+)"', html)):
        assert (place / "runs/losses/report" / link).is_dir(), link
    assert len(set(re.findall(r'href="\.\./cells/[^"]+"', html))) == 3


def test_the_page_is_made_again_without_the_file_of_the_study(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    made = {path.name: path.read_bytes() for path in (place / "runs/losses/report").iterdir()}
    done = subprocess.run(
        [sys.executable, "-m", "w2sr_jax.cli", "report", "losses", "--root", "runs"],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Smoothing helps: ")
    assert {path.name: path.read_bytes() for path in (place / "runs/losses/report").iterdir()} == made


def test_what_was_done_under_other_settings_counts_as_missing(place: Path, first: "subprocess.CompletedProcess[str]") -> None:
    (place / "losses_study.py").write_text(STUDY.replace("LabelSmoothing()", "LabelSmoothing(0.3)"), encoding="utf-8")
    other = study(place, "--page", "--plain")
    made = results(place)
    (place / "losses_study.py").write_text(STUDY, encoding="utf-8")
    assert other.returncode == 0, other.stderr
    assert made["primary"]["outcome"] is None
    (smooth,) = [cell for cell in made["cells"] if cell["name"] == "loss-smooth"]
    assert len(smooth["missing"]) == 4, "the student and its evaluation, of both seeds"
    assert "0-small.all" not in {model["model"] for model in smooth["models"]}
    study(place, "--page", "--plain")
    assert results(place)["primary"]["outcome"] is not None


@pytest.fixture
def copied(place: Path, first: "subprocess.CompletedProcess[str]", tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "runs/losses", tmp_path / "losses"))


def gathered(directory: Path) -> StudyResults:
    said = declarations(directory)
    runs = opened(directory, said[-1])
    return results_of.gathered("losses", said, runs, runs[0].cell.experiment.evaluation, directory)


def test_a_claim_is_decided_only_with_all_declared_seeds(copied: Path, place: Path) -> None:
    RunStore(copied / "cells/loss-smooth/seed-1").retract("evaluations/0-small.all")
    smooth, nll = right(place, "loss-smooth", "0-small.all")[0], right(place, "loss-nll", "0-small.all")[0]
    difference = sum(smooth[problem] - nll[problem] for problem in nll) / len(nll)
    made = gathered(copied)
    assert made.primary.outcome is None
    assert made.primary.so_far == pytest.approx(difference)
    assert made.primary.words == f"not finished, so far {wording.points(difference)} points with 1 of 2 seeds"
    assert made.primary.sentence() == f"Smoothing helps: {made.primary.words}."
    assert made.secondary[1].outcome is None


def test_secondary_claims_are_corrected_for_those_that_are_not_finished(copied: Path) -> None:
    broken, students = gathered(copied).secondary
    assert broken.outcome is None
    assert students.outcome is not None
    assert students.outcome.adjusted_p == pytest.approx(min(1.0, 2 * students.outcome.p))
    assert "2.5 % two-sided level" in students.reach


def test_without_a_seed_in_common_a_claim_is_not_finished(copied: Path) -> None:
    for cell, seed in (("loss-smooth", 0), ("loss-nll", 1)):
        RunStore(copied / f"cells/{cell}/seed-{seed}").retract("evaluations/0-small.all")
    made = gathered(copied).primary
    assert (made.outcome, made.seeds, made.words) == (None, (), "not finished")


def test_what_was_made_from_other_inputs_is_missing(copied: Path) -> None:
    store = RunStore(copied / "cells/loss-smooth/seed-1")
    trained = store.peek("rungs/0-small/all/train")
    assert trained is not None
    store.commit(dataclasses.replace(trained, artifacts=dict.fromkeys(trained.artifacts, "0" * 64)))
    made = gathered(copied)
    assert made.primary.seeds == (0,)
    (smooth,) = [cell for cell in made.cells if cell.name == "loss-smooth"]
    assert smooth.missing == ("seed-1/evaluations/0-small.all",)


def test_a_skipped_student_is_noted_with_its_reason(copied: Path) -> None:
    store = RunStore(copied / "cells/loss-smooth/seed-1")
    reasons = {"skipped": "no trace is left", "skipped_with": "rungs/0-small/all/train"}
    for stage in ("rungs/0-small/all/train", "evaluations/0-small.all"):
        manifest = store.peek(stage)
        assert manifest is not None
        read = {name: store.peek(name) for name in manifest.inputs}
        inputs = {name: each.digest() if each else manifest.inputs[name] for name, each in read.items()}
        store.commit(
            dataclasses.replace(manifest, outputs={}, artifacts={}, seals={}, measures=reasons, inputs=inputs),
        )
    made = gathered(copied)
    (smooth,) = [cell for cell in made.cells if cell.name == "loss-smooth"]
    assert smooth.missing == ()
    assert smooth.notes == ("seed-1/0-small.all was skipped: no trace is left",)
    assert made.primary.outcome is None
    assert made.primary.sentence().endswith("seeds, since seed-1/0-small.all of loss-smooth was skipped: no trace is left.")
    assert "loss-smooth: seed-1/0-small.all was skipped: no trace is left." in page.page(made)


def test_claims_are_declared_before_the_first_run_and_changes_are_kept(
    place: Path, first: "subprocess.CompletedProcess[str]"
) -> None:
    declared = json.loads((place / "runs/losses/study.json").read_text())["declarations"]
    assert [each["finished"] for each in declared] == [0]
    changed = STUDY.replace('"smoothing helps", smooth, nll', '"smoothing hurts", smooth, nll, "less"')
    (place / "losses_study.py").write_text(changed, encoding="utf-8")
    study(place, "--plain")
    (place / "losses_study.py").write_text(STUDY, encoding="utf-8")
    declared = json.loads((place / "runs/losses/study.json").read_text())["declarations"]
    assert [each["primary"]["name"] for each in declared] == ["smoothing helps", "smoothing hurts"]
    assert declared[1]["finished"] == 60 - 2 * 2, "all but the broken student and its evaluation, of both seeds"
    assert "explored, not declared" in (place / "runs/losses/report/index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def experiment(): pass", r"must define a function study\(\) that returns a Study; it defines experiment\(\)"),
        ("def study(): return 3", r"study\(\) returned a int, not a Study"),
    ],
)
def test_a_file_without_a_study_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "losses_study.py").write_text(text, encoding="utf-8")
    done = study(tmp_path)
    assert done.returncode == 2
    assert re.search(said, done.stderr), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_study_does_not_take_the_place_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "losses_study.py").write_text(STUDY, encoding="utf-8")
    (tmp_path / "runs/losses").mkdir(parents=True)
    (tmp_path / "runs/losses/experiment.json").write_text("{}")
    done = study(tmp_path, "--plain")
    assert done.returncode == 2
    assert "losses is a run, and no study can lie there" in done.stderr
    assert [path.name for path in (tmp_path / "runs/losses").iterdir()] == ["experiment.json"]


@pytest.mark.parametrize("jobs", ["0", "-1"])
def test_fewer_jobs_than_one_are_refused(tmp_path: Path, jobs: str) -> None:
    with pytest.raises(UserError, match=f"--jobs is {jobs}; give 1 or more"):
        study_command.run(["absent.py", "--root", str(tmp_path), "--dry-run", "--jobs", jobs], "", Stop())


def declared_file(directory: Path, change: Callable[[dict], None]) -> None:
    raw = json.loads((directory / "study.json").read_text())
    change(raw)
    (directory / "study.json").write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(format=99), r"another version of w2sr_jax \(format 99; this one reads \d+\)"),
        (lambda raw: raw.update(declarations=[]), "declares nothing"),
        (lambda raw: raw["declarations"][0]["cells"][0].update(name="../../elsewhere"), "names a cell '../../elsewhere'"),
        (lambda raw: raw["declarations"][0].update(alpha=7.0), "an alpha that is not between 0 and 0.5"),
    ],
)
def test_what_no_study_declares_is_refused(copied: Path, change: Callable[[dict], None], said: str) -> None:
    declared_file(copied, change)
    with pytest.raises(UserError, match=said):
        declarations(copied)


@pytest.mark.parametrize("options", [["--jobs", "2"], ["--rung", "0"], ["--fresh"]])
def test_options_for_stages_are_refused_where_only_a_page_is_made(copied: Path, options: list[str]) -> None:
    with pytest.raises(UserError, match=f"is a study, of which w2sr report only makes the page; leave out {options[0]}"):
        run_command.report([str(copied), *options], "", Stop())


def test_a_link_out_of_a_study_is_not_followed(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    shutil.rmtree(copied / "report")
    (copied / "report").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match=r"is a link to .*outside"):
        run_command.report([str(copied)], "", Stop())
    assert not list((tmp_path / "outside").iterdir())


def test_a_change_before_any_stage_was_finished_is_declared_too(copied: Path) -> None:
    (only,) = declarations(copied)[:1]
    changed = dataclasses.replace(only, alpha=0.01)
    assert "explored" not in " ".join(page.declared((only, changed)))
    assert "explored" in " ".join(page.declared((only, dataclasses.replace(changed, finished=1))))


def test_the_caption_says_how_many_cells_are_drawn(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = gathered(copied)
    assert "Drawn are" not in page.page(made)
    monkeypatch.setattr(page, "MOST_MARKS", 1)
    assert "Drawn are the first 1 of 2 cells; the table has all." in page.page(made)


def test_the_forecast_counts_what_stands_on_a_download_as_due(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = declarations(copied)
    before = forecast(opened(copied, said[-1]))

    def refused(*_: object, **__: object) -> str:
        raise UserError("hub:a/b is to be downloaded")

    monkeypatch.setattr(Plan, "identity", refused)
    after = forecast(opened(copied, said[-1]))
    assert (after.stages, after.shared) == (before.stages, before.shared)
