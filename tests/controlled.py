"""Controls of arms, made in memory of traces that were written by hand."""

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.controls import Control, Tools
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.curation.made import Making
from w2sr_jax.curation.select import curate
from w2sr_jax.curation.settings import Curation


@dataclasses.dataclass(frozen=True)
class Made:
    """A control, and the examples of the arm that it is made from."""

    examples: list[Example]
    funnel: Funnel
    dispositions: list[Disposition]
    emptied: str
    arm: list[Example]

    @property
    def counts(self) -> Mapping[str, float]:
        assert self.funnel.control is not None
        return self.funnel.control.counts

    @property
    def traces(self) -> list[str]:
        return sorted(example.trace_id for example in self.examples)

    def reasons(self) -> dict[str, str]:
        return {row.trace_id: row.reason for row in self.dispositions}


CURATION = Curation()


def control(
    select: Control,
    problems: Sequence[Problem],
    traces: Sequence[Trace],
    settings: Curation = CURATION,
    weights: Mapping[str, float] | None = None,
) -> Made:
    """The control of an arm that has a name of its own, such as "correct"."""
    arm = curate(traces, problems, select.of, settings, weights=weights)
    kept = {row.trace_id for row in arm.dispositions if row.reason == "kept"}
    groups: dict[str, list[Trace]] = defaultdict(list)
    for one in traces:
        groups[one.problem_id].append(one)
    ours = [(problem, groups[problem.id]) for problem in problems if problem.id in groups]
    making = Making("control", "Control", select, Tools(settings, grader=NumberGrader()), weights=weights)
    for problem, group in ours:
        making.see(problem, group, list(candidates(group)), kept)
    making.draw()
    rows = [row for problem, group in ours for row in making.dispositions(problem, list(candidates(group)))]
    examples = list(making.examples(ours, {problem.id: problem for problem in problems}))
    return Made(examples, making.funnel(), rows, making.emptied(), arm.examples)
