"""What a file of measurements says: ratios of medians with their spread, percentages of the machine's limits, tables.

Reads the JSON that `harness` writes; needs no more than the standard library.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def limits(folder: Path) -> dict[str, float]:
    """The machine's limits as `limits.json` in a folder of results has them: name → the largest median of its variants."""
    path, best = folder / "limits.json", dict[str, float]()
    if path.exists():
        found = json.loads(path.read_text())
        for line in found["lines"]:
            taken = [value for _, value in readings(found, line, line["ours"])]
            if taken:
                best[line["metric"]] = max(best.get(line["metric"], 0.0), statistics.median(taken))
    return best


def readings(found: Mapping[str, Any], line: Mapping[str, Any], variant: str) -> list[tuple[int, float]]:
    """(round, value) of a line's metric, for one variant."""
    known = []
    for run in found["runs"]:
        value = run["found"].get(line["case"], {}).get(line["metric"]) if run["variant"] == variant else None
        if value:  # 0 means that it was not reached
            known.append((run["round"], float(value)))
    return known


def compare(found: Mapping[str, Any], line: Mapping[str, Any]) -> dict[str, Any] | None:
    """A line's numbers: `ours` and `peer` (median, low, high), who the best `peer_name` is, `ratio` of the medians, the median,
    lowest and highest ratio within a round, and whether the target is `reached`. None where one side has not been measured."""
    ours = dict(readings(found, line, line["ours"]))
    if not ours:
        return None
    result: dict[str, Any] = {"ours": _spread(list(ours.values()))}
    higher = line["better"] == "higher"
    target = line["target"]
    if not line["peers"]:
        value = result["ours"]["median"]
        result["reached"] = None if target is None else (value >= target if higher else value <= target)
        return result
    measured = {peer: dict(readings(found, line, peer)) for peer in line["peers"]}
    measured = {peer: values for peer, values in measured.items() if values}
    if not measured:
        return None
    best = (max if higher else min)(measured, key=lambda peer: statistics.median(measured[peer].values()))
    theirs = measured[best]
    ratio = result["ours"]["median"] / statistics.median(theirs.values())
    within = [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys())]
    reached = None if target is None else (ratio >= target if higher else ratio <= target)
    return {
        **result,
        "peer": _spread(list(theirs.values())),
        "peer_name": best,
        "ratio": ratio,
        "rounds": _spread(within) if within else None,
        "reached": reached,
    }


def table(found: Mapping[str, Any], limits: Mapping[str, float] | None = None) -> list[str]:
    """The lines of a result as a Markdown table. `limits`: name → the machine's measured limit, for percentages."""
    some = any(line["limit"] and (limits or {}).get(line["limit"]) for line in found["lines"])
    beside = any(line["peers"] for line in found["lines"])
    if not beside:
        rows = [["", "unit", "median (lowest–highest)"], ["---", "---", "---:"]]
        for line in found["lines"]:
            result = compare(found, line)
            rows.append([line["name"], line["unit"], _with_spread(result["ours"]) if result else "not measured"])
        return ["| " + " | ".join(row) + " |" for row in rows]
    heads = [
        "job",
        "unit",
        "w2sr_jax",
        "against",
        "peer",
        "ratio",
        "rounds",
        "target",
        "reached",
        *(["of limit"] if some else []),
    ]
    rows = [heads, ["---", "---", "---:", "---", "---:", "---:", "---:", "---:", "---", *(["---:"] if some else [])]]
    for line in found["lines"]:
        result = compare(found, line)
        if result is None:
            rows.append([line["name"], line["unit"], "not measured", *[""] * (len(heads) - 3)])
            continue
        ratio = "ratio" in result
        sign = "≥" if line["better"] == "higher" else "≤"
        target = "" if line["target"] is None else f"{sign} {line['target']:g}{'×' if ratio else ''}"
        row = [line["name"], line["unit"], _with_spread(result["ours"])]
        row += [result["peer_name"], _with_spread(result["peer"]), f"**{result['ratio']:.2f}×**"] if ratio else [""] * 3
        rounds = result.get("rounds")
        row.append(f"{rounds['low']:.2f}–{rounds['high']:.2f}" if rounds else "")
        row += [target, {True: "yes", False: "**no**", None: ""}[result["reached"]]]
        if some:
            limit = (limits or {}).get(line["limit"])
            row.append(f"{100 * result['ours']['median'] / limit:.0f} %" if line["limit"] and limit else "")
        rows.append(row)
    return ["| " + " | ".join(row) + " |" for row in rows]


def number(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)}


def _with_spread(spread: Mapping[str, float]) -> str:
    middle = number(spread["median"])
    return middle if spread["count"] == 1 else f"{middle} ({number(spread['low'])}–{number(spread['high'])})"
