"""Did each rung's student outgrow its teacher, and what is the answer to the question in the page's title?

The rule is the same for every run and knows no score: which student speaks for a rung, and how the rungs' answers become one, is
fixed before anything is measured.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from w2sr_jax.report.schema_verdict import Answer, RungVerdict, Verdict

PREFERRED = ("correct", "majority", "all", "incorrect")
UNLIKE_ARMS = ("gold", "base", "base-direct")

RULE = (
    "One student speaks for each rung, whatever its score: W2SR-P, else the majority arm, else W2SR, else W2SR-N; of several "
    "teachers it is held against the best. A rung’s answer is yes where the interval of the paired difference to the teacher "
    "lies above 0, no where it lies below 0, not shown where it includes 0, and unknown where teacher and student were not "
    "asked the same test problems. The answer to the question in the title is the one on which all rungs agree; where they "
    "differ, it is not shown. A yes for the whole ladder needs a yes on every rung: since each test must pass on its own, "
    "having several makes a false yes no more likely. A rehearsal’s answers are unknown."
)


def verdict(results: Mapping[str, Any]) -> Verdict:
    """The verdict of `results.json` (schema.Results) by the rule."""
    rungs = [_rung(results, rung) for rung in ordered(results)]
    return Verdict(overall=together(rung["verdict"] for rung in rungs), rungs=rungs, rule=RULE)


def ordered(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rungs from the first to the last."""
    return sorted(results.get("rungs") or [], key=lambda rung: rung.get("index", 0))


def together(answers: Iterable[Answer]) -> Answer:
    """The answer on which all rungs agree; `not shown` where they differ, `unknown` where there is none."""
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else "not shown" if distinct else "unknown"


def outcome(difference: Mapping[str, Any] | None) -> Answer:
    """What a difference's interval says: above 0, below 0, or neither."""
    if not difference or difference.get("low") is None or difference.get("high") is None:
        return "unknown"
    return "yes" if difference["low"] > 0 else "no" if difference["high"] < 0 else "not shown"


def headline_arm(rung: Mapping[str, Any]) -> str | None:
    """The arm that speaks for a rung; None where no student learnt from a teacher."""
    present = [name for name in rung.get("comparisons") or {} if name not in UNLIKE_ARMS]
    return min(present, key=lambda name: (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name), default=None)


def headline_comparison(rung: Mapping[str, Any]) -> Mapping[str, Any]:
    """The comparison of the student that speaks for a rung; empty where there is none."""
    return (rung.get("comparisons") or {}).get(headline_arm(rung) or "") or {}


def problems(comparison: Mapping[str, Any]) -> int | None:
    """On how many problems a comparison rests."""
    pairs = (comparison.get(name) for name in ("vs_teacher", "vs_base", "vs_ceiling"))
    return next((pair["n"] for pair in pairs if pair and pair.get("n") is not None), None)


def teacher_name(rung: Mapping[str, Any], comparison: Mapping[str, Any]) -> str | None:
    """The teacher a comparison is against: the one it names, or the rung's only one."""
    teachers = rung.get("teachers") or []
    named = comparison.get("teacher")
    return str(named) if named else str(teachers[0]) if len(teachers) == 1 else None


def _rung(results: Mapping[str, Any], rung: Mapping[str, Any]) -> RungVerdict:
    arm, comparison = headline_arm(rung), headline_comparison(rung)
    student = (rung.get("models") or {}).get(arm or "")
    return RungVerdict(
        rung=rung.get("index", 0),
        name=str(rung.get("name") or ""),
        arm=arm,
        student=None if student is None else str(student),
        teacher=teacher_name(rung, comparison),
        verdict="unknown" if results.get("rehearsal") else outcome(comparison.get("vs_teacher")),
    )
