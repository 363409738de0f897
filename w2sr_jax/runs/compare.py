"""`w2sr compare`: runs side by side as text and, where asked for, as a page and JSON."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from w2sr_jax.configuration.words import ABSENT
from w2sr_jax.core import files
from w2sr_jax.report import charts, hostile, schema, template, wording
from w2sr_jax.report.charts import Mark
from w2sr_jax.report.drawing import Chart
from w2sr_jax.runs import comparison
from w2sr_jax.runs.comparison import METRICS

PAGE, NUMBERS = "compare.html", "compare.json"
BAR = 30  # characters
CAVEAT = (
    "Intervals and p are over problems, and over seeds only where both runs have as many: a single seed, or a mean over seeds, "
    "says nothing of what another seed would give."
)


def compare(
    runs: Sequence[Path],
    out: Path | None,
    write: Callable[[str], None],
    metric: str = "accuracy",
    model: str | None = None,
) -> None:
    """Tell `write` how the runs compare; with `out` also write OUT/compare.html and OUT/compare.json. `UserError` where a run has
    no report, or the metric or model does not exist."""
    found = comparison.compared(comparison.load(runs), metric, model)
    for line in text(found):
        write(line)
    if out is not None:
        plain = schema.plain(found)
        files.write_text(out / NUMBERS, json.dumps({**plain, "format": 1}, sort_keys=True, indent=1, allow_nan=False) + "\n")
        files.write_text(out / PAGE, page(plain))
        write(f"\nPage: {out / PAGE}")


def text(found: dict[str, Any]) -> list[str]:
    """The comparison as lines."""
    runs = found["runs"]
    lines = ["Runs"]
    about = [[run["label"], run["date"], f"{len(run['seeds'] or [0])}", f"{run['test_problems'] or ABSENT}"] for run in runs]
    lines += _table(["run", "report made", "seeds", "test problems"], about)
    lines += [
        "",
        "Models (accuracy with its interval; points above the teacher; share of the gap base → ceiling; per seed, training)",
    ]
    lines += _table(
        ["model", "run", "parameters", "accuracy", "interval", "vs teacher", "interval", "RGR", "tokens", "FLOPs"],
        [
            [model["name"] if first else "", run["label"], *_cells(cell)]
            for model in found["models"]
            for first, run, cell in _present(model["cells"], runs)
        ],
    )
    if len(runs) > 1:
        lines += ["", *_tested(found), "", *_differences(found)]
    lines += ["", *_trend(found)]
    return lines


def page(found: dict[str, Any]) -> str:
    """The comparison as one HTML file: no script, nothing fetched."""
    models = [
        {
            "name": model["name"],
            "rows": [{"run": run["label"], **cell} for _, run, cell in _present(model["cells"], found["runs"])],
        }
        for model in found["models"]
    ]
    return template.rendered(
        "compare.html.j2", found=found, models=models, metric=METRICS[found["metric"]], chart=_chart(found), caveat=CAVEAT
    )


def _present(cells: Sequence[Any], runs: Sequence[Any]) -> list[tuple[bool, Any, Any]]:
    """Of the runs that have a model: whether it is the first, the run, the cell."""
    having = [(run, cell) for run, cell in zip(runs, cells) if cell is not None]
    return [(number == 0, run, cell) for number, (run, cell) in enumerate(having)]


def _cells(cell: dict[str, Any]) -> list[str]:
    accuracy, growth, gap = cell["accuracy"], cell["vs_teacher"], cell["rgr"]
    return [
        wording.quantity(cell["parameters"]),
        wording.percent((accuracy or {}).get("value")),
        wording.percent_range(accuracy),
        wording.points((growth or {}).get("difference")),
        wording.points_range(growth),
        wording.percent((gap or {}).get("value"), 0),
        wording.quantity(cell["tokens"]),
        wording.quantity(cell["flops"]),
    ]


def _tested(found: dict[str, Any]) -> list[str]:
    """The paired tests, and why there is none where there is none."""
    lines = ["Paired tests (the first run named minus the second; p not corrected for the number of tests)"]
    rows = []
    for test in found["tests"]:
        said = test["difference"]
        exact = said["mcnemar_p"] is not None
        only = [wording.count(said["only_left"]), wording.count(said["only_right"])]
        p = wording.p_value(said["mcnemar_p"] if exact else said["permutation_p"]) + (
            " exact McNemar" if exact else " permutation"
        )
        interval = [wording.points(said["difference"]), wording.points_range(said)]
        rows.append(
            [
                test["model"],
                f"{test['run']} − {test['against']}",
                wording.count(test["problems"]),
                *interval,
                *only,
                p,
                test["how"],
            ]
        )
    header = ["model", "runs", "problems", "points", "interval", "only first right", "only second", "p", "seeds"]
    lines += [*_table(header, rows), f"  {CAVEAT}"] if rows else []
    reasons = sorted({reason.rpartition(": ")[2] for reason in found["untested"]})
    if found["untested"]:
        count = len(found["untested"])
        lines.append(f"  {count} pair{'s' if count > 1 else ''} of models cannot be tested: {', '.join(reasons)}")
    elif not rows:
        lines.append("  none: the runs have no model of the same name")
    return lines


def _differences(found: dict[str, Any]) -> list[str]:
    labels = [run["label"] for run in found["runs"]]
    lines = ["Settings that differ"]
    rows = [[row["path"], *row["values"]] for row in found["settings"]]
    lines += _table(["setting", *labels], rows) if rows else ["  none"]
    if found["settings_left_out"]:
        lines.append(f"  … {found['settings_left_out']} more")
    lines += ["", "Versions, devices and data that differ"]
    rows = [[row["what"], *row["values"]] for row in found["environment"]]
    return lines + (_table(["what", *labels], rows) if rows else ["  none"])


def _trend(found: dict[str, Any]) -> list[str]:
    """One line per run in the order of dates, with a bar."""
    if found["model"] is None:
        return ["No model to follow: no run has a student"]
    signed = found["metric"] == "vs_teacher"
    shown = wording.points if signed else wording.percent
    values = [row["value"] for row in found["trend"] if row["value"] is not None]
    low, high = min([0.0, *values]), max([0.0 if signed else 1.0, *values])
    rows = []
    for row in found["trend"]:
        interval = (wording.points_range if signed else wording.percent_range)(row)
        bar = "" if row["value"] is None else _bar(row["value"], low, high)
        value = row["absent"] if row["value"] is None else shown(row["value"])
        rows.append([row["run"], row["date"], value, interval, wording.points(row["delta"]), bar])
    title = f"{METRICS[found['metric']].capitalize()} of {hostile.one_line(found['model'])}, by date of the report"
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


def _chart(found: dict[str, Any]) -> Chart | None:
    known = [row for row in found["trend"] if row["value"] is not None]
    if not known:
        return None
    signed = found["metric"] == "vs_teacher"
    shown = wording.points if signed else wording.percent
    marks: list[Mark] = []
    day = None
    for row in found["trend"]:
        if row["date"][:10] != day:
            day = row["date"][:10]
            marks.append(Mark(day))
        value, low, high = (None if row[key] is None else 100 * row[key] for key in ("value", "low", "high"))
        if value is None:
            marks.append(Mark(row["run"], absent=row["absent"]))
        else:
            marks.append(Mark(row["run"], value, low, high, "correct", shown(row["value"])))
    said = "; ".join(f"{row['date'][:10]}, {row['run']} {shown(row['value'])}" for row in known)
    name = METRICS[found["metric"]]
    alt = f"{name.capitalize()} of {found['model']}, run by run with intervals. {said}."
    return charts.ranges("trend", marks, f"{name}{'' if signed else ', %'}", alt, zero=(0.0,) if signed else (), signed=signed)
