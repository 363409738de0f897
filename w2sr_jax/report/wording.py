"""How numbers and names are written."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Protocol

from w2sr_jax.evaluation.arms import Signal
from w2sr_jax.report import hostile
from w2sr_jax.report.results import Model, Results, Rung

MINUS = "\N{MINUS SIGN}"
MISSING = "\N{EN DASH}"
THIN = "\N{NARROW NO-BREAK SPACE}"

ARMS = {
    "base-direct": "base, no reasoning",
    "base": "base",
    "incorrect": "W2SR-N",
    "all": "W2SR",
    "majority": "Majority",
    "correct": "W2SR-P",
    "gold": "gold SFT",
}
ARM_NOTES = {
    "all": "every trace of the teacher",
    "correct": "only traces with the right answer",
    "incorrect": "only traces with a wrong answer",
    "majority": "traces that agree with the majority answer (no gold needed)",
    "gold": "gold solutions of the same problems, same budget: the ceiling",
    "base": "the student before fine-tuning, asked to reason",
    "base-direct": "the student before fine-tuning, asked for the answer alone",
    "teacher-base": "the teacher before its own training stages",
}
SIGNALS: Mapping[Signal, str] = {
    "traces": "imitation",
    "rewards": "reinforcement",
    "answers": "own answers",
    "pairs": "preference",
}
"""What a training stage is called by what it learns from."""
OWN_LOOKS = 8
"""Colours and shapes for arms that have none by their name."""
ROLES = {
    "teacher-base": "teacher before its own training stages",
    "teacher": "teacher",
    "base": "base",
    "base-direct": "base, direct",
    "student": "student",
    "gold": "ceiling",
}
_ROLE_ORDER = tuple(ROLES)
_ARM_ORDER = tuple(ARMS)


class Range(Protocol):
    """What has an interval; an end that is None is not known, or without bound."""

    @property
    def low(self) -> float | None: ...

    @property
    def high(self) -> float | None: ...


def arm(name: str | None, rung: Rung | None = None) -> str:
    """What an arm is called: by its user, for the `rung` that it is of, or as the protocol calls it, or by its name."""
    own = rung.labels.get(name or "") if rung is not None and rung.labels else None
    return hostile.one_line(own, 40) if own else ARMS.get(name or "", name or MISSING)


def trained(name: str | None, rung: Rung | None) -> str:
    """What an arm learned from, stage by stage: `after W2SR-P: reinforcement`; empty where all of it is imitation from the base
    on, or nothing is known of it."""
    training = (rung.arms or {}).get(name or "") if rung is not None else None
    if training is None or (training.after is None and set(training.signals) <= {"traces"}):
        return ""
    counted = [(SIGNALS[signal], len(list(stages))) for signal, stages in groupby(training.signals)]
    stages = ", then ".join(f"{word}, {count} stages" if count > 1 else word for word, count in counted)
    return f"after {arm(training.after, rung)}: {stages}" if training.after else stages


def arm_at(results: Results, index: int | None, name: str | None) -> str:
    """`arm` of the rung of this number."""
    return arm(name, next((rung for rung in results.rungs if rung.index == index), None))


def kind(model: Model) -> str:
    """A model's arm, or its role where it has none."""
    return model.arm or model.role if model.role == "student" else model.role


def look(results: Results, kind: str) -> str:
    """By which colour and shape models of a kind are drawn, the same on every rung: the kind, or one of `OWN_LOOKS` for arms
    whose name is not known here."""
    if kind in ARMS or kind in ROLES:
        return kind
    own = sorted({name for rung in results.rungs for name in rung.models if name not in ARMS})
    return f"own-{own.index(kind) % OWN_LOOKS + 1}" if kind in own else kind


def rung_title(rung: Rung) -> str:
    return f"Rung {rung.index}: {hostile.one_line(rung.name, 30)}"


def model_title(results: Results, name: str | None) -> str:
    """A model's name as readers know it: a lower rung's student as `small, W2SR-P`, others as they are called."""
    model = results.models.get(name or "")
    rung = next((rung for rung in results.rungs if model is not None and rung.index == model.rung), None)
    if model is not None and rung is not None and model.role in ("student", "gold", "base"):
        return f"{hostile.one_line(rung.name, 30)}, {arm(model.arm, rung)}"
    return hostile.one_line(name or MISSING)


Order = tuple[tuple[int, str], ...]
"""What arms are sorted by."""


def order(rung: Rung | None, name: str, model: Model) -> tuple[int, int, Order, str]:
    """Teachers of the run, each after what it was before its own training stages, then rung by rung: bases, arms, ceiling. `rung`
    is the model's."""
    if model.rung is None:
        earlier = model.role == "teacher-base"
        return -1, 0, ((0, name.removesuffix("-base") if earlier else name),), "" if earlier else name
    return model.rung, _index(_ROLE_ORDER, model.role), arm_order(model.arm or "", rung), name


def arm_order(name: str, rung: Rung | None) -> Order:
    """Arms as the protocol has them, then others by name, each with those behind it that go on from it; the ceiling last."""
    training = (rung.arms or {}).get(name) if rung is not None else None
    before = arm_order(training.after, rung) if training is not None and training.after else ()
    return (*before, (_index(_ARM_ORDER, name) if name != "gold" else len(_ARM_ORDER) + 1, name))


def _index(names: tuple[str, ...], name: str | None) -> int:
    return names.index(name) if name in names else len(names)


def confidence(level: float) -> str:
    """The level of an interval, `95 %`."""
    return f"{100 * level:g}{THIN}%"


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 1 as `70.8 %`."""
    return MISSING if share is None else f"{_number(100 * share, digits)}{THIN}%"


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of shares as signed percentage points, `+12.3`."""
    if difference is None:
        return MISSING
    text = f"{abs(100 * difference):.{digits}f}"
    sign = "" if float(text) == 0 else "+" if difference > 0 else MINUS
    return sign + text


def percent_range(interval: Range | None, digits: int = 1) -> str:
    """`67.2 to 74.3 %`."""
    if interval is None or (interval.low is None and interval.high is None):
        return MISSING
    return f"{_open(interval.low, digits)} to {_open(interval.high, digits)}{THIN}%"


def points_range(interval: Range | None, digits: int = 1) -> str:
    """`+2.0 to +5.0`."""
    if interval is None or interval.low is None or interval.high is None:
        return MISSING
    return f"{points(interval.low, digits)} to {points(interval.high, digits)}"


def _open(bound: float | None, digits: int) -> str:
    return "no bound" if bound is None else _number(100 * bound, digits)


def _number(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    return (MINUS if value < 0 and float(text) != 0 else "") + text


def decimal(value: float | None, digits: int = 2) -> str:
    return MISSING if value is None else _number(value, digits)


def p_value(p: float | None) -> str:
    return MISSING if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float | None) -> str:
    """`1,234`; MISSING for None."""
    return MISSING if number is None else f"{round(number):,}"


def money(amount: float | None) -> str:
    """An amount in whatever currency the prices have: `1,234.50`, and small ones in three digits."""
    if amount is None:
        return MISSING
    return f"{amount:,.2f}" if amount >= 1 or not amount else f"{amount:.3g}"


def quantity(number: float | None) -> str:
    """A large count in three digits: `360 k`, `1.24 M`."""
    if number is None:
        return MISSING
    for scale, unit in ((1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(number) >= scale * 0.9995:
            value = number / scale
            return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}".removesuffix(".00") + unit.replace(" ", THIN)
    return f"{number:,.0f}"


def duration(seconds: float | None) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"


def listing(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""
