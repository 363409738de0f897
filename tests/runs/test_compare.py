"""`w2sr compare` on made-up runs: what it says of them agrees with plain arithmetic, and what cannot be compared is refused."""

import base64
import dataclasses
import hashlib
import html
import json
import math
import os
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_made import commit, finish
from minimal_results import comparison, model, results, rung

from w2sr_jax.configuration.encoding import encode
from w2sr_jax.configuration.saved import config_hash
from w2sr_jax.core import codec, files, records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, Verdict
from w2sr_jax.evaluation.cost import StageCost
from w2sr_jax.evaluation.ledger import Consistency, Ledger, Metrics
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Estimate, Interval, gap_recovered, interval, paired
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.report.results import FORMAT, LedgerEntry, Model
from w2sr_jax.runs.compare.command import compare
from w2sr_jax.runs.compare.numbers import SettingRow, differing_settings

SETTINGS = Evaluation(resamples=200)
EXPERIMENT = Experiment("x", rungs=(Rung("small", ModelConfig(), arms=("correct",)),))
HOSTILE = "</style><script>alert(1)</script>\x1b[2J\u202e"


def problem(i: int) -> Problem:
    return Problem.of(f"What is {i} + 1 ?", str(i + 1))


def answers(seed: int, rate: float, count: int = 120) -> list[bool]:
    rng = random.Random(seed)
    return [rng.random() < rate for _ in range(count)]


def make(
    run: Path,
    right: dict[str, list[list[bool]]],
    numbers: Sequence[int],
    finished: str | None,
    experiment: Experiment = EXPERIMENT,
    **more: Any,
) -> Path:
    """A run whose models answered the numbered problems so, per seed: its generations, results and manifests."""
    seeds = range(len(next(iter(right.values()))))
    runs = [run] if len(seeds) == 1 else [run / f"seed-{seed}" for seed in seeds]
    for author, by_seed in right.items():
        for directory, outcomes in zip(runs, by_seed, strict=True):
            rows = []
            for i, ok in zip(numbers, outcomes, strict=True):
                verdict = Verdict("correct" if ok else "incorrect", str(i), "r", "g")
                of = problem(i)
                for sample, said in ((-1, verdict), (0, dataclasses.replace(verdict, verdict="correct"))):
                    made = Trace(f"{of.id}{sample}", of.id, author, sample, "t", None, "ungraded", "stop", 3, None, "p")
                    rows.append(made.graded(said))
            records.write(directory / "evaluations" / author / "generations.parquet", Trace, rows)
    for directory in runs if finished else []:
        commit(directory, "report", "report", measures={"finished": finished})
    scores = {name: np.array(rows, float) for name, rows in right.items()}
    student, teacher, base, gold = (scores.get(n) for n in ("0-small.correct", "teacher", "0-small.base", "0-small.gold"))
    compared = {}
    if student is not None and teacher is not None:
        gap = None if base is None or gold is None else gap_recovered(student, base, gold, SETTINGS)
        compared = {"correct": comparison(vs_teacher=paired(student, teacher, SETTINGS), rgr_base=gap)}
    arms = {name.rpartition(".")[2]: name for name in right if "." in name}
    models = {name: of_model(name, interval(rows, SETTINGS)) for name, rows in scores.items()}
    stages = tuple(
        StageCost(f"{directory}rungs/0-small/{arm}/train", "train", 1000 * (s + 1), 5e9, "cpu")
        for arm in arms
        for s in seeds
        for directory in ["" if len(seeds) == 1 else f"seed-{s}/"]
    )
    fields: dict[str, Any] = {
        "name": run.name,
        "experiment": encode(experiment),
        "config_hash": config_hash(experiment),
        "versions": {"jax": "0.10.2", "numpy": "2.0"},
        "seeds": tuple(seeds),
        "test_problems": len(numbers),
        "stages": stages,
    }
    found = results([rung(0, "small", ["teacher"], arms, compared)], models, **{**fields, **more})
    files.write_json(run / "report" / "results.json", {**codec.encode(found), "format": FORMAT})
    for directory in {run, *runs}:
        finish(directory)
    return run


