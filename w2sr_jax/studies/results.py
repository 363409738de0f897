"""What has come of a study so far: the models of its cells, and its claims."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Interval, interval
from w2sr_jax.graph import skips
from w2sr_jax.studies.answers import Answers
from w2sr_jax.studies.claims import ClaimResult, decided
from w2sr_jax.studies.declared import Declaration, Side
from w2sr_jax.studies.finished import Finished
from w2sr_jax.studies.run import CellRuns, wanted

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """A model of a cell: its greedy accuracy over the seeds that have finished its evaluation, each of theirs, and the share of
    answers that did not end."""

    model: str
    accuracy: Interval
    by_seed: tuple[float, ...]
    seeds: tuple[int, ...]
    truncated: float


@dataclasses.dataclass(frozen=True)
class CellResult:
    """A cell: its values, the folder with its runs, its models, and what of it is not finished."""

    name: str
    values: Mapping[str, str]
    run: str
    models: tuple[ModelResult, ...]
    missing: tuple[str, ...]
    seconds: float
    """Of the stages that were done for this cell; what it took from another one counts there."""
    notes: tuple[str, ...] = ()
    """Which students were skipped, and why."""


@dataclasses.dataclass(frozen=True)
class StudyResults:
    """A study's name, what was declared of it and when, what came of the claims, and its cells."""

    name: str
    declarations: tuple[Declaration, ...]
    primary: ClaimResult
    secondary: tuple[ClaimResult, ...]
    cells: tuple[CellResult, ...]
    confidence: float
    format: int = FORMAT


def gathered(
    name: str, declarations: Sequence[Declaration], runs: Sequence[CellRuns], settings: Evaluation, where: Path
) -> StudyResults:
    """What of a study is finished; `where` is its folder. `UserError` where a claim names a model that its cell does not
    evaluate."""
    finished = Finished()
    answers = Answers(runs, finished)
    primary, *secondary = decided(declarations[-1], answers, settings)
    intervals: dict[tuple[str, ...], Interval] = {}
    cells = tuple(
        _cell(each, finished, where, tuple(_models(each, answers, settings, intervals)), tuple(_notes(each, finished)))
        for each in runs
    )
    return StudyResults(name, tuple(declarations), primary, tuple(secondary), cells, settings.confidence)


def _models(
    runs: CellRuns, answers: Answers, settings: Evaluation, intervals: dict[tuple[str, ...], Interval]
) -> Iterator[ModelResult]:
    """The models of a cell that have answered. `intervals` are those of models that other cells share, by what they wrote."""
    for name in answers.names(runs.cell.name):
        answered = answers.of(Side(name, runs.cell.name))
        if answered is not None and answered.problems:
            by_seed = tuple(round(float(row.mean()), 10) for row in answered.right)
            if answered.digests not in intervals:
                intervals[answered.digests] = interval(answered.right, settings)
            yield ModelResult(name, intervals[answered.digests], by_seed, answered.seeds, answered.truncated)


def _notes(runs: CellRuns, finished: Finished) -> Iterator[str]:
    """Why students of a cell were skipped."""
    for seed in runs.seeds:
        for stage in seed.plan:
            skip = skips.of(finished.manifest(seed, stage))
            if skip is not None and skip.origin == stage.name:
                yield f"{seed.prefix}{skips.student(stage.name)} was skipped: {skip.reason}"


def _cell(runs: CellRuns, finished: Finished, where: Path, models: tuple[ModelResult, ...], notes: tuple[str, ...]) -> CellResult:
    stages = [(seed, stage) for seed in runs.seeds for stage in filter(wanted, seed.plan)]
    missing = tuple(f"{seed.prefix}{stage.name}" for seed, stage in stages if finished.manifest(seed, stage) is None)
    done = [manifest for seed, stage in stages if (manifest := finished.manifest(seed, stage)) is not None]
    seconds = round(sum(float(each.measures.get("seconds", 0.0)) for each in done if not each.shared_from), 1)
    place = runs.directory.relative_to(where).as_posix()
    return CellResult(runs.cell.name, dict(runs.cell.values), place, models, missing, seconds, notes)
