"""Where a teacher's errors went: did its student copy them, correct them, or lose what the teacher got right (`docs/methods.md`).

With T the teacher, B the student before training and S after it:

    repeat     P(S = T | T wrong)             the student gives the teacher's wrong answer
    chance     P(B = T | T wrong)             it gave that answer before training too
    excess     repeat − chance                on the same problems
    induced    P(S = T | T wrong, B right)    it knew better before
    corrected  P(S right | T wrong)
    corrupted  P(S wrong | T right)

"T wrong" means a wrong answer that could be read: an unreadable one cannot be copied, nor told apart. Problems with one
count in `teacher_unreadable` and in no metric. A student's or base's unreadable answer is a wrong one and equals no other.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from w2sr_jax.answers.grade import canonical
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Estimate, Reals

RIGHT = "correct"

CELLS: Mapping[str, str] = MappingProxyType(
    {
        "repeat": "The student gives the teacher's wrong answer",
        "chance": "The base gives the teacher's wrong answer",
        "induced": "The student gives the teacher's wrong answer, although the base was right",
        "corrected": "The teacher is wrong, the student right",
        "corrupted": "The teacher is right, the student wrong",
        "teacher_right": "The teacher is right",
        "teacher_wrong": "The teacher gives a wrong answer",
        "teacher_wrong_base_right": "The teacher gives a wrong answer, the base the right one",
        "teacher_unreadable": "The teacher's answer cannot be read",
    }
)
"""What a problem can count in, numerators before denominators, with a title for each."""

_RATIOS = (
    ("repeat", "teacher_wrong"),
    ("chance", "teacher_wrong"),
    ("induced", "teacher_wrong_base_right"),
    ("corrected", "teacher_wrong"),
    ("corrupted", "teacher_right"),
)


class Answer(NamedTuple):
    """`key` is one spelling for equal answers, None for an answer that cannot be read."""

    key: str | None
    correct: bool


class Outcome(NamedTuple):
    """What teacher, base and student answered to one problem."""

    problem_id: str
    teacher: Answer
    base: Answer
    student: Answer


@dataclasses.dataclass(frozen=True)
class Metrics:
    """`n` is the denominator, over problems and seeds; `value` None where it is 0."""

    repeat: Estimate
    chance: Estimate
    excess: Estimate
    induced: Estimate
    corrected: Estimate
    corrupted: Estimate


@dataclasses.dataclass(frozen=True)
class Consistency:
    """Error consistency κ of right and wrong answers; `value` None where it is undefined (`statistics.kappa`)."""

    teacher_student: Estimate
    teacher_base: Estimate


@dataclasses.dataclass(frozen=True)
class Ledger:
    """`problems` are distinct ones; the teacher's counts are over problems and seeds and add up to all outcomes."""

    set: Literal["training", "held-out"]
    seeds: int
    problems: int
    teacher_right: int
    teacher_wrong: int
    teacher_unreadable: int
    metrics: Metrics
    kappa: Consistency


def answer(trace: Trace) -> Answer:
    """The answer of a graded trace. One without a verdict (no gold answer) is a `UserError`: it is neither right nor wrong."""
    if trace.verdict == "ungraded":
        raise UserError(
            f"the trace of problem {trace.problem_id} by {trace.teacher!r} is not graded, so it cannot stand in a ledger"
        )
    return Answer(key(trace), trace.verdict == "correct")


def key(trace: Trace) -> str | None:
    """One spelling for equal answers to a problem; right answers are equal by their verdict, however they are spelt. None where
    no answer could be read or compared."""
    if trace.verdict == "correct":
        return RIGHT
    return None if trace.answer is None or trace.verdict == "unparsed" else "= " + canonical(trace.answer)


