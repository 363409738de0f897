"""Does a run show what was required of it? Each requirement is held against `results.json`, and the reason is said."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.requirement import Requirement, Target, holds
from w2sr_jax.report.verdict import untested

_KEYS = {"vs_teacher": "vs_teacher", "vs_base": "vs_base", "vs_ceiling": "vs_ceiling", "rgr": "rgr_base", "pgr": "pgr"}
_DIFFERENCES = ("vs_teacher", "vs_base", "vs_ceiling", "vs_first_teacher")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Whether a requirement is met, and a sentence for each place that it speaks of."""

    requirement: Requirement
    met: bool
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A number with its interval at a place, or why it is not known."""

    where: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def judged(requirement: Requirement, meant: Target, results: Mapping[str, Any]) -> Finding:
    """Hold a requirement, and what it speaks of, against `results.json` (schema.Results)."""
    if requirement.quantity == "verdict":
        return _verdict(requirement, results, meant)
    found = list(_measured(requirement, results, meant))
    lines = tuple(_line(requirement, one) for one in found)
    if not found:
        what = "no student has been trained yet" if meant.rung is None else f"rung {meant.rung} is not in the report yet"
        return Finding(requirement, False, (f"{requirement.text}: not met, since {what}",))
    return Finding(requirement, all(_met(requirement, one) for one in found), lines)


def _verdict(requirement: Requirement, results: Mapping[str, Any], meant: Target) -> Finding:
    said = rule.verdict(results)
    found = said["overall"]
    if meant.rung is not None:
        found = next((rung["verdict"] for rung in said["rungs"] if rung["rung"] == meant.rung), "unknown")
    met = found == requirement.value
    where = "" if meant.rung is None else f" on rung {meant.rung}"
    return Finding(requirement, met, (f"{requirement.text}: {'met' if met else 'not met'}{where}, the verdict is {found}",))


def _measured(requirement: Requirement, results: Mapping[str, Any], meant: Target) -> Iterator[_Measured]:
    quantity = requirement.quantity
    if quantity in ("test_problems", "seeds"):
        count = len(results.get("seeds") or []) if quantity == "seeds" else results.get("test_problems")
        yield _Measured("", count, count, count, "" if count is not None else "the report does not say")
    elif quantity == "vs_first_teacher":
        yield _first(results)
    elif meant.teacher is not None:
        yield _accuracy(results, f"of “{hostile.one_line(meant.teacher, 40)}”", meant.teacher)
    else:
        for rung in rule.ordered(results):
            if meant.rung in (None, rung.get("index", 0)):
                yield _student(quantity, results, rung, meant.arm or rule.headline_arm(rung))


def _first(results: Mapping[str, Any]) -> _Measured:
    rungs = rule.ordered(results)
    if len(rungs) == 1:  # both ends of the ladder are the same rung
        difference = rule.headline_comparison(rungs[0]).get("vs_teacher")
    else:
        difference = (results.get("climb") or {}).get("difference")
    return _of("from end to end", difference, "difference", "one of both ends of the ladder did not sit the same test")


def _student(quantity: str, results: Mapping[str, Any], rung: Mapping[str, Any], arm: str | None) -> _Measured:
    where = f"on rung {rung.get('index', 0)} (“{hostile.one_line(rung.get('name'), 30)}”, {wording.arm(arm)})"
    if arm is None:
        return _Measured(where, why="no student learnt from a teacher there")
    if quantity == "accuracy":
        return _accuracy(results, where, (rung.get("models") or {}).get(arm))
    comparison = (rung.get("comparisons") or {}).get(arm)
    if comparison is None:
        return _Measured(where, why="this model is held against no other")
    found = comparison.get(_KEYS[quantity])
    if quantity == "vs_teacher":
        return _of(where, found, "difference", untested(results, rung))
    if quantity in _DIFFERENCES:
        return _of(where, found, "difference", f"{'its base' if quantity == 'vs_base' else 'gold SFT'} was not evaluated")
    if quantity == "pgr" and not comparison.get("vs_teacher"):
        return _of(where, found, "value", untested(results, rung))
    return _of(where, found, "value", (found or {}).get("suppressed") or "base or gold SFT was not evaluated")


def _accuracy(results: Mapping[str, Any], where: str, name: Any) -> _Measured:
    model = (results.get("models") or {}).get(str(name)) or {}
    return _of(where, (model.get("scores") or {}).get("accuracy"), "value", "it was not evaluated on the test problems")


def _of(where: str, found: Mapping[str, Any] | None, key: str, why: str) -> _Measured:
    if not found or found.get(key) is None:
        return _Measured(where, why=why)
    return _Measured(where, found[key], found.get("low"), found.get("high"))


def _met(requirement: Requirement, one: _Measured) -> bool:
    # An end that is missing is without bound: nothing is known to lie beyond it.
    low = float("-inf") if one.low is None else one.low
    high = float("inf") if one.high is None else one.high
    return one.value is not None and holds(requirement, low, high)


def _line(requirement: Requirement, one: _Measured) -> str:
    where = f" {one.where}" if one.where else ""
    if one.value is None:
        return f"{requirement.text}: not met{where}, since {requirement.quantity} is not known there: {one.why}"
    met = _met(requirement, one)
    end = {">": "lower", ">=": "lower", "<": "upper", "<=": "upper"}.get(requirement.operator)
    why = f", and the {end} end decides" if end and not met and not one.value == one.low == one.high else ""
    return f"{requirement.text}: {'met' if met else 'not met'}{where}: {_number(requirement.quantity, one)}{why}"


def _number(quantity: str, one: _Measured) -> str:
    bounds = {"low": one.low, "high": one.high}
    if quantity in ("test_problems", "seeds"):
        return wording.count(one.value)
    if quantity in _DIFFERENCES:
        return f"{wording.points(one.value)} points ({wording.points_range(bounds)})"
    return f"{wording.percent(one.value)} ({wording.percent_range(bounds)})"
