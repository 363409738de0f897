"""Answers that were recorded before the run: any number of them to a problem, and not to every problem."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.process import Rate, process
from w2sr_jax.evaluation.scores import Scores
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Reals


class Answered(NamedTuple):
    """`indices` of the problems that have answers, among those with a gold answer and in their order, and the share of right
    answers to each."""

    indices: NDArray[np.int64]
    shares: Reals


def answered(problems: Sequence[Problem], traces: Sequence[Trace]) -> Answered:
    """Which problems the traces answer, and how well. Problems without a gold answer do not count, nor do ungraded traces."""
    groups = by_problem(traces)
    graded = [problem for problem in problems if problem.answer is not None]
    indices = [index for index, problem in enumerate(graded) if problem.id in groups]
    shares = [float(np.mean([trace.verdict == "correct" for trace in groups[graded[index].id]])) for index in indices]
    return Answered(np.array(indices, np.int64), np.array(shares, np.float64))


def by_problem(traces: Sequence[Trace]) -> dict[str, list[Trace]]:
    """The graded traces of each problem, in the order of their samples."""
    groups: dict[str, list[Trace]] = {}
    for trace in sorted(traces, key=lambda trace: trace.sample):
        if trace.verdict != "ungraded":
            groups.setdefault(trace.problem_id, []).append(trace)
    return groups


def unanimous(traces: Sequence[Trace]) -> dict[str, bool]:
    """Which problems are answered rightly; those whose answers are partly right are left out."""
    groups = {key: {trace.verdict == "correct" for trace in group} for key, group in by_problem(traces).items()}
    return {key: verdicts.pop() for key, verdicts in groups.items() if len(verdicts) == 1}


def score_answers(problems: Sequence[Problem], traces: Sequence[Trace], settings: Evaluation) -> Scores | None:
    """Scores over the problems that have answers, a problem's being the mean over its answers; None where there are none.
    Nothing is said of k samples, since the answers to one problem may be more than those to another."""
    graded = {problem.id for problem in problems if problem.answer is not None}
    groups = {key: group for key, group in by_problem(traces).items() if key in graded}
    if not groups:
        return None
    shares = answered(problems, traces).shares
    counted = [trace for group in groups.values() for trace in group]
    several = [trace for group in groups.values() if len(group) > 1 for trace in group]
    tokens = [trace.tokens for trace in counted if trace.tokens > 0]
    return Scores(
        problems=len(groups),
        ungraded=len({trace.problem_id for trace in traces} - set(groups)),
        seeds=1,
        accuracy=statistics.interval(shares, settings),
        by_seed=(round(float(shares.mean()), statistics.DIGITS),),
        avg_at_k=None,
        pass_at_k=(),
        maj_at_k=(),
        unparsed=Rate(value=sum(trace.verdict == "unparsed" for trace in counted) / len(counted), n=len(counted)),
        process=process(counted, several),
        mean_tokens=sum(tokens) / len(tokens) if tokens else None,
        confidence=settings.confidence,
    )
