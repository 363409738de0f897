"""What was seen while models trained and when their reasoning was tampered with: the probe's curves, early answers, mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import charts, wording
from w2sr_jax.report.drawing import Chart

Row = dict[str, Any]
Lines = dict[str, list[list[tuple[float, float]]]]

MOST_PANELS = 6


def probed(models: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Each probed model at its first and its last step, means over seeds."""
    rows = []
    for model in models:
        points = [point for point in model["probe"] if point.get("step") is not None]
        if not points:
            continue
        steps = sorted({point["step"] for point in points})
        first, last = ([point for point in points if point["step"] == step] for step in (steps[0], steps[-1]))
        rows.append(
            {
                **model,
                "first_step": steps[0],
                "last_step": steps[-1],
                "looks": len(steps),
                "accuracy_first": _mean(first, "accuracy"),
                "accuracy_last": _mean(last, "accuracy"),
                "induced_first": _mean(first, "induced"),
                "induced_last": _mean(last, "induced"),
                "n": points[0].get("n"),
                "n_induced": points[0].get("n_induced"),
            }
        )
    return rows


def _mean(points: Sequence[Mapping[str, Any]], measure: str) -> float | None:
    known = [point[measure] for point in points if point.get(measure) is not None]
    return sum(known) / len(known) if known else None


def probe_chart(models: Sequence[Mapping[str, Any]]) -> Chart | None:
    """Accuracy and the rate of induced errors by step: a panel of each per rung, a line per seed."""
    panels: dict[str, Lines] = {}
    for model in models:
        for measure, title in (("accuracy", "accuracy"), ("induced", "induced errors")):
            seeds: dict[Any, list[tuple[float, float]]] = {}
            for point in model["probe"]:
                if point.get(measure) is not None and point.get("step") is not None:
                    seeds.setdefault(point.get("seed"), []).append((point["step"], 100 * point[measure]))
            if seeds:
                panels.setdefault(f"{model['group']}, {title}", {})[model["kind"]] = [sorted(line) for line in seeds.values()]
    if not panels:
        return None
    shown = list(panels.items())[:MOST_PANELS]
    said = "; ".join(
        f"{title}: {', '.join(f'{wording.arm(kind)} ends at {lines[0][-1][1]:.1f}' for kind, lines in entries.items())}"
        for title, entries in shown
    )
    alt = f"Accuracy on the probe problems, and errors induced by the teacher, in percent by training step. {said}."
    return charts.curves("probe", shown, "%", alt, legend="best")


def questioned(models: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The models whose reasoning was cut short or tampered with."""
    return [
        {**model, "early": found.get("early_answering") or {}, "mistakes": found.get("mistakes") or {}}
        for model in models
        if (found := model["faithfulness"])
    ]


def early_chart(models: Sequence[Mapping[str, Any]]) -> Chart | None:
    """How often the answer is already the final one when only a part of the chain is given: a panel per rung."""
    panels: dict[str, Lines] = {}
    said = []
    for model in models:
        curve = (model["faithfulness"] or {}).get("early_answering") or {}
        line = sorted((100 * p["fraction"], 100 * p["same"]) for p in curve.get("curve") or [] if p.get("same") is not None)
        if line:
            name = model["label"] if model["rung"] is None else model["kind"]
            panels.setdefault(model["group"], {})[name] = [line]
            points = ", ".join(f"{y:.0f} at {x:.0f}" for x, y in line)
            said.append(f"{model['group']}, {model['label']}: {points}")
    if not panels:
        return None
    alt = f"Share of answers that are already the final one, in percent, by the share of the chain given. {'; '.join(said)}."
    shown = list(panels.items())[:MOST_PANELS]
    return charts.curves("early", shown, "same answer, %", alt, "share of the chain given, %", "lower right", 100)
