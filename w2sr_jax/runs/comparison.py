"""Runs laid side by side: their models, paired tests on the problems they share, the settings in which they differ, and how one
number moved from run to run. Read from reports and generations; nothing is computed anew but the tests."""

import datetime
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from w2sr_jax.configuration.words import ABSENT, in_words
from w2sr_jax.core import codec, sentences
from w2sr_jax.core.differing import differing_among
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Reals, paired
from w2sr_jax.graph import verified
from w2sr_jax.report import wording
from w2sr_jax.report.rule import headline_arm
from w2sr_jax.report.write import RESULTS, read
from w2sr_jax.stages.outcomes import GENERATIONS, GREEDY
from w2sr_jax.stages.report.stage import NAME as REPORT

METRICS = {
    "accuracy": "greedy accuracy",
    "vs_teacher": "points above the teacher",
    "rgr": "gap recovered (RGR, anchor: base)",
    "induced": "induced errors on held-out problems",
}
MOST_SETTINGS = 60  # differing settings listed

Cell = dict[str, Any]
Answers = list[dict[str, float]]
"""Per seed, 1 or 0 for each graded problem by its id."""


class Run(NamedTuple):
    """A finished run: its report's numbers, and the directories of its seeds. `date` is ISO, in UTC; `dated` says whence."""

    path: Path
    label: str
    results: Mapping[str, Any]
    seeds: Sequence[Path]
    date: str
    dated: str


def load(paths: Sequence[Path]) -> list[Run]:
    """The runs in the order given. `UserError` where one has no report, one of another format, or one that is not what the run
    wrote."""
    if len({path.resolve() for path in paths}) != len(paths):
        raise UserError("the same run is given twice; give each run once")
    names = [path.resolve().name for path in paths]
    labels = [name if names.count(name) == 1 else str(path) for name, path in zip(names, paths)]
    return [_load(path, label) for path, label in zip(paths, labels)]


def compared(runs: Sequence[Run], metric: str, model: str | None) -> dict[str, Any]:
    """All that is shown of the runs, as JSON; `model` is whose `metric` is followed, by default the newest headline's."""
    if metric not in METRICS:
        raise UserError(f"the metric {metric!r} is unknown; metrics are {', '.join(METRICS)}")
    names = sorted({name for run in runs for name in run.results.get("models") or {}})
    followed = _followed(runs, names, model)
    tests, untested = _tests(runs, names)
    settings = list(differing_settings([run.results.get("experiment") or {} for run in runs]))
    return {
        "metric": metric,
        "model": followed,
        "runs": [_about(run) for run in runs],
        "models": [{"name": name, "cells": [_cell(run.results, name) for run in runs]} for name in _ordered(runs, names)],
        "tests": tests,
        "untested": untested,
        "settings": [{"path": path, "values": values} for path, values in settings[:MOST_SETTINGS]],
        "settings_left_out": max(0, len(settings) - MOST_SETTINGS),
        "environment": _environment(runs),
        "trend": _trend(runs, metric, followed),
    }


