"""What curation did: traces left after each step, rejections by reason, and how the problems changed."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from w2sr_jax.core.codec import LeftOut
from w2sr_jax.core.records import Problem
from w2sr_jax.curation.candidates import Candidate

_MEASURES = ("operations", "numbers", "level")
_NAMES = (*_MEASURES, "solve rate", "question words")
_BY = ("operations", "level", "solve rate")
"""The measures that histograms may be by."""


@dataclasses.dataclass(frozen=True)
class Step:
    """A step of curation, and how many traces are left after it."""

    name: str
    count: int


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """Means of what is known of the problems `before` and `after` curation: `operations`, `numbers` (the largest used), `level`,
    `solve rate` of the teachers, `question words`."""

    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Histogram:
    """Counts of problems `before` and `after` curation, `by` the first of operations, level and solve rate that is known."""

    by: str
    before: Mapping[str, int]
    after: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Control:
    """How a control was made from the arm `of`: how many `examples` it has and how many that arm (`wanted`), the tokens of the
    responses of both, how many of the examples are graded correct, and what else its selection counts, by name."""

    of: str
    examples: int
    wanted: int
    tokens: int
    tokens_wanted: int
    correct: int
    counts: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Funnel:
    """Curation of one arm. `given` = `kept` + all `rejections`. `steps` holds the traces left after each step in turn.

    `teacher_accuracy` is the share of correct traces among the graded ones that are kept (None where none is), and
    `teacher_accuracy_before` the same of all traces; `kept_by_teacher` and `accuracy_by_teacher` are of the kept ones. `problems`
    are those with a kept trace. `tokens` is the sum over kept traces where tokens are known. `pairs` counts those that were made
    of traces, where such are; their chosen traces are kept, their others among the rejections. `control` is there for an arm that
    is made from another; one of worked solutions has examples and keeps no trace.
    """

    arm: str
    name: str
    given: int
    kept: int
    steps: tuple[Step, ...]
    rejections: Mapping[str, int]
    difficulty: Difficulty
    histogram: Histogram
    teacher_accuracy: float | None
    teacher_accuracy_before: float | None
    kept_by_teacher: Mapping[str, int]
    accuracy_by_teacher: Mapping[str, float | None]
    problems: int
    problems_before: int
    tokens: LeftOut[int | None] = None
    pairs: LeftOut[int | None] = None
    control: LeftOut[Control | None] = None


@dataclasses.dataclass
class Shares:
    """Counts of traces: all, those with gold, and those of them that are correct; an answer that cannot be read is not."""

    traces: int = 0
    graded: int = 0
    correct: int = 0

    @classmethod
    def of(cls, traces: Iterable[Candidate]) -> "Shares":
        shares = cls()
        for trace in traces:
            shares.add(trace)
        return shares

    def add(self, trace: Candidate) -> None:
        self.traces += 1
        self.graded += trace.verdict != "ungraded"
        self.correct += trace.verdict == "correct"

    @property
    def share(self) -> float | None:
        """Of correct traces among the graded ones; None where there is none."""
        return self.correct / self.graded if self.graded else None


class Tally:
    """Adds up what a funnel says of traces before or after it, and of their problems, problem by problem."""

    def __init__(self) -> None:
        self.shares = Shares()
        self.by_teacher: dict[str, Shares] = defaultdict(Shares)
        self.tokens = 0
        self.problems = 0
        self._sums: dict[str, tuple[float, int]] = {}
        self._histograms: dict[str, Counter[str]] = {by: Counter() for by in _BY}

    @property
    def traces(self) -> int:
        return self.shares.traces

    def add(self, problem: Problem | None, rate: float | None, traces: Sequence[Candidate]) -> None:
        """A problem's traces; `rate` is the teachers' solve rate over all that they wrote to it. Without a problem, only traces
        count."""
        for trace in traces:
            self.shares.add(trace)
            self.by_teacher[trace.teacher].add(trace)
            self.tokens += trace.tokens
        if problem is None:
            return
        self.problems += 1
        measured = {name: float(problem.meta[name]) for name in _MEASURES if _is_number(problem.meta.get(name))}
        measured |= {} if rate is None else {"solve rate": rate}
        measured["question words"] = float(len(problem.question.split()))
        for name, value in measured.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = total + value, count + 1
        for by, histogram in self._histograms.items():
            histogram[_bucket(by, measured[by]) if by in measured else "unknown"] += 1

    def means(self) -> dict[str, float]:
        """Means of what is known of the problems that were added."""
        return {name: self._sums[name][0] / self._sums[name][1] for name in _NAMES if name in self._sums}

    def measure(self) -> str:
        """The first measure for histograms that is known of any of the problems."""
        return next((name for name in _BY if name in self._sums), _BY[-1])

    def histogram(self, by: str) -> dict[str, int]:
        """Counts of the problems by a measure."""
        return dict(sorted(self._histograms[by].items()))


def between(arm: str, label: str, steps: Mapping[str, int], rejections: Mapping[str, int], before: Tally, after: Tally) -> Funnel:
    """The funnel of an arm from what was there before its steps and after them. `steps` has what each left, `rejections` why
    traces were left out."""
    by = before.measure()
    return Funnel(
        arm=arm,
        name=label,
        given=before.traces,
        kept=after.traces,
        steps=tuple(Step(name, count) for name, count in steps.items()),
        rejections=dict(sorted(rejections.items())),
        difficulty=Difficulty(before.means(), after.means()),
        histogram=Histogram(by, before.histogram(by), after.histogram(by)),
        teacher_accuracy=after.shares.share,
        teacher_accuracy_before=before.shares.share,
        kept_by_teacher={teacher: shares.traces for teacher, shares in sorted(after.by_teacher.items())},
        accuracy_by_teacher={teacher: shares.share for teacher, shares in sorted(after.by_teacher.items())},
        problems=after.problems,
        problems_before=before.problems,
        tokens=after.tokens or None,
    )


def _bucket(by: str, value: float) -> str:
    return _rate_bucket(value) if by == "solve rate" else f"{value:g}"


def _rate_bucket(rate: float) -> str:
    if rate in (0.0, 1.0):
        return f"{rate:.0%}"
    return "1-33%" if rate <= 1 / 3 else "34-66%" if rate <= 2 / 3 else "67-99%"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
