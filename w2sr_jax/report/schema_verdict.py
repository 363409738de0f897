"""The part of `results.json` that answers the question in the page's title."""

from typing import Literal, TypedDict

from w2sr_jax.report.schema_numbers import Difference

Answer = Literal["yes", "no", "not shown", "unknown"]
ANSWERS: tuple[Answer, ...] = ("yes", "no", "not shown", "unknown")


class RungVerdict(TypedDict):
    """Whether the student that speaks for a rung outgrew its teacher. `arm` and `student`, its name in `Results.models`, are None
    where no student learnt from a teacher; `teacher` is None where no single one is known."""

    rung: int
    name: str
    arm: str | None
    student: str | None
    teacher: str | None
    verdict: Answer


class Verdict(TypedDict):
    """`overall` is the answer on which all rungs agree, else `not shown`; `rule` says in words how both came about."""

    overall: Answer
    rungs: list[RungVerdict]
    rule: str


class Climb(TypedDict):
    """From end to end: the last rung's student against the first rung's teacher, names in `Results.models`."""

    student: str
    teacher: str
    difference: Difference
