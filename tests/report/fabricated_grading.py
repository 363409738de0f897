"""How the verdicts of a made-up run came about, counted by the real evaluation."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import fabricated_evidence

from w2sr_jax.answers.extract import extract
from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation.grading import doubt, readings
from w2sr_jax.report.evidence import Evidence, EvidenceRow

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


def entry(what: str, name: str, rung: int | None, written: Sequence[Trace]) -> dict[str, Any]:
    found = readings(written)
    return {
        **dataclasses.asdict(found),
        "guessed": found.guessed,
        "what": what,
        "name": name,
        "rung": rung,
        "evidence": None if what == "traces" else f"answers-{name}",
        "sources": [fabricated_evidence.source(f"{what}/{name}.parquet", len(written))],
    }


def wrong(asked: Sequence[Problem], rung: int, name: str, teacher: str, doubted: int) -> tuple[dict[str, Any], Evidence]:
    """The wrong traces of an arm; `doubted` of them state the gold answer after all."""
    known = {problem.id: problem for problem in asked}
    written = [trace for trace in traces(asked, teacher, 0) if trace.verdict != "correct"]
    written = [dataclasses.replace(trace, text="#### 24") if n < doubted else trace for n, trace in enumerate(written)]
    said = [doubt(trace, known[trace.problem_id])[0] for trace in written]
    key = f"wrong-{rung}-{name}"
    source = fabricated_evidence.source(f"rungs/{rung}-{name}/incorrect/fates.parquet", len(written))
    rows = [EvidenceRow(trace.problem_id, (trace.answer, trace.text), (one,)) for trace, one in zip(written, said, strict=True)]
    page = Evidence(key, f"Wrong traces: {name}", "The wrong traces.", [source], ("answer", "what it wrote"), GROUPS, rows)
    found = {
        "rung": rung,
        "arm": "incorrect",
        "traces": len(written),
        **{group: said.count(group) for group in ("agreed", "doubted", "silent")},
        "problems": [trace.problem_id for trace, one in zip(written, said, strict=True) if one == "doubted"][:12],
        "evidence": key,
        "sources": [source],
    }
    return found, page


def grading(asked: Sequence[Problem], models: Sequence[str]) -> tuple[dict[str, Any], list[Evidence]]:
    """Two rungs: the first one's teacher states its answers, the second one's guesses at a quarter of them."""
    made = [wrong(asked, 0, "small", "teacher", 0), wrong(asked, 1, "medium", "graduate", 3)]
    found = [
        entry("traces", "teacher", 0, traces(asked, "teacher", 0)),
        entry("traces", "graduate", 1, traces(asked, "graduate", 0.25)),
    ]
    found += [entry("answers", name, None, traces(asked, name, 0.02)) for name in models]
    return {"readings": found, "wrong": [one for one, _ in made], "most_guessed": 0.1}, [page for _, page in made]