def outcomes(
    problems: Sequence[Problem], teacher: Sequence[Trace], base: Sequence[Trace], student: Sequence[Trace]
) -> list[Outcome]:
    """Outcomes in the problems' order, from one trace per problem and model; problems without a gold answer are left out. A
    missing, doubled or ungraded trace is a `UserError`."""
    by_model = {"teacher": _by_problem("teacher", teacher), "base": _by_problem("base", base)}
    by_model["student"] = _by_problem("student", student)
    graded = [problem.id for problem in problems if problem.answer is not None]
    for name, traces in by_model.items():
        for problem in graded:
            if problem not in traces:
                raise UserError(f"the {name} has no trace of problem {problem} among the {len(traces)} given")
    return [Outcome(problem, *(answer(traces[problem]) for traces in by_model.values())) for problem in graded]


def cells(outcome: Outcome) -> tuple[str, ...]:
    """Which of `CELLS` a problem counts in, in their order."""
    _, teacher, base, student = outcome
    if teacher.correct:
        inside = {"teacher_right": True, "corrupted": not student.correct}
    elif teacher.key is None:
        inside = {"teacher_unreadable": True}
    else:
        repeat = student.key == teacher.key
        inside = {
            "repeat": repeat,
            "chance": base.key == teacher.key,
            "induced": repeat and base.correct,
            "corrected": student.correct,
            "teacher_wrong": True,
            "teacher_wrong_base_right": base.correct,
        }
    return tuple(cell for cell in CELLS if inside.get(cell))


def ledger(outcomes: Sequence[Sequence[Outcome]], which: Literal["training", "held-out"], settings: Evaluation) -> Ledger:
    """The ledger of one student, from the outcomes of each seed; `which` set of problems they are is only passed on.

    Intervals resample the problems jointly over all metrics and seeds, then the seeds. Seeds may differ in their problems. No
    outcomes at all, or a problem twice in a seed, is a `UserError`.
    """
    if not any(outcomes):
        raise UserError(f"there are no {which} problems answered by teacher, base and student to make an error ledger of")
    seeds = [{outcome.problem_id: outcome for outcome in seed} for seed in outcomes]
    for number, (by_id, seed) in enumerate(zip(seeds, outcomes)):
        if len(by_id) != len(seed):
            raise UserError(
                f"seed number {number} has {len(seed)} {which} outcomes for {len(by_id)} problems; one each is needed"
            )
    problems = list(dict.fromkeys(problem for seed in seeds for problem in seed))
    inside = [{problem: cells(outcome) for problem, outcome in seed.items()} for seed in seeds]

    def flags(cell: str) -> Reals:
        return np.array([[cell in seed.get(problem, ()) for problem in problems] for seed in inside], np.float64)

    def right(who: str) -> Reals:
        rows = [[problem in seed and getattr(seed[problem], who).correct for problem in problems] for seed in seeds]
        return np.array(rows, np.float64)

    counts = {cell: flags(cell) for cell in CELLS}
    ratios = {name: statistics.ratio(counts[name], counts[among], settings) for name, among in _RATIOS}
    excess = statistics.ratio(counts["repeat"] - counts["chance"], counts["teacher_wrong"], settings, (-1.0, 1.0))
    present = np.array([[problem in seed for problem in problems] for seed in seeds], np.float64)
    teacher = right("teacher")
    return Ledger(
        set=which,
        seeds=len(seeds),
        problems=len(problems),
        teacher_right=int(counts["teacher_right"].sum()),
        teacher_wrong=int(counts["teacher_wrong"].sum()),
        teacher_unreadable=int(counts["teacher_unreadable"].sum()),
        metrics=Metrics(
            repeat=ratios["repeat"],
            chance=ratios["chance"],
            excess=excess,
            induced=ratios["induced"],
            corrected=ratios["corrected"],
            corrupted=ratios["corrupted"],
        ),
        kappa=Consistency(
            teacher_student=statistics.kappa(teacher, right("student"), settings, present),
            teacher_base=statistics.kappa(teacher, right("base"), settings, present),
        ),
    )


def _by_problem(name: str, traces: Sequence[Trace]) -> dict[str, Trace]:
    by_id = {trace.problem_id: trace for trace in traces}
    if len(by_id) != len(traces):
        raise UserError(f"the {name} has {len(traces)} traces for {len(by_id)} problems; one each is needed for an error ledger")
    return by_id
