"""Test problems with what models wrote to them."""

import dataclasses

from markupsafe import Markup

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.results import Results, Sample, SampleTrace

MOST_SAMPLES = 12
OPEN_SAMPLES = 4
MOST_TRACES = 8
LONGEST_TRACE = 6000
LONGEST_QUESTION = 3000


@dataclasses.dataclass(frozen=True)
class TraceView:
    """`text` is HTML, its equations marked."""

    model: str
    role: str
    verdict: str
    rule: str
    finish: str
    text: Markup


@dataclasses.dataclass(frozen=True)
class SampleView:
    """`question_left` and `traces_left` say how many characters and traces are not shown."""

    id: str
    question: str
    question_left: int
    answer: str | None
    traces: list[TraceView]
    traces_left: int


def views(results: Results) -> list[SampleView]:
    """The samples that the page shows."""
    return [_view(results, sample) for sample in results.samples[:MOST_SAMPLES]]


def _view(results: Results, sample: Sample) -> SampleView:
    question, left_out = hostile.capped(sample.problem.question, LONGEST_QUESTION)
    return SampleView(
        id=sample.problem.id,
        question=question,
        question_left=left_out,
        answer=sample.problem.answer,
        traces=[_trace(results, trace) for trace in sample.traces[:MOST_TRACES]],
        traces_left=max(0, len(sample.traces) - MOST_TRACES),
    )


def _trace(results: Results, trace: SampleTrace) -> TraceView:
    return TraceView(
        model=wording.model_title(results, trace.model),
        role=wording.ROLES.get(trace.role, trace.role),
        verdict=trace.verdict,
        rule=trace.rule,
        finish=trace.finish,
        text=hostile.marked(trace.text, trace.steps, LONGEST_TRACE),
    )
