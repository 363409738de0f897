"""Runs laid side by side: their models, paired tests on the problems they share, the settings in which they differ, and how one
number moved from run to run. Nothing is computed anew but the tests."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from w2sr_jax.configuration.words import ABSENT, in_words
from w2sr_jax.core.differing import differing_among
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.cost import StageCost
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Difference, Estimate, Gap, Interval, Reals, paired
from w2sr_jax.report import wording
from w2sr_jax.report.results import Device, Model, Results, Rung
from w2sr_jax.report.rule import headline_arm, ordered
from w2sr_jax.runs.compare.load import Answers, Run, answers
from w2sr_jax.stages import layout

METRICS = {
    "accuracy": "greedy accuracy",
    "vs_teacher": "points above the teacher",
    "rgr": "gap recovered (RGR, anchor: base)",
    "induced": "induced errors on held-out problems",
}
MOST_SETTINGS = 60  # differing settings listed


@dataclasses.dataclass(frozen=True)
class About:
    """A run, and when its report was made; `dated` says whence that is known."""

    label: str
    date: str
    dated: str
    name: str
    config_hash: str
    seeds: tuple[int, ...]
    test_problems: int
    device: Device
    versions: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Cell:
    """What one run says of one model. Tokens and FLOPs are of its own training, per seed."""

    parameters: int | None
    accuracy: Interval
    vs_teacher: Difference | None
    teacher: str | None
    rgr: Gap | None
    induced: Estimate | None
    tokens: float | None
    flops: float | None


@dataclasses.dataclass(frozen=True)
class ModelCells:
    """A model by its name, with a cell per run; None where a run has no such model."""

    name: str
    cells: tuple[Cell | None, ...]


@dataclasses.dataclass(frozen=True)
class Test:
    """A model of one run against that of the same name `against` another, on the problems that all seeds of both answered;
    `left_out` counts the others."""

    model: str
    run: str
    against: str
    problems: int
    left_out: int
    how: Literal["one seed each", "seeds in order", "means over seeds"]
    difference: Difference


@dataclasses.dataclass(frozen=True)
class SettingRow:
    """A setting with its value in each run, in a few words."""

    path: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class EnvironmentRow:
    what: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class TrendRow:
    """The followed metric in one run; `delta` is to the last run before that has it, `absent` says why there is none."""

    run: str
    date: str
    value: float | None
    low: float | None
    high: float | None
    delta: float | None
    absent: str | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All that is shown of the runs: what `compare.json` holds. `untested` says in words which models could not be tested."""

    metric: str
    model: str | None
    runs: tuple[About, ...]
    models: tuple[ModelCells, ...]
    tests: tuple[Test, ...]
    untested: tuple[str, ...]
    settings: tuple[SettingRow, ...]
    settings_left_out: int
    environment: tuple[EnvironmentRow, ...]
    trend: tuple[TrendRow, ...]


def compared(runs: Sequence[Run], metric: str, model: str | None) -> Comparison:
    """The comparison; `model` is whose `metric` is followed, by default the newest headline's."""
    if metric not in METRICS:
        raise UserError(f"the metric {metric!r} is unknown; metrics are {', '.join(METRICS)}")
    first = {name: model for run in reversed(runs) for name, model in run.results.models.items()}
    rungs: dict[int | None, Rung] = {rung.index: rung for run in reversed(runs) for rung in run.results.rungs}
    names = sorted(first, key=lambda name: wording.order(rungs.get(first[name].rung), name, first[name]))
    followed = _followed(runs, sorted(names), model)
    tests, untested = _tests(runs, names)
    settings = list(differing_settings([run.results.experiment for run in runs]))
    return Comparison(
        metric=metric,
        model=followed,
        runs=tuple(_about(run) for run in runs),
        models=tuple(ModelCells(name, tuple(_cell(run.results, name) for run in runs)) for name in names),
        tests=tuple(tests),
        untested=tuple(untested),
        settings=tuple(settings[:MOST_SETTINGS]),
        settings_left_out=max(0, len(settings) - MOST_SETTINGS),
        environment=tuple(_environment(runs)),
        trend=tuple(_trend(runs, metric, followed)),
    )


def differing_settings(experiments: Sequence[Mapping[str, object]]) -> Iterator[SettingRow]:
    """Every setting in which saved experiments differ; a run's name does not count."""
    for path, values in differing_among(experiments):
        if path != "name":
            yield SettingRow(path, tuple(in_words(value) for value in values))


def _about(run: Run) -> About:
    results = run.results
    return About(
        label=run.label,
        date=run.date,
        dated=run.dated,
        name=results.name,
        config_hash=results.config_hash,
        seeds=results.seeds,
        test_problems=results.test_problems,
        device=results.device,
        versions=results.versions,
    )


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
    students = (rung.models.get(arm) for rung in reversed(ordered(run.results)) if (arm := headline_arm(rung)))
    return next(students, None)


