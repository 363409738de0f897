"""The command: runs side by side as text and, where asked for, as a page and JSON."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from w2sr_jax.configuration.words import ABSENT
from w2sr_jax.core import codec, files
from w2sr_jax.report import hostile, template, wording
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.ranges import Mark, ranges
from w2sr_jax.runs.compare.load import load
from w2sr_jax.runs.compare.numbers import METRICS, About, Cell, Comparison, compared

PAGE, NUMBERS = "compare.html", "compare.json"
FORMAT = 1
BAR = 30  # characters
CAVEAT = (
    "Intervals and p are over problems, and over seeds only where both runs have as many: a single seed, or a mean over seeds, "
    "says nothing of what another seed would give."
)


@dataclasses.dataclass(frozen=True)
class CellRow:
    run: str
    cell: Cell


@dataclasses.dataclass(frozen=True)
class ModelGroup:
    """A model with a row per run that has it."""

    name: str
    rows: list[CellRow]


@dataclasses.dataclass(frozen=True)
class _Page:
    """What the template is given."""

    comparison: Comparison
    models: list[ModelGroup]
    metric: str
    chart: Chart | None
    caveat: str


def compare(
    runs: Sequence[Path],
    out: Path | None,
    write: Callable[[str], None],
    metric: str = "accuracy",
    model: str | None = None,
) -> None:
    """Tell `write` how the runs compare; with `out` also write OUT/compare.html and OUT/compare.json. `UserError` where a run has
    no report, or the metric or model does not exist."""
    comparison = compared(load(runs), metric, model)
    for line in text(comparison):
        write(line)
    if out is not None:
        encoded = {**codec.encode(comparison), "format": FORMAT}
        files.write_text(out / NUMBERS, json.dumps(encoded, sort_keys=True, indent=1, allow_nan=False) + "\n")
        files.write_text(out / PAGE, page(comparison))
        write(f"\nPage: {out / PAGE}")


def text(comparison: Comparison) -> list[str]:
    """The comparison as lines."""
    about = [[run.label, run.date, f"{len(run.seeds or [0])}", f"{run.test_problems or ABSENT}"] for run in comparison.runs]
    lines = ["Runs", *_table(["run", "report made", "seeds", "test problems"], about)]
    lines += [
        "",
        "Models (accuracy with its interval; points above the teacher; share of the gap base → ceiling; per seed, training)",
    ]
    lines += _table(
        ["model", "run", "parameters", "accuracy", "interval", "vs teacher", "interval", "RGR", "tokens", "FLOPs"],
        [
            [model.name if number == 0 else "", row.run, *_cells(row.cell)]
            for model in _models(comparison)
            for number, row in enumerate(model.rows)
        ],
    )
    if len(comparison.runs) > 1:
        lines += ["", *_tested(comparison), "", *_differences(comparison)]
    lines += ["", *_trend(comparison)]
    return lines


def page(comparison: Comparison) -> str:
    """The comparison as one HTML file: no script, nothing fetched."""
    shown = _Page(comparison, _models(comparison), METRICS[comparison.metric], _chart(comparison), CAVEAT)
    return template.rendered("compare.html.j2", shown)


def _models(comparison: Comparison) -> list[ModelGroup]:
    return [ModelGroup(model.name, _rows(comparison.runs, model.cells)) for model in comparison.models]


def _rows(runs: Sequence[About], cells: Sequence[Cell | None]) -> list[CellRow]:
    return [CellRow(run.label, cell) for run, cell in zip(runs, cells, strict=True) if cell is not None]


def _cells(cell: Cell) -> list[str]:
    growth, gap = cell.vs_teacher, cell.rgr
    return [
        wording.quantity(cell.parameters),
        wording.percent(cell.accuracy.value),
        wording.percent_range(cell.accuracy),
        wording.points(growth.difference if growth else None),
        wording.points_range(growth),
        wording.percent(gap.value if gap else None, 0),
        wording.quantity(cell.tokens),
        wording.quantity(cell.flops),
    ]


def _tested(comparison: Comparison) -> list[str]:
    """The paired tests, and why there is none where there is none."""
    lines = ["Paired tests (the first run named minus the second; p not corrected for the number of tests)"]
    rows = []
    for test in comparison.tests:
        difference = test.difference
        kind = "permutation" if difference.mcnemar_p is None else "exact McNemar"
        only = [wording.count(difference.only_left), wording.count(difference.only_right)]
        size = [wording.count(test.problems), wording.points(difference.difference), wording.points_range(difference)]
        rows.append(
            [test.model, f"{test.run} − {test.against}", *size, *only, f"{wording.p_value(difference.p)} {kind}", test.how]
        )
    header = ["model", "runs", "problems", "points", "interval", "only first right", "only second", "p", "seeds"]
    lines += [*_table(header, rows), f"  {CAVEAT}"] if rows else []
    reasons = sorted({reason.rpartition(": ")[2] for reason in comparison.untested})
    if comparison.untested:
        count = len(comparison.untested)
        lines.append(f"  {count} pair{'s' if count > 1 else ''} of models cannot be tested: {', '.join(reasons)}")
    elif not rows:
        lines.append("  none: the runs have no model of the same name")
    return lines


def _differences(comparison: Comparison) -> list[str]:
    labels = [run.label for run in comparison.runs]
    lines = ["Settings that differ"]
    rows = [[row.path, *row.values] for row in comparison.settings]
    lines += _table(["setting", *labels], rows) if rows else ["  none"]
    if comparison.settings_left_out:
        lines.append(f"  … {comparison.settings_left_out} more")
    lines += ["", "Versions, devices and data that differ"]
    rows = [[row.what, *row.values] for row in comparison.environment]
    return lines + (_table(["what", *labels], rows) if rows else ["  none"])


def _trend(comparison: Comparison) -> list[str]:
    """One line per run in the order of dates, with a bar."""
    if comparison.model is None:
        return ["No model to follow: no run has a student"]
    signed = comparison.metric == "vs_teacher"
    shown = wording.points if signed else wording.percent
    values = [row.value for row in comparison.trend if row.value is not None]
    low, high = min([0.0, *values]), max([0.0 if signed else 1.0, *values])
    rows = []
    for row in comparison.trend:
        interval = (wording.points_range if signed else wording.percent_range)(row)
        bar = "" if row.value is None else _bar(row.value, low, high)
        value = row.absent or "" if row.value is None else shown(row.value)
        rows.append([row.run, row.date, value, interval, wording.points(row.delta), bar])
    title = f"{METRICS[comparison.metric].capitalize()} of {hostile.one_line(comparison.model)}, by date of the report"
    return [title, *_table(["run", "date", "value", "interval", "change, points", ""], rows, left=(0, 1, 5))]


def _bar(value: float, low: float, high: float) -> str:
    """A bar from 0 to the value on an axis from `low` to `high`; lighter where the value is negative."""
    width = high - low or 1.0
    zero, end = (round(BAR * (x - low) / width) for x in (0.0, value))
    return " " * end + "▒" * (zero - end) + "│" if value < 0 else " " * zero + "│" + "█" * (end - zero)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0, 1)) -> list[str]:
    """Aligned columns, those of `left` to the left."""
    cells = [[hostile.one_line(cell, 60) if index not in left[2:] else cell for index, cell in enumerate(row)] for row in rows]
    widths = [max(len(row[index]) for row in [list(header), *cells]) for index in range(len(header))]
    return [
        "  "
        + "  ".join(
            f"{cell:<{width}}" if i in left else f"{cell:>{width}}" for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in [list(header), *cells]
    ]


def _chart(comparison: Comparison) -> Chart | None:
    signed = comparison.metric == "vs_teacher"
    shown = wording.points if signed else wording.percent
    marks: list[Mark] = []
    words: list[str] = []
    day = None
    for row in comparison.trend:
        if row.date[:10] != day:
            day = row.date[:10]
            marks.append(Mark(day))
        if row.value is None:
            marks.append(Mark(row.run, absent=row.absent or ""))
        else:
            marks.append(Mark.of(row.run, "correct", row.value, row, shown(row.value)))
            words.append(f"{day}, {row.run} {shown(row.value)}")
    if not words:
        return None
    name = METRICS[comparison.metric]
    alt = f"{name.capitalize()} of {comparison.model}, run by run with intervals. {'; '.join(words)}."
    return ranges("trend", marks, f"{name}{'' if signed else ', %'}", alt, zero=(0.0,) if signed else (), signed=signed)
