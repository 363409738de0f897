"""How reinforcement compares with imitation, and at what cost, in words for the one who pays for it."""

from collections.abc import Mapping

from w2sr_jax.evaluation import arms as spending
from w2sr_jax.evaluation.arms import SHARED, ArmTraining, Part, Spent
from w2sr_jax.evaluation.cost import Timings
from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.results import Results, Rung

EVERY_PART: tuple[Part, ...] = ("own", "before", *SHARED)


def seconds(timings: Timings | None) -> dict[str, float]:
    """The device time of each stage, by its name, where that is known."""
    times = {} if timings is None else {name: time.device_seconds for name, time in timings.stages.items()}
    return {name: time for name, time in times.items() if time is not None}


def whole(training: ArmTraining, times: Mapping[str, float]) -> Spent:
    """All that an arm's student took, teachers and their traces included."""
    return spending.spent(training.needs, times, EVERY_PART)


def sentences(results: Results, timings: Timings | None = None) -> tuple[str, ...]:
    """For each rung what reinforcement after the student that speaks for it brings, and how reinforcement without it compares."""
    if results.rehearsal:
        return ()
    rungs, times = rule.ordered(results), seconds(timings)
    many = len(rungs) > 1
    lines = [(rung, line) for rung in rungs for line in _of_rung(rung, times)]
    return tuple(f"Rung {rung.index}: {line[:1].lower()}{line[1:]}" if many else line for rung, line in lines)


def _of_rung(rung: Rung, times: Mapping[str, float]) -> list[str]:
    arm = rule.headline_arm(rung)
    if arm is None or not rule.imitates(rung, arm):
        return []
    student, lines = wording.arm(arm, rung), []
    goes_on = rule.after(rung, arm)
    for name in goes_on:
        difference = rung.comparisons[name].vs_before
        if difference is not None:
            what = f"Reinforcement after {student} (“{wording.arm(name, rung)}”)"
            lines.append(f"{what} {_change(difference, rung, arm)}{_price(rung, name, arm, times)}.")
    for one in rule.against_reinforcement(rung, arm):
        if one.arm in goes_on:
            continue
        scores = f"{wording.percent(one.difference.right)} right against {wording.percent(one.difference.left)} of {student}"
        what = f"Reinforcement without it (“{wording.arm(one.arm, rung)}”) answers {scores}"
        lines.append(f"{what}, which {_lead(one.difference, rung, arm)}{_price(rung, one.arm, arm, times)}.")
    return lines


def _change(difference: Difference, rung: Rung, arm: str) -> str:
    """What going on has brought: the later student minus the earlier one."""
    size, bounds = f"{wording.points(difference.difference)} points", _bounds(difference, rung, arm)
    deed = {"yes": f"adds {size}", "no": f"makes it worse: {size}", "not shown": f"makes no difference that shows: {size}"}
    return f"{deed[rule.outcome(difference)]} ({bounds})"


def _lead(difference: Difference, rung: Rung, arm: str) -> str:
    """How the student that imitates stands to one that was reinforced: imitation minus reinforcement."""
    size, bounds = f"{wording.points(difference.difference)} points", _bounds(difference, rung, arm)
    where = {"yes": "is ahead", "no": "is behind", "not shown": "cannot be told apart from it"}[rule.outcome(difference)]
    return f"{where}: {size} for {wording.arm(arm, rung)} ({bounds})"


def _bounds(difference: Difference, rung: Rung, arm: str) -> str:
    return f"{wording.confidence(rung.comparisons[arm].confidence)} interval {wording.points_range(difference)}"


def _price(rung: Rung, name: str, arm: str, times: Mapping[str, float]) -> str:
    """How many times as much an arm has taken as another one, all that each of them needs included."""
    arms = rung.arms or {}
    if name not in arms or arm not in arms:
        return ""
    more, less = whole(arms[name], times), whole(arms[arm], times)
    parts = [
        f"{_times(mine / other)} {what}"
        for what, mine, other in (("device time", more.seconds, less.seconds), ("FLOPs", more.flops, less.flops))
        if mine and other
    ]
    of = hostile.one_line(wording.arm(arm, rung), 40)
    return f", at {wording.listing(parts)} of {of}, teachers and traces charged to each that needs them" if parts else ""


def _times(ratio: float) -> str:
    digits = 2 if ratio < 1 else 1 if ratio < 10 else 0
    return f"{ratio:.{digits}f} times the"
