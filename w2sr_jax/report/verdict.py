"""The run's outcome in two sentences: did the student outgrow its teacher, and how much of the gap to gold did it recover.

Which student speaks is fixed beforehand, never chosen by its score: the last rung's, and there W2SR-P, else W2SR, else whatever
arm there is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from w2sr_jax.report import hostile, wording

Tone = Literal["yes", "no", "unclear", "missing"]
PREFERRED = ("correct", "majority", "all", "incorrect")
FEW_SEEDS = 10
SMALL_TEST = 200
SMALL_GAP = 0.02  # a share of fewer points than two says nothing to a reader


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Two sentences, `notes` that qualify them, and where they come from (`rung` index and `arm`; None without a student)."""

    tone: Tone
    growth: str
    recovery: str
    notes: tuple[str, ...]
    rung: int | None = None
    arm: str | None = None


def verdict(results: Mapping[str, Any]) -> Verdict:
    """The verdict of `results.json` (schema.Results)."""
    rungs = sorted(results.get("rungs") or [], key=lambda rung: rung.get("index", 0))
    if not rungs:
        return Verdict("missing", "No student has been trained yet, so there is nothing to compare with the teacher.", "", ())
    rung = rungs[-1]
    arm = headline_arm(rung)
    if arm is None:
        growth = f"The student “{hostile.one_line(rung.get('name'))}” has not been compared with its teacher."
        return Verdict("missing", growth, "What share of the gap it recovered is not known either.", (), rung.get("index"))
    comparison = (rung.get("comparisons") or {}).get(arm) or {}
    tone, growth = _growth(results, rung, arm, comparison)
    return Verdict(tone, growth, _recovery(rung, arm, comparison), _notes(results, rungs, arm), rung.get("index"), arm)


def headline_arm(rung: Mapping[str, Any]) -> str | None:
    """The arm that speaks for a rung."""
    present = [name for name in rung.get("comparisons") or {} if name not in ("gold", "base", "base-direct")]
    return min(present, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name), default=None)


def outcome(difference: Mapping[str, Any] | None) -> Tone:
    """What a difference's interval says: above 0, below 0, or neither."""
    if not difference or difference.get("low") is None or difference.get("high") is None:
        return "missing"
    return "yes" if difference["low"] > 0 else "no" if difference["high"] < 0 else "unclear"


def _growth(results: Mapping[str, Any], rung: Mapping[str, Any], arm: str, comparison: Mapping[str, Any]) -> tuple[Tone, str]:
    student = f"the student “{hostile.one_line(rung.get('name'))}” ({wording.arm(arm)})"
    teacher = teacher_name(rung, comparison)
    its = "its best teacher" if len(rung.get("teachers") or []) > 1 else "its teacher"
    against = f"{its} “{model_title(results, teacher)}”" if teacher else its
    difference = comparison.get("vs_teacher")
    tone = outcome(difference)
    if difference is None or tone == "missing":
        return (
            "missing",
            f"Whether {student} outgrew {against} cannot be said: the teacher did not sit the same test.",
        )
    where = _where(results, difference)
    scores = (
        f"answering {wording.percent(difference.get('left'))} right against {wording.percent(difference.get('right'))} {where}"
    )
    size = f"{wording.points(difference['difference'])} points"
    bounds = f"{_confidence(comparison)} interval {wording.points_range(difference)}"
    if tone == "yes":
        return tone, f"Yes: {student} outgrew {against}, {scores}: {size} ({bounds})."
    if tone == "no":
        return tone, f"No: {student} stayed below {against}, {scores}: {size} ({bounds})."
    return tone, f"Not shown: {student} cannot be told apart from {against}, {scores}: {size} ({bounds}, which includes 0)."


def _recovery(rung: Mapping[str, Any], arm: str, comparison: Mapping[str, Any]) -> str:
    gap = comparison.get("rgr_base")
    ceiling = hostile.one_line(comparison.get("ceiling") or "gold SFT")
    if not gap:
        return f"What share of the gap to {ceiling} it recovered is not known: base or {ceiling} was not evaluated."
    raw = gap.get("raw") or {}
    base, top = wording.percent(raw.get("anchor")), wording.percent(raw.get("ceiling"))
    if gap.get("suppressed") or gap.get("value") is None:
        below = gap.get("suppressed") == "ceiling below anchor"
        why = "lies below" if below else "cannot be told apart from"
        return f"No share of the gap is given, because {ceiling} ({top}) {why} its own base ({base})."
    if raw.get("ceiling") is not None and raw.get("anchor") is not None and raw["ceiling"] - raw["anchor"] < SMALL_GAP:
        return f"Between its own base ({base}) and {ceiling} ({top}) there is too little to recover for a share to mean anything."
    value, low, high = gap["value"], gap.get("low"), gap.get("high")
    path = f"the gap between its own base ({base}) and {ceiling} ({top})"
    share = f"{wording.percent(value, 0)} ({_confidence(comparison)} interval {wording.percent_range(gap, 0)})"
    if low is not None and low > 1:
        return f"It recovered more than all of {path}: {share}."
    if low is not None and low > 0:
        return f"It recovered {share} of {path}."
    if high is not None and high < 0:
        return f"It recovered nothing of {path}, but fell below its base: {share}."
    return f"It cannot be said to have recovered any of {path}: {share}."