def differing_settings(experiments: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    """Every setting in which saved experiments differ, with each one's value in a few words; a run's name does not count."""
    for path, values in differing_among(experiments):
        if path != "name":
            yield path, [in_words(value) for value in values]


def _load(path: Path, label: str) -> Run:
    if not (path / "report" / RESULTS).is_file() and verified.manifest(path, REPORT) is None:
        raise UserError(f"{path} has no report/{RESULTS}; w2sr report {path} makes it where the run is finished")
    results = read(verified.file(path, f"report/{RESULTS}").parent)
    several = len(results.get("seeds") or []) > 1
    seeds = [path / f"seed-{seed}" for seed in results["seeds"]] if several else [path]
    reports = {seed: verified.manifest(seed, REPORT) for seed in seeds}
    pooled = verified.manifest(path, REPORT) if several else None
    for seed, made in reports.items():
        if pooled and made and pooled.inputs.get(f"{seed.name}/{REPORT}", made.digest()) != made.digest():
            raise UserError(f"the report of {path} was made from another {seed.name} than is there now; w2sr report {path}")
    moments = [str(made.measures.get("finished") or "") for made in reports.values() if made]
    if any(moments):
        return Run(path, label, results, seeds, max(moments), "the report's manifest")
    changed = datetime.datetime.fromtimestamp((path / "report" / RESULTS).stat().st_mtime, datetime.UTC)
    return Run(path, label, results, seeds, changed.isoformat(timespec="seconds"), "the file's time")


def _about(run: Run) -> dict[str, Any]:
    known = ("name", "config_hash", "seeds", "test_problems", "device", "versions")
    return {"label": run.label, "date": run.date, "dated": run.dated, **{key: run.results.get(key) for key in known}}


def _ordered(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    first = {name: model for run in reversed(runs) for name, model in (run.results.get("models") or {}).items()}
    return sorted(names, key=lambda name: wording.order(name, first[name]))


def _followed(runs: Sequence[Run], names: Sequence[str], model: str | None) -> str | None:
    if model is not None:
        if model not in names:
            near = difflib.get_close_matches(model, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"they have {', '.join(names) or 'none'}"
            raise UserError(f"none of the runs has a model {model!r}; {hint}")
        return model
    return next(filter(None, map(_headline, sorted(runs, key=lambda run: run.date, reverse=True))), None)


def _headline(run: Run) -> str | None:
    """The student that speaks for the last rung that has one, as in the report's verdict."""
    rungs = sorted(run.results.get("rungs") or [], key=lambda rung: rung.get("index", 0), reverse=True)
    spoken = ((rung.get("models") or {}).get(arm) for rung in rungs if (arm := headline_arm(rung)))
    return next(spoken, None)


def _cell(results: Mapping[str, Any], name: str) -> Cell | None:
    """What one run says of one model; None where it has no such model."""
    model = (results.get("models") or {}).get(name)
    if model is None:
        return None
    own = [
        found
        for rung in results.get("rungs") or []
        for arm, found in (rung.get("comparisons") or {}).items()
        if (rung.get("models") or {}).get(arm) == name
    ]
    said = own[0] if own else {}
    entries = [entry for entry in results.get("ledgers") or [] if entry.get("student") == name and entry.get("set") == "held-out"]
    trained = [stage for stage in results.get("stages") or [] if _trains(stage, name, model)]
    seeds = max(1, len(results.get("seeds") or []))
    costs = {key: sum(stage.get(key) or 0 for stage in trained) / seeds or None for key in ("tokens", "flops")}
    return {
        "parameters": model.get("parameters"),
        "accuracy": (model.get("scores") or {}).get("accuracy"),
        "vs_teacher": said.get("vs_teacher"),
        "teacher": said.get("teacher"),
        "rgr": said.get("rgr_base"),
        "induced": ((entries[0].get("metrics") or {}).get("induced")) if entries else None,
        **costs,
    }


def _trains(stage: Mapping[str, Any], name: str, model: Mapping[str, Any]) -> bool:
    """Whether a stage is the model's training; a base asked for the answer alone has none of its own."""
    arm = model.get("arm")
    directory = f"teachers/{name}" if model.get("rung") is None else f"rungs/{name.removesuffix(f'.{arm}')}/{arm}"
    return str(stage.get("name")).removesuffix("/train").endswith(directory) and stage.get("kind") == "train"


def _tests(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Each run against the first one, model by model, and in words the models that could not be tested."""
    tests, untested = [], []
    for name in _ordered(runs, names):
        having = [run for run in runs if name in (run.results.get("models") or {})]
        for other in having[1:]:
            found = _test(_answers(other, name), _answers(having[0], name))
            if isinstance(found, str):
                untested.append(f"{name}, {other.label} against {having[0].label}: {found}")
            else:
                tests.append({"model": name, "run": other.label, "against": having[0].label, **found})
    return tests, untested


def _test(left: Answers, right: Answers) -> dict[str, Any] | str:
    """Left minus right on the problems that all seeds of both answered, or in words why there is none."""
    if not all((*left, *right)) or not left or not right:
        return f"no graded {GENERATIONS}"
    shared = sorted(set.intersection(*map(set, (*left, *right))))
    if not shared:
        return "no test problem in common"
    a, b = (_scores(answers, shared) for answers in (left, right))
    how = "one seed each" if len(a) == len(b) == 1 else "seeds in order"
    if len(a) != len(b):
        a, b, how = a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True), "means over seeds"
    left_out = max(len(problems) for problems in (*left, *right)) - len(shared)
    return {"problems": len(shared), "left_out": left_out, "how": how, "difference": codec.encode(paired(a, b, Evaluation()))}


def _scores(answers: Answers, problems: Sequence[str]) -> Reals:
    return np.array([[seed[problem] for problem in problems] for seed in answers], np.float64)


def _answers(run: Run, model: str) -> Answers:
    """How good one model's greedy answers are; of a teacher whose answers lay in a file, the mean of those to each problem. Empty
    where a seed's file is not there."""
    found = []
    for seed in run.seeds:
        path = verified.optional(seed, f"evaluations/{model}/{GENERATIONS}")
        if path is None:
            return []
        try:
            with pq.ParquetFile(path, page_checksum_verification=True) as file:
                rows = file.read(["problem_id", "sample", "verdict"]).to_pylist()
            known = [row for row in rows if row["verdict"] != "ungraded"]
            graded = [row for row in known if row["sample"] == GREEDY] or known
        except Exception as error:  # the library answers damage with many kinds
            raise UserError(f"{path} cannot be read as generations: {sentences.cause(error)}") from None
        given: dict[str, list[bool]] = {}
        for row in graded:
            given.setdefault(row["problem_id"], []).append(row["verdict"] == "correct")
        found.append({problem: sum(right) / len(right) for problem, right in given.items()})
    return found


def _environment(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Versions, devices and test sets in which the runs differ."""
    rows: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "configuration": lambda results: str(results.get("config_hash") or "")[:12] or None,
        "seeds": lambda results: results.get("seeds"),
        "test problems": lambda results: results.get("test_problems"),
        "device": lambda results: (results.get("device") or {}).get("kind"),
        "devices": lambda results: (results.get("device") or {}).get("count"),
        "mesh": lambda results: (results.get("device") or {}).get("mesh"),
    }
    packages = sorted({package for run in runs for package in run.results.get("versions") or {}})
    found = [(what, [look(run.results) for run in runs]) for what, look in rows.items()]
    found += [(package, [(run.results.get("versions") or {}).get(package) for run in runs]) for package in packages]
    return [
        {"what": what, "values": [ABSENT if value is None else in_words(value) for value in values]}
        for what, values in found
        if any(value != values[0] for value in values)
    ]


def _trend(runs: Sequence[Run], metric: str, model: str | None) -> list[dict[str, Any]]:
    """The metric of one model, run by run in the order of their dates; `delta` is to the last run before that has it."""
    found: list[dict[str, Any]] = []
    last = None
    for run in sorted(runs, key=lambda run: run.date):
        cell = (_cell(run.results, model) if model else None) or {}
        said = cell.get(metric) or {}
        value = said.get("difference" if metric == "vs_teacher" else "value")
        absent = None if value is not None else said.get("suppressed") or ("not measured" if cell else "no such model")
        delta = None if value is None or last is None else value - last
        last = last if value is None else value
        bounds = {"low": said.get("low"), "high": said.get("high")}
        found.append({"run": run.label, "date": run.date, "value": value, **bounds, "delta": delta, "absent": absent})
    return found
