"""Measured results of a model, for its card: from evaluations and report of its run."""

from collections.abc import Mapping
from typing import Any

from w2sr_jax.convert.exportable import OfRun, all_models
from w2sr_jax.convert.markdown import Raw, plain
from w2sr_jax.core import files
from w2sr_jax.graph.store import RunStore
from w2sr_jax.report import wording
from w2sr_jax.report.write import RESULTS
from w2sr_jax.stages import layout, models


def results(part: OfRun) -> dict[str, Any]:
    """Measured results of the model and of those it is held against, as far as evaluations and report are finished."""
    rows = []
    for name in _compared(part):
        scores = _measured(part.run, name, layout.SCORES)
        if scores:
            accuracy = scores["accuracy"]
            rows.append(
                {
                    "name": name,
                    "value": Raw(wording.percent(accuracy["value"])),
                    "range": Raw(wording.percent_range(accuracy)),
                    "n": Raw(wording.count(accuracy["n"])),
                    "unparsed": Raw(wording.percent((scores.get("unparsed") or {}).get("value"))),
                    "truncated": Raw(wording.percent(((scores.get("process") or {}).get("truncation") or {}).get("value"))),
                    "own": name == part.model.name,
                }
            )
    own = _measured(part.run, part.model.name, layout.SCORES) or {}
    held = _measured(part.run, part.model.name, layout.HELD_OUT) or {}
    return {
        "scores": rows,
        "confidence": Raw(wording.percent(own.get("confidence", 0.95), 0)),
        "more": [_line(name, entry) for name in ("avg_at_k", "pass_at_k", "maj_at_k") for entry in _entries(own.get(name))],
        "held_out": {key: Raw(wording.decimal(held[key], 3)) for key in ("nll", "unigram")}
        if held.get("nll") is not None
        else None,
        "compared": _comparison(part),
        "generated": part.experiment.problems.is_endless() and part.experiment.test_problems is None,
    }


def _compared(part: OfRun) -> list[str]:
    """Names of the model, then of teachers and the other models of its rung."""
    model, experiment = part.model, part.experiment
    if model.rung is None:
        return [model.name]
    names = [model.name]
    for teacher in experiment.teachers_of(model.rung):
        writer = models.writer(experiment, model.rung, teacher)
        names += [writer.name] if writer is not None else [teacher.name] if teacher.is_file else []
    return names + [other.name for other in all_models(experiment) if other.rung == model.rung and other.name != model.name]


def _comparison(part: OfRun) -> list[tuple[Raw, Raw]]:
    """The report's paired differences and shares of gaps recovered, each with its interval."""
    found = written(part.run, f"report/{RESULTS}") if part.model.rung is not None else None
    if not found:
        return []
    rung: Mapping[str, Any] = next((each for each in found.get("rungs") or [] if each.get("index") == part.model.rung), {})
    entry: Mapping[str, Any] = (rung.get("comparisons") or {}).get(part.model.arm) or {}
    lines = []
    for key, words in (("vs_teacher", "teacher"), ("vs_base", "base"), ("vs_ceiling", "ceiling (gold SFT)")):
        pair = entry.get(key)
        if pair:
            value = f"{wording.points(pair['difference'])} points ({wording.points_range(pair)}), n = {wording.count(pair['n'])}"
            lines.append((Raw(f"difference to the {words}"), Raw(value)))
    for key, words in (("rgr_base", "RGR, of the gap from base to ceiling"), ("pgr", "PGR, of the gap from teacher to ceiling")):
        gap = entry.get(key)
        if gap:
            known = gap.get("value") is not None
            share = f"{wording.percent(gap['value'], 0)} ({wording.percent_range(gap, 0)})" if known else ""
            lacking = plain(gap.get("suppressed") or "not measured")
            lines.append((Raw(f"gap recovered ({words})"), Raw(share or f"not given: {lacking}")))
    return lines


def _entries(found: Any) -> list[Mapping[str, Any]]:
    return [] if not found else list(found) if isinstance(found, list) else [found]


def _line(name: str, entry: Mapping[str, Any]) -> tuple[Raw, Raw]:
    value = f"{wording.percent(entry['value'])} ({wording.percent_range(entry)}), n = {wording.count(entry['n'])}"
    return Raw(name.replace("_at_k", f"@{plain(entry['k'])}")), Raw(value)


def _measured(run: RunStore, name: str, file: str) -> dict[str, Any] | None:
    return written(run, f"evaluations/{name}/{file}")


def written(run: RunStore, name: str) -> dict[str, Any] | None:
    """A JSON object of the run; None where its stage has not finished. `UserError` where the file is not what the stage wrote."""
    path = run.optional(name)
    found = files.read_json(path) if path else None
    return found if isinstance(found, dict) else None
