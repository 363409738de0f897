"""What qualifies the headline: how much of the gap each student recovered, what its base and its texts were worth, and of how
many seeds and problems all of it speaks. Every note states the number it rests on."""

from collections.abc import Mapping
from typing import Any

from w2sr_jax.report import hostile, on_file, rule, wording
from w2sr_jax.report.verdict import confidence, model_title

FEW_SEEDS = 10
SMALL_TEST = 200
LONGEST_REASON = 400
SMALL_GAP = 0.02  # a share of fewer points than two says nothing to a reader


def notes(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The notes on `results.json` (schema.Results): what was skipped, then rung by rung, then on the run."""
    rungs = rule.ordered(results)
    found: list[str] = []
    for rung in rungs:
        if rule.headline_arm(rung) is not None:
            whose = f"“{hostile.one_line(rung.get('name'), 40)}” " if len(rungs) > 1 else "It "
            found += [f"{whose}{said}" for said in (recovery(rung), *_base_notes(rung)) if said]
            found += _trace_notes(results, rung)
    qualified = (*found, *on_file.notes(results), *_run_notes(results)) if found else ()
    return (*skipped(results), *qualified)


def skipped(results: Mapping[str, Any]) -> tuple[str, ...]:
    """The models that the run has skipped: those without anything to learn from, and those that needed them."""
    said = []
    several = len(results.get("seeds") or []) > 1
    entries = results.get("skipped") or []
    for entry in (entry for entry in entries if entry.get("model") == entry.get("origin")):
        name, why = hostile.one_line(entry["model"]), hostile.one_line(entry.get("reason") or "", LONGEST_REASON)
        where = f" with seed {wording.listing([str(seed) for seed in entry.get('seeds') or []])}" if several else ""
        said.append(f"“{name}” was skipped{where} and is in no number here: {why}.")
        needing = [
            f"“{hostile.one_line(other['model'])}”"
            for other in entries
            if other.get("origin") == entry["model"] != other["model"]
        ]
        if needing:
            said.append(f"Skipped with it, since they need “{name}”: {wording.listing(needing)}.")
    return tuple(said)


def recovery(rung: Mapping[str, Any]) -> str:
    """What share of the gap from its base to the ceiling the student that speaks for a rung recovered, as the rest of a sentence
    about it; empty where that is not known."""
    comparison = rule.headline_comparison(rung)
    gap = comparison.get("rgr_base")
    if not gap:
        return ""
    ceiling = hostile.one_line(comparison.get("ceiling") or "gold SFT")
    raw = gap.get("raw") or {}
    base, top = wording.percent(raw.get("anchor")), wording.percent(raw.get("ceiling"))
    if gap.get("suppressed") or gap.get("value") is None:
        below = gap.get("suppressed") == "ceiling below anchor"
        why = "lies below" if below else "cannot be told apart from"
        return f"is given no share of the gap recovered, because {ceiling} ({top}) {why} its own base ({base})."
    if raw.get("ceiling") is not None and raw.get("anchor") is not None and raw["ceiling"] - raw["anchor"] < SMALL_GAP:
        return f"had too little to recover between its own base ({base}) and {ceiling} ({top}) for a share to mean anything."
    value, low, high = gap["value"], gap.get("low"), gap.get("high")
    path = f"the gap between its own base ({base}) and {ceiling} ({top})"
    share = f"{wording.percent(value, 0)} ({confidence(comparison)} interval {wording.percent_range(gap, 0)}{_of(comparison)})"
    if low is not None and low > 1:
        return f"recovered more than all of {path}: {share}."
    if low is not None and low > 0:
        return f"recovered {share} of {path}."
    if high is not None and high < 0:
        return f"recovered nothing of {path}, but fell below its base: {share}."
    return f"cannot be said to have recovered any of {path}: {share}."


def _of(comparison: Mapping[str, Any]) -> str:
    n = rule.problems(comparison)
    return "" if n is None else f", n = {wording.count(n)}"


def _base_notes(rung: Mapping[str, Any]) -> list[str]:
    """What would make outgrowing the teacher say less than it seems to."""
    comparison = rule.headline_comparison(rung)
    teacher, base = comparison.get("vs_teacher"), comparison.get("vs_base")
    if not base or base.get("right") is None:
        return []
    n = f"n = {wording.count(base.get('n'))}"
    found = []
    if teacher and teacher.get("right") is not None and base["right"] >= teacher["right"]:
        scores = f"{wording.percent(base['right'])} against {wording.percent(teacher['right'])}, {n}"
        found.append(f"was already no worse than its teacher before fine-tuning ({scores}).")
    if rule.outcome(base) in ("no", "not shown"):
        how = "fell below" if rule.outcome(base) == "no" else "is not clearly above"
        found.append(f"{how} its own base ({wording.points(base['difference'])} points, {wording.points_range(base)}, {n}).")
    return found


def _trace_notes(results: Mapping[str, Any], rung: Mapping[str, Any]) -> list[str]:
    """How good the texts were that it learned from."""
    made = zip(rung.get("teachers") or [], rung.get("traces") or [], strict=False)
    known = [(name, traces) for name, traces in made if traces and traces.get("accuracy") is not None]
    said = [f"“{model_title(results, name)}” {wording.percent(traces['accuracy'])}{_graded(traces)}" for name, traces in known]
    return [f"Right among the sampled traces that it could learn from: {wording.listing(said)}."] if said else []


def _graded(traces: Mapping[str, Any]) -> str:
    graded = traces.get("graded")
    return "" if graded is None else f" of {wording.count(graded)}"


def _run_notes(results: Mapping[str, Any]) -> list[str]:
    seeds, problems = results.get("seeds") or [], results.get("test_problems")
    found = []
    if len(seeds) == 1:
        found.append(
            "One seed: the intervals cover the choice of test problems, not chance in training; another seed may differ."
        )
    elif 1 < len(seeds) < FEW_SEEDS:
        found.append(f"{len(seeds)} seeds are few: the intervals cover chance in training only roughly.")
    if isinstance(problems, int) and problems < SMALL_TEST:
        found.append(f"Only {problems} test problems: intervals are wide.")
    return found
