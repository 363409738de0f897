"""Turns the measurements in docs/benchmarks into docs/performance.md. Measures nothing.

    python tools/bench/report.py

A file `docs/benchmarks/SUBJECT.md`, where there is one, is put below the subject's table: remarks by whoever has looked at the
figures.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import compare
import harness
import tyro

ORDER = ("training", "reference", "sampling", "policy", "loss_memory", "startup", "saving", "data", "limits")

INTRODUCTION = """# Performance

Made by `python tools/bench/report.py` from the measurements in `{folder}`, which `python tools/bench/run.py` makes (the peers
are installed by `pip install -r tools/bench/requirements.txt`). Every figure is the median of fresh processes on one core, the
variants in turn, round by round, with the lowest and the highest in brackets. A ratio is that of the medians; beside it are the
lowest and highest ratio within a round. Ratios of rates are in favour of w2sr_jax above 1, those of times and memory below 1.
"""


@dataclass(frozen=True)
class Report:
    """Where measurements are and where the page goes."""

    folder: Path = harness.RESULTS
    """Folder of the JSON files."""
    out: Path = harness.ROOT / "docs" / "performance.md"
    """The page."""


def page(folder: Path) -> str:
    """The page made of all measurements in a folder."""
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise SystemExit(f"{folder} holds no measurements; make them with `python tools/bench/run.py`")
    found.sort(key=lambda one: (ORDER.index(one["subject"]) if one["subject"] in ORDER else len(ORDER), one["subject"]))
    limits = compare.limits(folder)
    shown = f"{folder.relative_to(harness.ROOT)}" if folder.is_relative_to(harness.ROOT) else folder.name
    parts = [INTRODUCTION.format(folder=shown), *_targets(found)]
    for one in found:
        parts += _section(one, limits, folder / f"{one['subject']}.md")
    return "\n".join(parts).rstrip() + "\n"


def main(report: Report) -> None:
    report.out.parent.mkdir(parents=True, exist_ok=True)
    report.out.write_text(page(report.folder))
    print(report.out)


def _read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_text())
    if not isinstance(found, dict) or found.get("schema") != harness.SCHEMA:
        raise SystemExit(f"{path} is not a measurement of this version (its schema is not {harness.SCHEMA})")
    return found


def _targets(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The lines that have a target, on one table."""
    rows = []
    for one in found:
        for line in one["lines"]:
            if line["target"] is None:
                continue
            result = compare.compare(one, line)
            sign = "≥" if line["better"] == "higher" else "≤"
            times = "×" if line["peers"] else f" {line['unit']}"
            value = None if result is None else result.get("ratio", result["ours"]["median"])
            reached = "not measured" if value is None else f"{value:.2f}{times}"
            verdict = {True: "yes", False: "**no**", None: ""}[None if result is None else result["reached"]]
            against = ", ".join(line["peers"]) if result is None else result.get("peer_name", "")
            rows.append(
                f"| {one['title']} | {line['name']} | {against} | {sign} {line['target']:g}{times} | {reached} | {verdict} |"
            )
    head = ["| | job | against | target | measured | reached |", "| --- | --- | --- | ---: | ---: | --- |"]
    return ["## Targets", "", *head, *rows, ""] if rows else []


def _section(one: Mapping[str, Any], limits: Mapping[str, float], remarks: Path) -> list[str]:
    parts = [f"## {one['title']}", ""]
    for paragraph in one["about"]:
        parts += [paragraph, ""]
    parts += [*compare.table(one, limits), ""]
    failed = {run["variant"]: run["error"].strip().splitlines()[-1] for run in one["runs"] if run["error"]}
    parts += [f"{variant} failed: {error[:200]}\n" for variant, error in failed.items()]
    if remarks.exists():
        parts += [remarks.read_text().strip(), ""]
    return [*parts, _where(one), ""]


def _where(one: Mapping[str, Any]) -> str:
    machine, settings = one["machine"], one["settings"]
    described = (
        f"{machine['processor']} ({machine['family']}; {', '.join(machine['instructions'])})" if machine.get("family") else ""
    )
    device = machine.get("accelerator")
    parts = [
        f"Measured on {one['date']}",
        f"{settings['rounds']} {'round' if settings['rounds'] == 1 else 'rounds'}",
        "a quick look with tiny sizes" if settings.get("quick") else "",
        str(device) if device else "",
        described or machine["processor"],
        f"{settings.get('cores_used', machine['cores'])} of {machine['cores']} cores",
        f"{machine['memory_gib']} GiB",
        machine["system"],
        f"Python {machine['python']}",
        *(f"{name} {version}" for name, version in one["versions"].items()),
    ]
    return "; ".join(part for part in parts if part) + "."


if __name__ == "__main__":
    main(tyro.cli(Report, description=__doc__))
