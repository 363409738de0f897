"""A study's page, and beside it all of its numbers as JSON and CSV."""

import csv
import dataclasses
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from w2sr_jax.core import codec, files
from w2sr_jax.evaluation.families import Outcome
from w2sr_jax.evaluation.statistics import Interval
from w2sr_jax.report import template, wording
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.ranges import Mark, ranges
from w2sr_jax.studies.claims import ClaimResult
from w2sr_jax.studies.declared import Declaration, Side
from w2sr_jax.studies.results import CellResult, ModelResult, StudyResults

FOLDER, PAGE, NUMBERS, TABLE = "report", "index.html", "results.json", "cells.csv"
MOST_MARKS = 80
"""Cells that are drawn."""


@dataclasses.dataclass(frozen=True)
class _Claim:
    name: str
    primary: bool
    left: Side
    right: Side
    outcome: Outcome | None
    size: str
    words: str


@dataclasses.dataclass(frozen=True)
class _Row:
    at: tuple[str, ...]
    model: str
    accuracy: Interval | None
    by_seed: str
    truncated: float | None
    run: str
    href: str


@dataclasses.dataclass(frozen=True)
class _Page:
    """What the template is given."""

    name: str
    answer: str
    beside: Sequence[str]
    chart: Chart | None
    caption: str
    claims: Sequence[_Claim]
    declared: Sequence[str]
    axes: Sequence[str]
    rows: Sequence[_Row]
    unfinished: Sequence[str]


def write(directory: Path, results: StudyResults) -> Path:
    """Write report/index.html, report/results.json and report/cells.csv below a study's folder; the page comes last."""
    folder = directory / FOLDER
    files.write_json(folder / NUMBERS, codec.encode(results))
    files.write_text(folder / TABLE, table(results))
    files.write_text(folder / PAGE, page(results))
    return folder / PAGE


def page(results: StudyResults) -> str:
    """One HTML file: no script, nothing fetched."""
    axes = list(results.cells[0].values) if results.cells else []
    chart, caption = _chart(results)
    shown = _Page(
        name=results.name,
        answer=results.primary.sentence(),
        beside=[*([results.primary.reach] if results.primary.reach else []), _cost(results)],
        chart=chart,
        caption=caption,
        claims=[_claim(each, number == 0) for number, each in enumerate((results.primary, *results.secondary))],
        declared=declared(results.declarations),
        axes=axes,
        rows=[row for cell in results.cells for row in _rows(cell)],
        unfinished=[sentence for cell in results.cells for sentence in _beside(cell)],
    )
    return template.rendered("study.html.j2", shown)


def table(results: StudyResults) -> str:
    """Every model of every cell as CSV."""
    out = io.StringIO()
    axes = list(results.cells[0].values) if results.cells else []
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*axes, "model", "accuracy", "low", "high", "problems", "seeds", "by_seed", "not_ended", "seconds", "run"])
    for cell in results.cells:
        for model in cell.models:
            seen = model.accuracy
            by_seed = " ".join(f"{value:.6g}" for value in model.by_seed)
            measured = [f"{value:.6g}" for value in (seen.value, seen.low, seen.high)]
            counts = [seen.n, len(model.seeds), by_seed, f"{model.truncated:.6g}", f"{cell.seconds:.6g}", cell.run]
            writer.writerow([*cell.values.values(), model.model, *measured, *counts])
    return out.getvalue()


def declared(declarations: Sequence[Declaration]) -> list[str]:
    """When the claims were declared, and whether they were changed since, in sentences."""
    first = declarations[0]
    before = "before the first stage was finished" if not first.finished else f"when {first.finished} stages were finished"
    said = [f"Declared {first.when}, {before}."]
    for earlier, later in itertools.pairwise(declarations):
        changed = [
            name for name in ("alpha", "primary", "secondary", "seeds", "cells") if getattr(earlier, name) != getattr(later, name)
        ]
        said.append(f"Changed {later.when}, when {later.finished} stages were finished: {wording.listing(changed)}.")
    if any(later.finished for later in declarations[1:]):
        said.append("What was changed after results could be seen is explored, not declared.")
    return said


def _claim(result: ClaimResult, primary: bool) -> _Claim:
    claim = result.claim
    size = f"{result.outcome.n:,} × {len(result.seeds)}" if result.outcome else "–"
    return _Claim(claim.name, primary, claim.left, claim.right, result.outcome, size, result.words)


def _beside(cell: CellResult) -> Iterator[str]:
    """What a cell lacks, in sentences."""
    if count := len(cell.missing):
        of = "stage is" if count == 1 else "stages are"
        yield f"{cell.name}: {count} {of} not finished, such as {cell.missing[0]}."
    for note in cell.notes:
        yield f"{cell.name}: {note.removesuffix('.')}."


def _rows(cell: CellResult) -> list[_Row]:
    at = tuple(cell.values.values())
    href = quote(f"../{cell.run}/")
    if not cell.models:
        return [_Row(at, "–", None, "–", None, cell.run, href)]
    return [
        _Row(
            at,
            model.model,
            model.accuracy,
            ", ".join(wording.percent(value) for value in model.by_seed),
            model.truncated,
            cell.run,
            href,
        )
        for model in cell.models
    ]


def _chart(results: StudyResults) -> tuple[Chart | None, str]:
    """The model of the primary claim in every cell, under the values of the first axis."""
    name = results.primary.claim.left.model
    axes = list(results.cells[0].values) if results.cells else []
    everything = [(cell, model) for cell in results.cells for model in cell.models if model.model == name]
    found = everything[:MOST_MARKS]
    if not found:
        return None, ""
    marks: list[Mark] = []
    heading = None
    for cell, model in found:
        first, *rest = cell.values.items() if axes else [("", results.name)]
        if len(axes) > 1 and first[1] != heading:
            heading = first[1]
            marks.append(Mark(f"{first[0]} {first[1]}"))
        label = ", ".join(f"{axis} {value}" for axis, value in (rest or [first]))
        marks.append(Mark.of(label, "correct", model.accuracy.value, model.accuracy, _text(model)))
    alt = "; ".join(f"{cell.name}: {wording.percent(model.accuracy.value)}" for cell, model in found)
    level = wording.confidence(results.confidence)
    caption = f"Greedy accuracy of {name} on the test problems, with {level} intervals over problems and seeds."
    if len(everything) > len(found):
        caption += f" Drawn are the first {len(found)} of {len(everything)} cells; the table has all."
    return ranges("cells", marks, "greedy accuracy, %", alt), caption


def _text(model: ModelResult) -> str:
    return wording.percent(model.accuracy.value)


def _cost(results: StudyResults) -> str:
    seconds = sum(cell.seconds for cell in results.cells)
    return (
        f"{len(results.cells)} cells with {len(results.declarations[-1].seeds)} seeds each, "
        f"{wording.duration(seconds)} of work in all."
    )