def _cell(results: Results, name: str) -> Cell | None:
    """What one run says of one model; None where it has no such model."""
    model = results.models.get(name)
    if model is None:
        return None
    own = (comparison for rung in results.rungs for arm, comparison in rung.comparisons.items() if rung.models.get(arm) == name)
    comparison = next(own, None)
    ledgers = (entry.ledger for entry in results.ledgers if entry.student == name and entry.ledger.set == "held-out")
    ledger = next(ledgers, None)
    trained = [stage for stage in results.stages if _trains(stage, name, model)]
    seeds = max(1, len(results.seeds))
    return Cell(
        parameters=model.parameters,
        accuracy=model.scores.accuracy,
        vs_teacher=comparison.vs_teacher if comparison else None,
        teacher=comparison.teacher if comparison else None,
        rgr=comparison.rgr_base if comparison else None,
        induced=ledger.metrics.induced if ledger else None,
        tokens=sum(stage.tokens or 0 for stage in trained) / seeds or None,
        flops=sum(stage.flops or 0 for stage in trained) / seeds or None,
    )


def _trains(stage: StageCost, name: str, model: Model) -> bool:
    """Whether a stage is the model's training; a base asked for the answer alone has none of its own."""
    arm = model.arm
    directory = f"teachers/{name}" if model.rung is None else f"rungs/{name.removesuffix(f'.{arm}')}/{arm}"
    return stage.name.removesuffix("/train").endswith(directory) and stage.kind == "train"


def _tests(runs: Sequence[Run], names: Sequence[str]) -> tuple[list[Test], list[str]]:
    """Each run against the first one, model by model, and in words the models that could not be tested."""
    tests, untested = [], []
    for name in names:
        first, *others = (run for run in runs if name in run.results.models)
        for other in others:
            test = _test(name, other, first)
            if isinstance(test, str):
                untested.append(f"{name}, {other.label} against {first.label}: {test}")
            else:
                tests.append(test)
    return tests, untested


def _test(model: str, run: Run, against: Run) -> Test | str:
    """The model of one run minus that of the other, or in words why there is no test."""
    left, right = answers(run, model), answers(against, model)
    if not all((*left, *right)) or not left or not right:
        return f"no graded {layout.GENERATIONS}"
    shared = sorted(set.intersection(*map(set, (*left, *right))))
    if not shared:
        return "no test problem in common"
    a, b = (_scores(of_seeds, shared) for of_seeds in (left, right))
    how: Literal["one seed each", "seeds in order", "means over seeds"]
    how = "one seed each" if len(a) == len(b) == 1 else "seeds in order"
    if len(a) != len(b):
        a, b, how = a.mean(axis=0, keepdims=True), b.mean(axis=0, keepdims=True), "means over seeds"
    left_out = max(len(problems) for problems in (*left, *right)) - len(shared)
    return Test(model, run.label, against.label, len(shared), left_out, how, paired(a, b, Evaluation()))


def _scores(of_seeds: Answers, problems: Sequence[str]) -> Reals:
    return np.array([[seed[problem] for problem in problems] for seed in of_seeds], np.float64)


def _environment(runs: Sequence[Run]) -> Iterator[EnvironmentRow]:
    """Versions, devices and test sets in which the runs differ."""
    every = [run.results for run in runs]
    rows: dict[str, list[object]] = {
        "configuration": [one.config_hash[:12] or None for one in every],
        "seeds": [list(one.seeds) for one in every],
        "test problems": [one.test_problems for one in every],
        "device": [one.device.kind for one in every],
        "devices": [one.device.count for one in every],
        "mesh": [dict(one.device.mesh) for one in every],
    }
    columns = list(rows.items())
    for package in sorted({package for one in every for package in one.versions}):
        columns.append((package, [one.versions.get(package) for one in every]))
    for what, values in columns:
        if any(value != values[0] for value in values):
            yield EnvironmentRow(what, tuple(ABSENT if value is None else in_words(value) for value in values))


def _trend(runs: Sequence[Run], metric: str, model: str | None) -> Iterator[TrendRow]:
    """The metric of one model, run by run in the order of their dates."""
    last: float | None = None
    for run in sorted(runs, key=lambda run: run.date):
        cell = _cell(run.results, model) if model else None
        value, bounds, absent = (None, None, "no such model") if cell is None else _followed_value(cell, metric)
        delta = None if value is None or last is None else value - last
        last = last if value is None else value
        low, high = (bounds.low, bounds.high) if bounds else (None, None)
        yield TrendRow(run.label, run.date, value, low, high, delta, absent)


def _followed_value(cell: Cell, metric: str) -> tuple[float | None, wording.Range | None, str | None]:
    """A metric of a cell, its interval, and why there is none."""
    if metric == "vs_teacher" and cell.vs_teacher is not None:
        return cell.vs_teacher.difference, cell.vs_teacher, None
    share = {"accuracy": cell.accuracy, "rgr": cell.rgr, "induced": cell.induced}.get(metric)
    if share is None:
        return None, None, "not measured"
    why = share.suppressed if isinstance(share, Gap) else None
    return share.value, share, (why or "not measured") if share.value is None else None
