"""Which rows go into which chart, and what each chart says in words."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from w2sr_jax.report import charts, wording
from w2sr_jax.report.charts import Chart, Mark

MOST_POINTS = 160
MOST_PANELS = 6


def accuracy(models: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Greedy accuracy of every model with its interval, rung by rung; the teacher's accuracy as a dashed line."""
    scored = [row for row in models if row["accuracy"] and row["accuracy"].get("value") is not None]
    if not scored:
        return None

    def mark(row: Mapping[str, Any]) -> Mark:
        text = wording.percent(row["accuracy"]["value"])
        return Mark(row["label"], *_interval(row["accuracy"]), row["kind"], text, reference=_percent(row["reference"]))

    rows = _grouped(scored, mark)
    said = "; ".join(f"{row['group']}, {row['label']} {wording.percent(row['accuracy']['value'])}" for row in scored)
    most = max(mark.high or mark.value or 0 for mark in rows)
    limits = (0.0, min(100.0, most * 1.08) if most else 100.0)
    return charts.ranges("accuracy", rows, "greedy accuracy, %", f"Greedy accuracy by model, with intervals. {said}.", limits)


def growth(compared: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Student minus teacher, per rung and arm."""
    known = [row for row in compared if row["vs_teacher"]]
    if not known:
        return None

    def mark(row: Mapping[str, Any]) -> Mark:
        found = row["vs_teacher"]
        return Mark(row["label"], *_interval(found, "difference"), row["arm"], wording.points(found["difference"]))

    said = "; ".join(f"{row['group']}, {row['label']} {wording.points(row['vs_teacher']['difference'])} points" for row in known)
    alt = f"Student minus teacher in percentage points, with intervals. {said}."
    return charts.ranges("growth", _grouped(known, mark), "points above the teacher", alt, zero=(0.0,), signed=True)


def gap(compared: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Share of the gap from base to ceiling recovered, per rung and arm."""
    known = [row for row in compared if row["rgr"]]
    if not known:
        return None

    def mark(row: Mapping[str, Any]) -> Mark:
        found = row["rgr"]
        if found.get("value") is None:
            return Mark(row["label"], absent=f"not given: {found.get('suppressed') or 'not known'}")
        return Mark(row["label"], *_interval(found), row["arm"], wording.percent(found["value"], 0))

    rows = _grouped(known, mark)
    values = [v for mark in rows for v in (mark.low, mark.high, mark.value) if v is not None]
    limits = (max(-60.0, min([0.0, *values]) - 6), min(170.0, max([100.0, *values]) + 6))
    said = "; ".join(f"{row['group']}, {row['label']} {wording.percent(row['rgr'].get('value'), 0)}" for row in known)
    alt = f"Share of the gap from base to ceiling recovered, with intervals. {said}."
    return charts.ranges("gap", rows, "share of the gap base → ceiling, %", alt, limits, zero=(0.0, 100.0))


def _grouped(rows: Sequence[Mapping[str, Any]], mark: Callable[[Mapping[str, Any]], Mark]) -> list[Mark]:
    """The rows' marks, each group under its heading."""
    found, group = [], None
    for row in rows:
        if row["group"] != group:
            group = row["group"]
            found.append(Mark(str(group)))
        found.append(mark(row))
    return found


def training(models: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Training loss of each arm, one panel per rung; teachers and bases in a panel of their own."""
    panels: dict[str, dict[str, list[list[tuple[float, float]]]]] = {}
    for row in models:
        lines = _lines(row["curve"])
        if lines:
            before = row["rung"] is None or row["kind"].startswith("base")
            name = row["label"] if row["rung"] is None else f"base, {row['group'].lower()}" if before else row["kind"]
            panels.setdefault("Before the ladder" if before else row["group"], {})[name] = lines
    if not panels:
        return None
    shown = sorted(panels.items(), key=lambda panel: (panel[0] == "Before the ladder", panel[0]))[:MOST_PANELS]
    said = "; ".join(
        f"{title}: {', '.join(f'{wording.arm(name)} ends at {lines[0][-1][1]:.2f}' for name, lines in entries.items())}"
        for title, entries in shown
    )
    return charts.curves("training", shown, "NLL, nats per token", f"Training curves, negative log-likelihood by step. {said}.")


def _lines(curve: Sequence[Mapping[str, Any]]) -> list[list[tuple[float, float]]]:
    """One line per seed, thinned to a readable number of points, first and last kept."""
    seeds: dict[Any, list[tuple[float, float]]] = {}
    for point in curve:
        value = point.get("nll", point.get("loss"))
        if value is not None and point.get("step") is not None:
            seeds.setdefault(point.get("seed"), []).append((point["step"], value))
    lines = []
    for line in seeds.values():
        stride = -(-len(line) // MOST_POINTS)
        lines.append([*line[:-1:stride], line[-1]])
    return lines


def _interval(found: Mapping[str, Any], value: str = "value") -> tuple[float | None, float | None, float | None]:
    return _percent(found[value]), _percent(found.get("low")), _percent(found.get("high"))


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
