"""Does a run show what was required of it? Each requirement is held against the results, and the reason is said."""

import dataclasses
from collections.abc import Iterator

from w2sr_jax.evaluation.statistics import Difference, Gap
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.headline import untested
from w2sr_jax.report.requirements.language import Requirement, Target, holds
from w2sr_jax.report.results import Results, Rung

_DIFFERENCES = ("vs_teacher", "vs_base", "vs_ceiling", "vs_first_teacher")


@dataclasses.dataclass(frozen=True)
class Finding:
    """Whether a requirement is met, and a sentence for each student, teacher or run that it speaks of."""

    requirement: Requirement
    met: bool
    lines: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A number with its interval, `where` it was measured, or why it is not known."""

    where: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    why: str = ""


def judged(requirement: Requirement, target: Target, results: Results) -> Finding:
    """Hold a requirement, and what it speaks of, against the results of a run."""
    if requirement.quantity == "verdict":
        return _verdict(requirement, results, target)
    measured = list(_measured(requirement, results, target))
    if not measured:
        what = "no student has been trained yet" if target.rung is None else f"rung {target.rung} is not in the report yet"
        return Finding(requirement, False, (f"{requirement.text}: not met, since {what}",))
    lines = tuple(_line(requirement, one) for one in measured)
    return Finding(requirement, all(_met(requirement, one) for one in measured), lines)


def _verdict(requirement: Requirement, results: Results, target: Target) -> Finding:
    verdict = rule.verdict(results)
    answer = verdict.overall
    if target.rung is not None:
        answer = next((rung.verdict for rung in verdict.rungs if rung.rung == target.rung), "unknown")
    met = answer == requirement.value
    where = "" if target.rung is None else f" on rung {target.rung}"
    return Finding(requirement, met, (f"{requirement.text}: {'met' if met else 'not met'}{where}, the verdict is {answer}",))


def _measured(requirement: Requirement, results: Results, target: Target) -> Iterator[_Measured]:
    quantity = requirement.quantity
    if quantity in ("test_problems", "seeds"):
        count = len(results.seeds) if quantity == "seeds" else results.test_problems
        yield _Measured("", count, count, count)
    elif quantity == "vs_first_teacher":
        yield _first(results)
    elif target.teacher is not None:
        yield _accuracy(results, f"of “{hostile.one_line(target.teacher, 40)}”", target.teacher)
    else:
        for rung in rule.ordered(results):
            if target.rung in (None, rung.index):
                yield _student(quantity, results, rung, target.arm or rule.headline_arm(rung))


def _first(results: Results) -> _Measured:
    rungs = rule.ordered(results)
    if len(rungs) == 1:  # both ends of the ladder are the same rung
        difference = rule.headline_difference(rungs[0])
    else:
        difference = None if results.climb is None else results.climb.difference
    return _of_difference("from end to end", difference, "one of both ends of the ladder did not sit the same test")


def _student(quantity: str, results: Results, rung: Rung, arm: str | None) -> _Measured:
    where = f"on rung {rung.index} (“{hostile.one_line(rung.name, 30)}”, {wording.arm(arm, rung)})"
    if arm is None:
        return _Measured(where, why="no student learnt from a teacher there")
    if quantity == "accuracy":
        return _accuracy(results, where, rung.models.get(arm))
    comparison = rung.comparisons.get(arm)
    if comparison is None:
        return _Measured(where, why="this model is held against no other")
    if quantity == "vs_teacher":
        return _of_difference(where, comparison.vs_teacher, untested(results, rung))
    if quantity == "vs_base":
        return _of_difference(where, comparison.vs_base, "its base was not evaluated")
    if quantity == "vs_ceiling":
        return _of_difference(where, comparison.vs_ceiling, "gold SFT was not evaluated")
    if quantity == "rgr":
        return _of_gap(where, comparison.rgr_base, "base or gold SFT was not evaluated")
    missing = "base or gold SFT was not evaluated" if comparison.vs_teacher else untested(results, rung)
    return _of_gap(where, comparison.pgr, missing)


def _accuracy(results: Results, where: str, name: str | None) -> _Measured:
    model = results.models.get(name or "")
    if model is None:
        return _Measured(where, why="it was not evaluated on the test problems")
    accuracy = model.scores.accuracy
    return _Measured(where, accuracy.value, accuracy.low, accuracy.high)


def _of_difference(where: str, difference: Difference | None, missing: str) -> _Measured:
    if difference is None:
        return _Measured(where, why=missing)
    return _Measured(where, difference.difference, difference.low, difference.high)


def _of_gap(where: str, gap: Gap | None, missing: str) -> _Measured:
    if gap is None or gap.value is None:
        return _Measured(where, why=(gap.suppressed if gap else None) or missing)
    return _Measured(where, gap.value, gap.low, gap.high)


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
    if quantity in ("test_problems", "seeds"):
        return wording.count(one.value)
    if quantity in _DIFFERENCES:
        return f"{wording.points(one.value)} points ({wording.points_range(one)})"
    return f"{wording.percent(one.value)} ({wording.percent_range(one)})"