def of_model(name: str, accuracy: Interval) -> Model:
    if name == "teacher":
        return model("teacher", accuracy=accuracy, parameters=117_184)
    return model("student", 0, name.rpartition(".")[2], accuracy, parameters=117_184)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two runs that share 80 of their 120 test problems."""
    names = {"teacher": 0.5, "0-small.base": 0.1, "0-small.correct": 0.6, "0-small.gold": 0.9}
    old = {name: [answers(i, rate)] for i, (name, rate) in enumerate(names.items())}
    new = {name: [answers(50 + i, rate + 0.05)] for i, (name, rate) in enumerate(names.items())}
    faster = dataclasses.replace(EXPERIMENT.rungs[0].training, learning_rate=1e-4)
    changed = dataclasses.replace(EXPERIMENT, name="y", rungs=(dataclasses.replace(EXPERIMENT.rungs[0], training=faster),))
    share, none = Estimate(0.125, 0.05, 0.2, 40), Estimate(None, None, None, 0)
    metrics = Metrics(none, none, none, share, none, none)
    ledger = Ledger("held-out", 1, 120, 60, 60, 0, metrics, Consistency(none, none))
    entry = LedgerEntry(0, "correct", "0-small.correct", "teacher", "0-small.base", "Nll", ledger, None, ())
    induced = {"ledgers": (entry,)}
    return [
        make(tmp_path / "new", new, range(40, 160), "2026-11-23T10:00:00+00:00", changed, versions={"jax": "0.11"}, **induced),
        make(tmp_path / "old", old, range(120), "2026-11-20T09:00:00+00:00"),
    ]


def told(runs: Sequence[Path], out: Path | None = None, **options: Any) -> list[str]:
    lines: list[str] = []
    compare(runs, out, lines.append, **options)
    return lines


def numbers_of(runs: Sequence[Path], out: Path, **options: Any) -> dict[str, Any]:
    told(runs, out, **options)
    return json.loads((out / "compare.json").read_text())


def test_paired_tests_are_on_the_shared_problems_alone(two: list[Path], tmp_path: Path) -> None:
    found = numbers_of(two, tmp_path / "out")
    assert {test["model"] for test in found["tests"]} == {"teacher", "0-small.base", "0-small.correct", "0-small.gold"}
    new, old = answers(52, 0.65), answers(2, 0.6)  # problems 40 to 159, and 0 to 119
    pairs = [(new[i - 40], old[i]) for i in range(40, 120)]
    only_old, only_new = sum(b and not a for a, b in pairs), sum(a and not b for a, b in pairs)
    tail = sum(math.comb(only_old + only_new, k) for k in range(min(only_old, only_new) + 1))
    (test,) = [test for test in found["tests"] if test["model"] == "0-small.correct"]
    said = test["difference"]
    assert (test["run"], test["against"], test["problems"], test["left_out"]) == ("old", "new", 80, 40)
    assert (said["only_left"], said["only_right"]) == (only_old, only_new)
    assert said["difference"] == pytest.approx((only_old - only_new) / 80)
    assert said["mcnemar_p"] == pytest.approx(min(1.0, 2 * tail / 2 ** (only_old + only_new)))
    assert said["low"] < said["difference"] < said["high"]


def test_runs_without_a_common_problem_are_not_tested(two: list[Path], tmp_path: Path) -> None:
    other = make(tmp_path / "elsewhere", {"teacher": [answers(0, 0.5)]}, range(500, 620), None)
    lines = told([two[0], other])
    assert any("1 pair of models cannot be tested: no test problem in common" in line for line in lines)
    found = numbers_of([two[0], other], tmp_path / "out")
    assert found["tests"] == []
    assert found["untested"] == ["teacher, elsewhere against new: no test problem in common"]


def test_seeds_are_paired_or_averaged(tmp_path: Path) -> None:
    one = make(tmp_path / "one", {"teacher": [answers(1, 0.5)]}, range(120), None)
    three = make(tmp_path / "three", {"teacher": [answers(i, 0.6) for i in (2, 3, 4)]}, range(120), None)
    also = make(tmp_path / "also", {"teacher": [answers(i, 0.7) for i in (5, 6, 7)]}, range(120), None)
    found = numbers_of([three, also, one], tmp_path / "out")
    by_run = {test["run"]: test for test in found["tests"]}
    mean = {name: np.mean([answers(i, rate) for i in ids]) for name, rate, ids in (("t", 0.6, (2, 3, 4)), ("a", 0.7, (5, 6, 7)))}
    assert by_run["also"]["difference"]["difference"] == pytest.approx(mean["a"] - mean["t"])
    assert by_run["also"]["how"] == "seeds in order"
    assert len(by_run["also"]["difference"]["by_seed"]) == 3
    assert by_run["one"]["difference"]["difference"] == pytest.approx(np.mean(answers(1, 0.5)) - mean["t"])
    assert by_run["one"]["how"] == "means over seeds"
    assert by_run["one"]["difference"]["mcnemar_p"] is None


def test_the_table_holds_what_the_reports_say(two: list[Path], tmp_path: Path) -> None:
    found = numbers_of(two, tmp_path / "out")
    cells = {model["name"]: model["cells"] for model in found["models"]}
    assert list(cells) == ["teacher", "0-small.base", "0-small.correct", "0-small.gold"]
    new, old = cells["0-small.correct"]
    assert old["accuracy"]["value"] == pytest.approx(np.mean(answers(2, 0.6)))
    assert old["vs_teacher"]["difference"] == pytest.approx(np.mean(answers(2, 0.6)) - np.mean(answers(0, 0.5)))
    assert 0 < old["rgr"]["value"] < 1
    assert (new["tokens"], new["flops"]) == (1000, 5e9)
    assert cells["teacher"][0]["tokens"] is None
    lines = "\n".join(told(two))
    assert f"{100 * np.mean(answers(2, 0.6)):.1f}" in lines
    assert "117 k" in lines.replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_differing_settings_versions_and_devices_are_all_named(two: list[Path], tmp_path: Path) -> None:
    found = numbers_of(two, tmp_path / "out")
    assert found["settings"] == [{"path": "rungs.0.training.learning_rate", "values": ["0.0001", "0.002"]}]
    differ = {row["what"]: row["values"] for row in found["environment"]}
    assert differ["jax"] == ["0.11", "0.10.2"]
    assert differ["numpy"] == ["–", "2.0"]
    assert "configuration" in differ
    assert "device" not in differ


def test_every_differing_setting_is_found_wherever_it_lies() -> None:
    a = {"type": "m:E", "x": 1, "list": [1, {"type": "m:A", "v": 1}], "other": {"type": "m:A", "v": 1}, "name": "a"}
    b = {"type": "m:E", "x": 2, "list": [1, {"type": "m:A", "v": 3}, 9], "other": {"type": "m:B", "w": 1}, "name": "b"}
    assert {row.path: list(row.values) for row in differing_settings([a, b])} == {
        "x": ["1", "2"],
        "list.1.v": ["1", "3"],
        "list.2": ["–", "9"],
        "other": ["A", "B"],
    }
    assert list(differing_settings([a, {**a, "name": "c"}])) == []
    assert list(differing_settings([a, a, {**a, "x": 7}])) == [SettingRow("x", ("1", "1", "7"))]


def test_a_metric_is_followed_in_the_order_of_dates(two: list[Path], tmp_path: Path) -> None:
    found = numbers_of(two, tmp_path / "out")
    assert found["model"] == "0-small.correct"
    first, second = found["trend"]
    assert [row["run"] for row in found["trend"]] == ["old", "new"]
    assert first["delta"] is None
    assert second["delta"] == pytest.approx(np.mean(answers(52, 0.65)) - np.mean(answers(2, 0.6)))
    lines = told(two)
    rows = [line for line in lines if re.match(r"  (old|new) .*│", line)]
    bars = [line.count("█") for line in rows]
    assert [line.split()[0] for line in rows] == ["old", "new"]
    assert bars == [round(30 * row["value"]) for row in found["trend"]]
    growth = numbers_of(two, tmp_path / "out", metric="vs_teacher")["trend"]
    assert growth[0]["value"] == pytest.approx(np.mean(answers(2, 0.6)) - np.mean(answers(0, 0.5)))
    gap = numbers_of(two, tmp_path / "out", metric="rgr", model="0-small.correct")["trend"]
    assert all(0 < row["value"] < 1.2 for row in gap)
    induced = numbers_of(two, tmp_path / "out", metric="induced")["trend"]
    assert [row["value"] for row in induced] == [None, 0.125]
    assert induced[0]["absent"] == "not measured"


def test_where_no_manifest_says_when_the_files_time_is_the_date(tmp_path: Path) -> None:
    run = make(tmp_path / "run", {"teacher": [answers(0, 0.5)]}, range(120), None)
    os.utime(run / "report" / "results.json", (1_700_000_000, 1_700_000_000))
    (said,) = numbers_of([run], tmp_path / "out")["runs"]
    assert (said["date"], said["dated"]) == ("2023-11-14T22:13:20+00:00", "the file's time")


def test_what_cannot_be_compared_is_refused_in_a_sentence(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no report/results"):
        told([two[0], tmp_path])
    with pytest.raises(UserError, match="given twice"):
        told([two[0], two[1], two[0]])
    with pytest.raises(UserError, match="metrics are accuracy, vs_teacher, rgr, induced"):
        told(two, metric="loss")
    with pytest.raises(UserError, match=r"did you mean '0-small\.correct'"):
        told(two, model="0-small.corect")
    path = two[1] / "report" / "results.json"
    written = path.read_bytes()
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 1}))
    with pytest.raises(UserError, match=r"old/report/results\.json is not what by-hand wrote"):
        told(two)
    finish(two[1])
    with pytest.raises(UserError, match="has format 1"):
        told(two)
    (two[1] / "lineage" / "by-hand.json").unlink()
    with pytest.raises(UserError, match=r"old/report/results\.json was not written by a finished stage"):
        told(two)
    path.write_bytes(written)
    finish(two[1])
    (two[0] / "evaluations" / "teacher" / "generations.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"teacher/generations\.parquet is not what by-hand wrote"):
        told(two)
    finish(two[0])
    with pytest.raises(UserError, match=r"teacher/generations\.parquet cannot be read"):
        told(two)


def test_the_page_is_shut_in_and_hostile_names_are_only_text(two: list[Path], tmp_path: Path) -> None:
    bad = make(tmp_path / "bad", {"teacher": [answers(0, 0.5)], HOSTILE: [answers(1, 0.5)]}, range(120), None)
    path = bad / "report" / "results.json"
    raw = json.loads(path.read_text())
    raw["versions"] = {HOSTILE: HOSTILE}
    raw["experiment"]["rungs"][0]["name"] = HOSTILE
    path.write_text(json.dumps(raw))
    finish(bad)
    lines = told([*two, bad], tmp_path / "out")
    assert not any(c in "\n".join(lines) for c in ("\x1b", "\u202e"))
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "<script" not in page
    assert html.escape("<script>alert(1)") in page
    assert not re.search(r'(?:href|src)="(?!data:)', page)
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'" in html.unescape(page)
    assert page.count("data:image/svg+xml;base64,") == 2
    again = tmp_path / "again"
    told([*two, bad], again)
    assert (again / "compare.html").read_text() == page
