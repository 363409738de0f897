"""A model's scores on the test problems (`scores.json`), and a student's comparison with its teacher, base and ceiling."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from w2sr_jax.answers.equality import Equality
from w2sr_jax.core.codec import LeftOut
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import at_k, process, statistics
from w2sr_jax.evaluation.ledger import RIGHT
from w2sr_jax.evaluation.process import Process, Rate
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Difference, Gap, Interval, Reals


class Generations(NamedTuple):
    """What one model (of one seed) answered: one greedy trace per problem, and as many samples for each as for the others."""

    problems: Sequence[Problem]
    greedy: Sequence[Trace]
    samples: Sequence[Trace] = ()


@dataclasses.dataclass(frozen=True)
class AtK(Interval):
    """Of `k` samples per problem."""

    k: int


@dataclasses.dataclass(frozen=True)
class Scores:
    """`problems` counts those with a gold answer, `ungraded` those left out without one. Without samples @k is empty."""

    problems: int
    ungraded: int
    seeds: int
    accuracy: Interval
    by_seed: tuple[float, ...]
    avg_at_k: AtK | None
    pass_at_k: tuple[AtK, ...]
    maj_at_k: tuple[AtK, ...]
    unparsed: Rate
    process: Process
    mean_tokens: float | None
    confidence: float


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Likelihood of the teachers' held-out traces: nats per token of the model, and of a unigram model of its training data; None
    where there is no such trace."""

    nll: float | None
    unigram: float | None
    traces: int
    tokens: int

    @classmethod
    def pooled(cls, seeds: Sequence["HeldOut"]) -> "HeldOut | None":
        """Means over the seeds that have such traces, and sums of their counts; None where none has."""
        rows = [(one.nll, one.unigram, one) for one in seeds if one.nll is not None and one.unigram is not None]
        if not rows:
            return None
        return cls(
            nll=fmean(nll for nll, _, _ in rows),
            unigram=fmean(unigram for _, unigram, _ in rows),
            traces=sum(one.traces for _, _, one in rows),
            tokens=sum(one.tokens for _, _, one in rows),
        )


@dataclasses.dataclass(frozen=True)
class Reinforced:
    """One student against the student of a reinforcement arm, `arm`, of its rung. The gaps have that one as their ceiling: RGR as
    arXiv 2505.20072 has it, against the student's own base and against the teacher; None where the other was not evaluated."""

    arm: str
    difference: Difference
    rgr_base: Gap | None
    rgr_teacher: Gap | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One student against the others on the same problems; None where the other was not evaluated. `teacher` names the one that
    it is held against: of several the best. `vs_before` is against the student of the arm `before`, which its own goes on from;
    `reinforced` against the rung's reinforcement arms, which are ceilings beside gold SFT."""

    vs_teacher: Difference | None
    vs_base: Difference | None
    vs_ceiling: Difference | None
    rgr_base: Gap | None
    pgr: Gap | None
    ceiling: str
    teacher: str | None
    confidence: float
    before: LeftOut[str | None] = None
    vs_before: LeftOut[Difference | None] = None
    reinforced: LeftOut[tuple[Reinforced, ...]] = ()


def score(problems: Sequence[Problem], greedy: Sequence[Trace], samples: Sequence[Trace], settings: Evaluation) -> Scores:
    """Scores of one model. Traces must be graded; a missing or doubled greedy trace is a `UserError`."""
    return score_seeds([Generations(problems, greedy, samples)], settings)


def score_seeds(runs: Sequence[Generations], settings: Evaluation) -> Scores:
    """Scores of one model trained with several seeds, pooled; each run must have as many graded problems as the others."""
    if not runs:
        raise UserError("there are no generations to score")
    graded = [_graded(run) for run in runs]
    sizes = {len(run.problems) for run in graded}
    if len(sizes) > 1:
        raise UserError(f"seeds can only be pooled over equally many test problems; they have {sorted(sizes)}")
    correct = np.stack([outcomes(run.problems, run.greedy) for run in graded])
    traces = [trace for run in graded for trace in run.greedy]
    sampled = [_by_problem(run) for run in graded]
    counts = {len(group) for groups in sampled for group in groups}
    if len(counts) > 1:
        raise UserError(f"every problem needs the same number of samples; there are between {min(counts)} and {max(counts)}")
    n = counts.pop()
    ks = [k for k in (2**i for i in range(n.bit_length())) if k < n] + [n] if n else []
    with Equality() as equality:
        cast = [[(process.votes(group, equality), len(group)) for group in groups] for groups in sampled]
    by_sample = [trace for run in graded for trace in run.samples]
    tokens = [trace.tokens for trace in traces if trace.tokens > 0]
    return Scores(
        problems=sizes.pop(),
        ungraded=sum(len(run.problems) for run in runs) - sum(len(run.problems) for run in graded),
        seeds=len(runs),
        accuracy=statistics.interval(correct, settings),
        by_seed=tuple(round(float(x), statistics.DIGITS) for x in correct.mean(axis=1)),
        avg_at_k=_at_k(n, [[_average(group) for group in groups] for groups in sampled], settings) if n else None,
        pass_at_k=tuple(_at_k(k, [[_pass(group, k) for group in groups] for groups in sampled], settings) for k in ks),
        maj_at_k=tuple(_at_k(k, [[_majority(*ballot, k) for ballot in ballots] for ballots in cast], settings) for k in ks),
        unparsed=Rate(value=sum(trace.verdict == "unparsed" for trace in traces) / len(traces), n=len(traces)),
        process=_process(graded, traces, by_sample),
        mean_tokens=sum(tokens) / len(tokens) if tokens else None,
        confidence=settings.confidence,
    )


