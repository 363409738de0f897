"""Traces of a weak teacher, written by hand, with their problems: what curation is tested on."""

import dataclasses
import random

from w2sr_jax.core.records import Problem, Trace, Verdict

PROBLEMS = [
    Problem.of(f"Question {i} about {i} apples ?", str(i), None, "t", {"operations": 2 + i % 3, "numbers": 10 + i})
    for i in range(30)
]


def trace(
    problem: Problem, sample: int, verdict: str, teacher: str = "weak", text: str | None = None, **changes: object
) -> Trace:
    answer = {"correct": problem.answer, "incorrect": "999", "unparsed": None, "ungraded": problem.answer}[verdict]
    text = text if text is not None else f"step {sample} of {teacher} #### {answer}"
    made = Trace(
        Trace.identity(problem.id, teacher, sample, text),
        problem.id,
        teacher,
        sample,
        text,
        answer,
        "ungraded",
        "stop",
        9,
        None,
        "x",
    )
    return dataclasses.replace(made.graded(Verdict(verdict, answer, "r", "g")), **changes)  # type: ignore[arg-type]


def mixed(seed: int = 0, samples: int = 4) -> list[Trace]:
    rng = random.Random(seed)
    verdicts = ["correct", "correct", "incorrect", "incorrect", "unparsed"]
    return [trace(problem, sample, rng.choice(verdicts)) for problem in PROBLEMS for sample in range(samples)]
