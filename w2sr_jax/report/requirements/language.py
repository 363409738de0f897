"""What a run is required to show: `vs_teacher>0`, `small.correct.accuracy>=0.8`, `verdict==yes`.

    requirement := [subject "."] quantity operator value
    subject     := RUNG | RUNG "." ARM | TEACHER            RUNG by index, name or both: 0, small, 0-small
    operator    := ">" | ">=" | "<" | "<=" | "=="
    value       := NUMBER | NUMBER "%" | ANSWER             0.05 and 5% are the same

A number is required of the whole interval: `>0` holds where its lower end is above 0, `<0` where its upper end is below 0.
Without a subject it is required of every rung, of the student that speaks for it (rule.RULE).
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.report.results import ANSWERS, Answer

Operator = Literal[">", ">=", "<", "<=", "=="]
OPERATORS: tuple[Operator, ...] = (">", ">=", "<", "<=", "==")


@dataclasses.dataclass(frozen=True)
class Quantity:
    """`about`: what it says; `of`: a student (or another model of its rung), a rung, or the whole run; `least` and `most` bound
    the values it can have; `exact` numbers have no interval."""

    about: str
    of: Literal["student", "rung", "run"]
    least: float = -math.inf
    most: float = math.inf
    exact: bool = False


QUANTITIES: Mapping[str, Quantity] = {
    "vs_teacher": Quantity("accuracy of the student minus its teacher's", "student", -1.0, 1.0),
    "vs_base": Quantity("accuracy of the student minus its own base's", "student", -1.0, 1.0),
    "vs_ceiling": Quantity("accuracy of the student minus gold SFT's", "student", -1.0, 1.0),
    "rgr": Quantity("share of the gap from its base to gold SFT that the student recovered", "student"),
    "pgr": Quantity("share of the gap from its teacher to gold SFT that the student recovered", "student"),
    "accuracy": Quantity("greedy accuracy on the test problems, of a student or another model", "student", 0.0, 1.0),
    "verdict": Quantity("the answer of a rung, or of the whole ladder: yes, no, not shown or unknown", "rung"),
    "vs_first_teacher": Quantity("accuracy of the last student minus the first rung's teacher's", "run", -1.0, 1.0),
    "test_problems": Quantity("number of test problems", "run", 0.0, exact=True),
    "seeds": Quantity("number of seeds", "run", 0.0, exact=True),
}
_PARTS = re.compile(r"([^<>=!≥≤]*)(>=|<=|==|!=|[<>=≥≤])(.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_SAME = {"≥": ">=", "≤": "<="}
_EXAMPLE = "it is written as in 'vs_teacher>0' (in quotes, since the shell takes > for itself)"


@dataclasses.dataclass(frozen=True)
class Requirement:
    """`text` as it was given, and what it means; `subject` is empty where none was named."""

    text: str
    subject: str
    quantity: str
    operator: Operator
    value: float | Answer


@dataclasses.dataclass(frozen=True)
class RungNames:
    """A rung as subjects name it; `arms` are all models that it has, gold and base among them."""

    index: int
    name: str
    arms: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Names:
    """What a requirement may speak of."""

    rungs: tuple[RungNames, ...]
    teachers: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Target:
    """Of what a requirement speaks. Without `rung`: of all, or of the `teacher` if there is one. Without `arm`: of the student
    that speaks for the rung."""

    rung: int | None = None
    arm: str | None = None
    teacher: str | None = None


def parsed(text: str) -> Requirement:
    """The requirement that a text states. `UserError` where it is none, with what would be right."""
    shown = sentences.value(text)
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise UserError(f"requirement {shown} has no comparison; {_EXAMPLE}")
    name, operator, value = parts[1].strip(), _SAME.get(parts[2], parts[2]), parts[3].strip()
    if operator not in OPERATORS:
        raise UserError(f"requirement {shown}: {operator} is no comparison; there are {', '.join(OPERATORS)}")
    subject, _, quantity = name.rpartition(".")
    kind = QUANTITIES.get(quantity)
    if kind is None:
        missing = "names no quantity" if not quantity else f"there is no quantity {sentences.value(quantity)}"
        raise UserError(f"requirement {shown}: {missing}; {_near(quantity, tuple(QUANTITIES))}")
    if name.startswith("."):
        raise UserError(f"requirement {shown} names nothing before its first point; leave the point away, or name a rung")
    requirement = Requirement(text, subject, quantity, operator, _value(shown, quantity, value))
    if quantity == "verdict" and operator != "==":
        raise UserError(f"requirement {shown}: a verdict is compared with == alone")
    if quantity != "verdict" and not kind.exact and operator == "==":
        raise UserError(f"requirement {shown}: {quantity} has an interval, which no single number equals; use >, >=, < or <=")
    return requirement


def target(requirement: Requirement, names: Names) -> Target:
    """Of what the requirement speaks. `UserError` where there is no such rung, arm or teacher, with the nearest that there is."""
    quantity, subject = QUANTITIES[requirement.quantity], requirement.subject
    if not subject:
        return Target()
    shown = sentences.value(requirement.text)
    if quantity.of == "run":
        raise UserError(f"requirement {shown}: {requirement.quantity} is of the whole run; name it without {subject!r}")
    subjects = _subjects(names, with_arms=quantity.of == "student", with_teachers=requirement.quantity == "accuracy")
    targets = subjects.get(subject)
    if targets is None:
        raise UserError(f"requirement {shown}: there is no {sentences.value(subject)} here; {_near(subject, tuple(subjects))}")
    if len(targets) > 1:
        raise UserError(
            f"requirement {shown}: {subject!r} can mean several things; name a rung with index and name, as in 0-small"
        )
    return targets[0]


def holds(requirement: Requirement, low: float, high: float) -> bool:
    """Whether the whole interval is as a requirement on a number has it."""
    assert not isinstance(requirement.value, str)
    value = requirement.value
    return {">": low > value, ">=": low >= value, "<": high < value, "<=": high <= value, "==": low == value == high}[
        requirement.operator
    ]


def _value(shown: str, quantity: str, text: str) -> float | Answer:
    if quantity == "verdict":
        answer = " ".join(re.split(r"[\s_-]+", text.strip("'\"").lower()))
        if answer not in ANSWERS:
            raise UserError(f"requirement {shown}: a verdict is {', '.join(ANSWERS[:-1])} or {ANSWERS[-1]}")
        return answer
    number = text.replace("\N{MINUS SIGN}", "-").removesuffix("%").rstrip()
    if not _NUMBER.fullmatch(number):
        wrong = f"{sentences.value(text)} is no number" if text else "the number is missing"
        raise UserError(f"requirement {shown}: {wrong}; {_EXAMPLE}")
    share = text.endswith("%")
    kind = QUANTITIES[quantity]
    if share and kind.exact:
        raise UserError(f"requirement {shown}: {quantity} is a count, not a share")
    value = float(number) / (100 if share else 1)
    if not math.isfinite(value) or not kind.least <= value <= kind.most:
        bounds = f"between {kind.least:g} and {kind.most:g}" if math.isfinite(kind.most) else "finite"
        hint = "; 50% is written 50% or 0.5" if kind.most == 1.0 else ""
        raise UserError(f"requirement {shown}: {quantity} is {bounds}{hint}")
    return value


def _subjects(names: Names, with_arms: bool, with_teachers: bool) -> dict[str, list[Target]]:
    """Every subject and what it may mean."""
    subjects: dict[str, list[Target]] = {}

    def add(subject: str, target: Target) -> None:
        if target not in subjects.setdefault(subject, []):
            subjects[subject].append(target)

    for rung in names.rungs:
        for name in (str(rung.index), rung.name, f"{rung.index}-{rung.name}"):
            add(name, Target(rung.index))
            for arm in rung.arms if with_arms else ():
                add(f"{name}.{arm}", Target(rung.index, arm))
    for teacher in names.teachers if with_teachers else ():
        add(teacher, Target(teacher=teacher))
    return subjects


def _near(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name.lower(), names, 1, 0.5)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names[:20])}"
