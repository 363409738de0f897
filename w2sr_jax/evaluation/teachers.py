"""Teachers side by side on the same problems: how good each is, what they solve together, and how differently they answer.

Answers and texts of different teachers are compared problem by problem, over all pairs of their traces (of texts, at most
`diversity.PAIRS` pairs a problem), and averaged over the problems that both answered. An answer that cannot be read differs from
every other. What needs right and wrong leaves out problems without a gold answer.
"""

import dataclasses
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.evaluation import diversity, ledger, statistics
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Estimate


@dataclasses.dataclass(frozen=True)
class Teacher:
    """One teacher. Shares of nothing are None.

    `accuracy`: share of right traces among the graded (`n`). `coverage`: share of problems with a right trace.
    `own_disagreement`: 1 − Σ_a (n_a/K)², mean over problems with K > 1 traces. `distinct`: distinct n-grams / n-grams over all
    traces, for n = 1, 2, 3; it falls with the amount of text. `self_similarity`: mean Jaccard index of the word 3-grams of two
    traces of one problem. `words`: mean per trace.
    """

    name: str
    traces: int
    accuracy: Estimate
    coverage: float | None
    own_disagreement: float | None
    distinct: Mapping[str, float | None]
    self_similarity: float | None
    words: float | None


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two teachers on the problems both answered.

    `disagreement`: share of pairs of their traces with different answers. `similarity`: mean Jaccard index of word 3-grams.
    `kappa`: error consistency of their first samples. `same_wrong`: share of pairs that are both wrong with the same answer.
    """

    left: str
    right: str
    disagreement: float | None
    similarity: float | None
    kappa: Estimate
    same_wrong: float | None


@dataclasses.dataclass(frozen=True)
class Union:
    """`coverage`: share of problems with a right trace of any teacher."""

    coverage: Estimate


@dataclasses.dataclass(frozen=True)
class Teachers:
    """`problems` counts all given; `rung` and `set` say which they are."""

    rung: int | None
    set: str
    problems: int
    teachers: tuple[Teacher, ...]
    union: Union
    pairs: tuple[Pair, ...]


class _Answers(NamedTuple):
    """What one teacher wrote on one problem, in the order of samples."""

    keys: list[str | None]
    right: list[bool] | None  # None where the problem has no gold answer
    grams: list[set[int]]


def compare(
    traces: Mapping[str, Sequence[Trace]],
    problems: Sequence[Problem],
    settings: Evaluation,
    rung: int | None = None,
    which: str = "probe",
) -> Teachers:
    """The comparison of `traces` by teacher on `problems`; traces of other problems are left out.

    An ungraded trace of a problem with a gold answer is a `UserError`. Time is linear in the number of words.
    """
    graded = {problem.id: problem.answer is not None for problem in problems}
    words = diversity.Words()
    rows, answers = [], {}
    for name, written in traces.items():
        own = sorted((trace for trace in written if trace.problem_id in graded), key=lambda trace: trace.sample)
        texts = [words.read(trace.text) for trace in own]
        grouped: dict[str, list[tuple[Trace, diversity.Ids]]] = defaultdict(list)
        for trace, text in zip(own, texts):
            grouped[trace.problem_id].append((trace, text))
        answers[name] = {problem: _answers(grouped[problem], graded[problem]) for problem in graded if problem in grouped}
        rows.append(_teacher(name, own, texts, answers[name], sum(graded.values()), settings))
    golds = [problem for problem, gold in graded.items() if gold]
    solved = [any(_solved(by_id.get(problem)) for by_id in answers.values()) for problem in golds]
    return Teachers(
        rung=rung,
        set=which,
        problems=len(graded),
        teachers=tuple(rows),
        union=Union(coverage=_ratio([float(s) for s in solved], [1.0] * len(solved), settings)),
        pairs=tuple(_pair(a, b, answers[a], answers[b], settings) for a, b in itertools.combinations(answers, 2)),
    )


def _answers(rows: Sequence[tuple[Trace, diversity.Ids]], graded: bool) -> _Answers:
    for trace, _ in rows:
        if graded and trace.verdict == "ungraded":
            raise UserError(
                f"a trace of {trace.teacher!r} of problem {trace.problem_id} is not graded although there is a gold answer"
            )
    return _Answers(
        [ledger.key(trace) for trace, _ in rows],
        [trace.verdict == "correct" for trace, _ in rows] if graded else None,
        [set(diversity.grams(text, diversity.SIZE).tolist()) for _, text in rows],
    )


def _teacher(
    name: str,
    traces: Sequence[Trace],
    texts: Sequence[diversity.Ids],
    answers: Mapping[str, _Answers],
    golds: int,
    settings: Evaluation,
) -> Teacher:
    several = [one for one in answers.values() if len(one.keys) > 1]
    right = [one.right for one in answers.values() if one.right is not None]
    return Teacher(
        name=name,
        traces=len(traces),
        accuracy=_ratio([float(sum(flags)) for flags in right], [float(len(flags)) for flags in right], settings),
        coverage=round(sum(map(any, right)) / golds, statistics.DIGITS) if golds else None,
        own_disagreement=_mean(1 - _agreement(one.keys, one.keys) for one in several),
        distinct={str(n): diversity.distinct(texts, n) for n in (1, 2, 3)},
        self_similarity=_mean(_similarity(one, one, diversity.own_pairs(len(one.keys))) for one in several),
        words=_mean(float(len(text)) for text in texts),
    )


def _pair(left: str, right: str, a: Mapping[str, _Answers], b: Mapping[str, _Answers], settings: Evaluation) -> Pair:
    both = [(a[problem], b[problem]) for problem in a if problem in b]
    first = [(float(x.right[0]), float(y.right[0])) for x, y in both if x.right is not None and y.right is not None]
    one, other = zip(*first) if first else ((), ())
    return Pair(
        left=left,
        right=right,
        disagreement=_mean(1 - _agreement(x.keys, y.keys) for x, y in both),
        similarity=_mean(_similarity(x, y, diversity.pairs(len(x.keys), len(y.keys))) for x, y in both),
        kappa=statistics.kappa(one, other, settings) if first else _NONE,
        same_wrong=_mean(_agreement(_wrong(x), _wrong(y)) for x, y in both if x.right is not None and y.right is not None),
    )


_NONE = Estimate(value=None, low=None, high=None, n=0)


def _agreement(left: Sequence[str | None], right: Sequence[str | None]) -> float:
    """Share of pairs, one of each side, that give the same answer."""
    others = Counter(right)
    return sum(n * others[key] for key, n in Counter(left).items() if key is not None) / (len(left) * len(right))


def _wrong(answers: _Answers) -> list[str | None]:
    """The wrong answers, with None instead of right ones."""
    return [None if key == ledger.RIGHT else key for key in answers.keys]


def _similarity(left: _Answers, right: _Answers, pairs: Sequence[tuple[int, int]]) -> float:
    return sum(diversity.jaccard(left.grams[i], right.grams[j]) for i, j in pairs) / len(pairs)


def _solved(answers: _Answers | None) -> bool:
    return answers is not None and answers.right is not None and any(answers.right)


def _ratio(numerators: Sequence[float], denominators: Sequence[float], settings: Evaluation) -> Estimate:
    return statistics.ratio(numerators, denominators, settings) if denominators else _NONE


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return round(float(np.mean(numbers)), statistics.DIGITS) if numbers else None
