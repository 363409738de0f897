"""Accuracy on a small labelled set while a student trains, and gates that say when to go no further."""

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

from w2sr_jax.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class Probe:
    """Greedy accuracy and induced-error rate (`docs/methods.md`: wrong answers taken over from the teacher where the base was
    right) on the probe problems, which no student is trained on."""

    every: int = 0
    """Steps between looks at the probe problems while a student trains; 0: none."""
    problems: int = 200
    """Probe problems asked at each look, at most."""
    weakest_teacher: float = 0.0
    """Gate: the teacher is too weak where its accuracy on the probe problems is credibly below this; 0: no gate."""
    induced_rise: float = 0.0
    """Gate: induced errors rise where their rate is credibly this much above its lowest value so far; 0: no gate."""
    patience: int = 2
    """Looks in a row that must show the rise."""
    action: Literal["warn", "stop"] = "warn"
    """What a gate does."""

    def __post_init__(self) -> None:
        _require(self.every >= 0, "every", self.every, "0 (no looks) or more")
        _require(self.problems >= 1, "problems", self.problems, "at least 1")
        _require(0 <= self.weakest_teacher < 1, "weakest_teacher", self.weakest_teacher, "at least 0 (no gate) and below 1")
        _require(0 <= self.induced_rise < 1, "induced_rise", self.induced_rise, "at least 0 (no gate) and below 1")
        _require(self.patience >= 1, "patience", self.patience, "at least 1")
        _require(self.action in ("warn", "stop"), "action", self.action, "warn or stop")


@dataclasses.dataclass(frozen=True)
class ProbePoint:
    """Greedy accuracy on `n` probe problems after `step` steps. `induced` is the share of the `n_induced` problems that the
    teacher gets wrong and the base right, to which the student gives the teacher's answer; None where there is none."""

    step: int
    accuracy: float | None
    induced: float | None
    n: int
    n_induced: int


def too_weak(teacher: str, correct: int, problems: int, settings: Probe) -> str | None:
    """Why the teacher is too weak, or None. Its accuracy is credibly below the threshold where the upper end of its one-sided
    95 % Wilson interval is."""
    if not settings.weakest_teacher or not problems:
        return None
    upper = _wilson(correct / problems, problems)[1]
    if upper >= settings.weakest_teacher:
        return None
    return (
        f"teacher {teacher!r} is too weak: it is right on {correct} of {problems} probe problems "
        f"(at most {upper:.1%}, 95 % sure), "
        f"below probe.weakest_teacher {settings.weakest_teacher:.1%}"
    )


def rising(points: Sequence[ProbePoint], settings: Probe) -> str | None:
    """Why induced errors are rising, or None: at each of the last `patience` points their rate was credibly (by the lower end of
    its one-sided 95 % Wilson interval) more than `induced_rise` above the lowest one before.

    The point before the first step does not count: it is the base's own. `points` are in order.
    """
    rates = [(point, point.induced) for point in points if point.induced is not None and point.step > 0]
    if not settings.induced_rise or len(rates) <= settings.patience:
        return None
    lowest, least = min(rates[: -settings.patience], key=lambda rate: rate[1])
    recent = rates[-settings.patience :]
    bounds = [_wilson(rate, point.n_induced)[0] for point, rate in recent]
    if not all(bound > least + settings.induced_rise for bound in bounds):
        return None
    last, rate = recent[-1]
    return (
        f"induced errors are rising: {rate:.1%} of {last.n_induced} problems "
        f"at step {last.step} "
        f"(at least {bounds[-1]:.1%}, 95 % sure), from {least:.1%} at step {lowest.step}, "
        f"more than probe.induced_rise {settings.induced_rise:.1%} in {settings.patience} looks in a row"
    )


def _wilson(p: float, n: int) -> tuple[float, float]:
    """Ends of the one-sided 95 % Wilson intervals of a share `p` of `n`."""
    z = NormalDist().inv_cdf(0.95)
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def _require(sound: bool, field: str, value: object, right: str) -> None:
    if not sound:
        raise UserError(f"probe.{field} is {value}; it must be {right}")
