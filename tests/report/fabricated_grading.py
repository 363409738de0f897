"""How the verdicts of a made-up run came about, counted by the real evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from fabricated_evidence import source

from w2sr_jax.answers.extract import extract
from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.grading import Doubts, doubt, readings
from w2sr_jax.report.evidence import Evidence, EvidenceRow
from w2sr_jax.report.results import DoubtsEntry, Grading, ReadingsEntry

GROUPS = {"doubted": "Correct by the second opinion", "silent": "No second opinion", "agreed": "Incorrect by both"}
STATED, GUESSED, MUTE = "16 - 4 = 11\n#### {}", "16 - 4 = 11, so it makes {} in all", "I do not know"


def traces(asked: Sequence[Problem], teacher: str, guessed: float) -> list[Trace]:
    """Graded traces, the first share of them guessed at; of each ten, two are right and one states nothing."""
    found = []
    for number, problem in enumerate(asked):
        form = MUTE if number % 10 == 9 else GUESSED if number < guessed * len(asked) else STATED
        text = form.format(problem.answer if number % 5 == 0 else "22")
        trace = Trace(
            Trace.identity(problem.id, teacher, 0, text), problem.id, teacher, 0, text, None, "ungraded", "stop", 9, None, ""
        )
        found.append(trace.graded(NumberGrader()(text, problem)))
    assert {trace.rule for trace in found} >= {"####", "none"}
    assert extract(STATED.format(1)).rule == "####"
    return found


def entry(what: Literal["traces", "answers"], name: str, rung: int | None, written: Sequence[Trace]) -> ReadingsEntry:
    page = None if what == "traces" else f"answers-{name}"
    return ReadingsEntry(what, name, rung, readings(written), page, (source(f"{what}/{name}.parquet", len(written)),))


def wrong(asked: Sequence[Problem], rung: int, name: str, teacher: str, doubted: int) -> tuple[DoubtsEntry, Evidence]:
    """The wrong traces of an arm; `doubted` of them state the gold answer after all."""
    by_id = {problem.id: problem for problem in asked}
    written = [trace for trace in traces(asked, teacher, 0) if trace.verdict != "correct"]
    written = [dataclasses.replace(trace, text="#### 24") if n < doubted else trace for n, trace in enumerate(written)]
    said = [doubt(trace, by_id[trace.problem_id])[0] for trace in written]
    key = f"wrong-{rung}-{name}"
    files = (source(f"rungs/{rung}-{name}/incorrect/dispositions.parquet", len(written)),)
    rows = [EvidenceRow(trace.problem_id, (trace.answer, trace.text), (one,)) for trace, one in zip(written, said, strict=True)]
    page = Evidence(key, f"Wrong traces: {name}", "The wrong traces.", files, ("answer", "what it wrote"), GROUPS, rows)
    problems = tuple(trace.problem_id for trace, one in zip(written, said, strict=True) if one == "doubted")
    doubts = Doubts(len(written), said.count("agreed"), said.count("doubted"), said.count("silent"), problems[:12])
    return DoubtsEntry(rung, "incorrect", doubts, key, files), page


def grading(asked: Sequence[Problem], models: Sequence[str]) -> tuple[Grading, list[Evidence]]:
    """Two rungs: the first one's teacher states its answers, the second one's guesses at a quarter of them."""
    made = [wrong(asked, 0, "small", "teacher", 0), wrong(asked, 1, "medium", "graduate", 3)]
    entries = [
        entry("traces", "teacher", 0, traces(asked, "teacher", 0)),
        entry("traces", "graduate", 1, traces(asked, "graduate", 0.25)),
    ]
    entries += [entry("answers", name, None, traces(asked, name, 0.02)) for name in models]
    return Grading(tuple(entries), tuple(one for one, _ in made), 0.1), [page for _, page in made]
