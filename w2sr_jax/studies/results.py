"""What has come of a study so far: the models of its cells, and its claims."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Interval, interval
from w2sr_jax.studies.answers import Answers
from w2sr_jax.studies.claims import ClaimResult, decided
from w2sr_jax.studies.declared import Declaration, Side
from w2sr_jax.studies.run import CellRuns

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class ModelResult:
    """A model of a cell: its greedy accuracy over the seeds that have finished its evaluation, each of theirs, and the share of
    answers that
    did not end."""

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
    answers = Answers(runs)
    primary, *secondary = decided(declarations[-1], answers, settings)
    cells = tuple(_cell(each, answers, settings, where) for each in runs)
    return StudyResults(name, tuple(declarations), primary, tuple(secondary), cells, settings.confidence)


def _cell(runs: CellRuns, answers: Answers, settings: Evaluation, where: Path) -> CellResult:
    found: list[ModelResult] = []
    for name in answers.names(runs.cell.name):
        side = Side(name, runs.cell.name)
        answered = answers.of(side)
        if answered is not None and answered.problems:
            by_seed = tuple(round(float(row.mean()), 10) for row in answered.right)
            accuracy = interval(answered.right, settings)
            found.append(ModelResult(name, accuracy, by_seed, answered.seeds, answers.truncated(side)))
    missing = [
        f"{seed.prefix}{stage.name}"
        for seed in runs.seeds
        for stage in seed.plan
        if stage.kind != "report" and seed.store.peek(stage.name) is None
    ]
    seconds = sum(
        float(manifest.measures.get("seconds", 0.0))
        for seed in runs.seeds
        for stage in seed.plan
        if (manifest := seed.store.peek(stage.name)) is not None and not manifest.shared_from
    )
    place = runs.directory.relative_to(where).as_posix()
    return CellResult(runs.cell.name, dict(runs.cell.values), place, tuple(found), tuple(missing), round(seconds, 1))