def outcomes(problems: Sequence[Problem], traces: Sequence[Trace]) -> Reals:
    """1.0 where the greedy trace is right, else 0.0, in the problems' order; problems without a gold answer are left out."""
    by_id = {trace.problem_id: trace for trace in traces}
    if len(by_id) != len(traces):
        raise UserError(f"there are {len(traces)} greedy traces for {len(by_id)} problems; one each is needed")
    graded = [problem for problem in problems if problem.answer is not None]
    for problem in graded:
        if problem.id not in by_id:
            raise UserError(f"problem {problem.id} has no greedy trace among the {len(traces)} given")
        if by_id[problem.id].verdict == "ungraded":
            raise UserError(f"the trace of problem {problem.id} is not graded although the problem has a gold answer")
    return np.array([float(by_id[problem.id].verdict == "correct") for problem in graded])


def compare(
    student: ArrayLike,
    teacher: ArrayLike | None,
    base: ArrayLike | None,
    ceiling: ArrayLike | None,
    settings: Evaluation,
    ceiling_name: str = "gold SFT",
    teacher_name: str | None = None,
    columns: ArrayLike | None = None,
    before: tuple[str, ArrayLike] | None = None,
    reinforced: Mapping[str, ArrayLike] | None = None,
) -> Comparison:
    """One student against its teacher, its own base and the ceiling: score vectors `[problems]` or `[seeds, problems]`.

    A teacher may have scores for some of the problems only: `columns` are the indices of these, and it is compared on them alone.
    `before` is the arm that the student's goes on from, `reinforced` are reinforcement arms, each with the scores of its student.
    """

    def shared(scores: ArrayLike) -> ArrayLike:
        return scores if columns is None else np.asarray(scores)[..., np.asarray(columns)]

    def difference(other: ArrayLike | None) -> Difference | None:
        return None if other is None else statistics.paired(student, other, settings)

    def from_base(top: ArrayLike | None) -> Gap | None:
        return None if base is None or top is None else statistics.gap_recovered(student, base, top, settings)

    def from_teacher(top: ArrayLike | None) -> Gap | None:
        if teacher is None or top is None:
            return None
        return statistics.gap_recovered(shared(student), teacher, shared(top), settings)

    return Comparison(
        vs_teacher=None if teacher is None else statistics.paired(shared(student), teacher, settings),
        vs_base=difference(base),
        vs_ceiling=difference(ceiling),
        rgr_base=from_base(ceiling),
        pgr=from_teacher(ceiling),
        ceiling=ceiling_name,
        teacher=teacher_name,
        confidence=settings.confidence,
        before=None if before is None else before[0],
        vs_before=None if before is None else statistics.paired(student, before[1], settings),
        reinforced=tuple(
            Reinforced(arm, statistics.paired(student, top, settings), from_base(top), from_teacher(top))
            for arm, top in (reinforced or {}).items()
        ),
    )


def _graded(run: Generations) -> Generations:
    problems = [problem for problem in run.problems if problem.answer is not None]
    if not problems:
        raise UserError(f"none of the {len(run.problems)} test problems has a gold answer, so nothing can be scored")
    ids = {problem.id for problem in problems}
    greedy = [trace for trace in run.greedy if trace.problem_id in ids]
    return Generations(problems, greedy, [trace for trace in run.samples if trace.problem_id in ids])


def _by_problem(run: Generations) -> list[list[Trace]]:
    groups: dict[str, list[Trace]] = {problem.id: [] for problem in run.problems}
    for trace in run.samples:
        groups[trace.problem_id].append(trace)
    return list(groups.values())


def _process(runs: Sequence[Generations], traces: Sequence[Trace], samples: Sequence[Trace]) -> Process:
    """Pooled over seeds; self-consistency within each seed, since only samples of one model can agree with each other."""
    if len(runs) > 1 and samples:
        rates = [process.self_consistency(run.samples) for run in runs]
        values = [rate.value for rate in rates if rate.value is not None]
        pooled = Rate(value=float(np.mean(values)), n=sum(rate.n for rate in rates))
        return dataclasses.replace(process.process(traces), self_consistency=pooled)
    return process.process(traces, samples if len(runs) == 1 else ())


def _at_k(k: int, scores: ArrayLike, settings: Evaluation) -> AtK:
    mean = statistics.interval(scores, settings)
    return AtK(mean.value, mean.low, mean.high, mean.n, k)


def _correct(group: Sequence[Trace]) -> int:
    return sum(trace.verdict == "correct" for trace in group)


def _average(group: Sequence[Trace]) -> float:
    return at_k.avg_at_k(len(group), _correct(group))


def _pass(group: Sequence[Trace], k: int) -> float:
    return at_k.pass_at_k(len(group), _correct(group), k)


def _majority(votes: Counter[str], size: int, k: int) -> float:
    wrong = tuple(sorted(count for answer, count in votes.items() if answer != RIGHT))
    return at_k.maj_at_k(votes[RIGHT], wrong, size - votes.total(), k)
