"""What the run cost: stages, their sums by kind, and where a clock was read, their times."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def costs(stages: Sequence[Mapping[str, Any]], timings: Mapping[str, Any] | None) -> Row:
    """Stages, and their sums by kind. Times come from `timings` (schema_evidence.Timings) by the stages' names."""
    times = (timings or {}).get("stages") or {}
    timed = [{**stage, **_time(times.get(str(stage.get("name"))) or {})} for stage in stages]
    kinds: dict[str, list[Row]] = {}
    for stage in timed:
        kinds.setdefault(str(stage.get("kind") or stage.get("name")), []).append(stage)
    sums = [{"name": name, "count": len(group), **_sums(group)} for name, group in kinds.items()]
    total = _sums(timed)
    for entry in sums:
        entry["width"] = round(100 * (entry["seconds"] or 0) / total["seconds"], 2) if total["seconds"] else 0.0
    known = {"timed": total["seconds"] is not None, "paid": total["cost"] is not None}
    return {"kinds": sums, "stages": timed, "total": total, **known}


def _time(found: Mapping[str, Any]) -> Row:
    finished = found.get("finished")
    return {"seconds": found.get("seconds"), "finished": None if finished is None else str(finished)[:19].replace("T", " ")}


def _sums(stages: Sequence[Mapping[str, Any]]) -> Row:
    found: Row = {}
    for measure in ("seconds", "tokens", "flops", "cost"):
        known = [stage[measure] for stage in stages if stage.get(measure) is not None]
        found[measure] = sum(known) if known else None
    return found