def model_title(results: Mapping[str, Any], name: str | None) -> str:
    """A model's name as readers know it: a lower rung's student as `small, W2SR-P`, others as they are called."""
    model = (results.get("models") or {}).get(name or "") or {}
    rung = next((rung for rung in results.get("rungs") or [] if rung.get("index") == model.get("rung")), None)
    if model.get("role") in ("student", "gold", "base") and rung is not None:
        return f"{hostile.one_line(rung.get('name'), 30)}, {wording.arm(model.get('arm'))}"
    return hostile.one_line(name or wording.MISSING)


def teacher_name(rung: Mapping[str, Any], comparison: Mapping[str, Any]) -> str | None:
    """The teacher a comparison is against: the one it names, or the rung's only one."""
    teachers = rung.get("teachers") or []
    named = comparison.get("teacher")
    return str(named) if named else str(teachers[0]) if len(teachers) == 1 else None


def _where(results: Mapping[str, Any], difference: Mapping[str, Any]) -> str:
    seeds = difference.get("by_seed") or []
    problems = f"on {wording.count(difference.get('n') or results.get('test_problems'))} test problems"
    if not seeds:
        return problems
    above = sum(outcome(seed) == "yes" for seed in seeds)
    return f"{problems}, {len(seeds)} seeds pooled (clearly ahead in {above} of {len(seeds)})"


def _confidence(comparison: Mapping[str, Any]) -> str:
    level = comparison.get("confidence")
    return f"{100 * (0.95 if level is None else level):g}{wording.THIN}%"


def _notes(results: Mapping[str, Any], rungs: list[Mapping[str, Any]], arm: str) -> tuple[str, ...]:
    notes = [*_lower_rungs(rungs[:-1]), *_base_notes((rungs[-1].get("comparisons") or {}).get(arm) or {})]
    notes.append(f"The verdict is read from the last rung’s {wording.arm(arm)} student: a fixed rule, not the best score.")
    notes += _trace_notes(results, rungs[-1])
    seeds = results.get("seeds") or []
    if len(seeds) == 1:
        notes.append(
            "One seed: the interval covers the choice of test problems, not chance in training; another seed may differ."
        )
    elif 1 < len(seeds) < FEW_SEEDS:
        notes.append(f"{len(seeds)} seeds are few: the intervals cover chance in training only roughly.")
    problems = results.get("test_problems")
    if isinstance(problems, int) and problems < SMALL_TEST:
        notes.append(f"Only {problems} test problems: intervals are wide.")
    return tuple(notes)


def _lower_rungs(rungs: list[Mapping[str, Any]]) -> list[str]:
    said = {"yes": "outgrew its teacher", "no": "stayed below its teacher", "unclear": "cannot be told apart from its teacher"}
    lower = []
    for rung in rungs:
        arm = headline_arm(rung)
        difference = ((rung.get("comparisons") or {}).get(arm or "") or {}).get("vs_teacher")
        tone = outcome(difference)
        if difference and tone in said:
            numbers = f"{wording.points(difference['difference'])} points, {wording.points_range(difference)}"
            lower.append(f"“{hostile.one_line(rung.get('name'))}” ({wording.arm(arm)}) {said[tone]} ({numbers})")
    return [f"Lower on the ladder, {wording.listing(lower)}."] if lower else []


def _base_notes(comparison: Mapping[str, Any]) -> list[str]:
    """What would make outgrowing the teacher say less than it seems to."""
    teacher, base = comparison.get("vs_teacher"), comparison.get("vs_base")
    if not base or base.get("right") is None:
        return []
    notes = []
    if teacher and teacher.get("right") is not None and base["right"] >= teacher["right"]:
        scores = f"{wording.percent(base['right'])} against {wording.percent(teacher['right'])}"
        notes.append(f"Before fine-tuning the student was already no worse than this teacher ({scores}).")
    if outcome(base) in ("no", "unclear"):
        how = "fell below" if outcome(base) == "no" else "is not clearly above"
        notes.append(f"It {how} its own base ({wording.points(base['difference'])} points, {wording.points_range(base)}).")
    return notes


def _trace_notes(results: Mapping[str, Any], rung: Mapping[str, Any]) -> list[str]:
    """How good the texts were that it learned from."""
    made = zip(rung.get("teachers") or [], rung.get("traces") or [], strict=False)
    known = [(name, traces["accuracy"]) for name, traces in made if traces and traces.get("accuracy") is not None]
    said = [f"“{model_title(results, name)}” {wording.percent(accuracy)}" for name, accuracy in known]
    return [f"Right among the sampled traces that it could learn from: {wording.listing(said)}."] if said else []
