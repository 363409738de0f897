"""What curation did: traces left after each step, rejections by reason, and how the problems changed."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.fates import KEPT, Fate
from w2sr_jax.records import Problem

_MEASURES = ("operations", "numbers", "level")


@dataclasses.dataclass(frozen=True)
class Difficulty:
    """Of a set of problems: means of what is known of each (`operations`, `numbers`: the largest used, `level`, `solve rate` of
    the teachers, `question words`), and counts of problems by `by`: the first of operations, level and solve rate known."""

    problems: int
    means: Mapping[str, float | None]
    by: str
    histogram: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Funnel:
    """Curation of one arm. `given` = `kept` + all `rejections`. `steps` holds the traces left after each step in turn.

    `accuracy_*` are the shares of correct traces among graded ones (None where none is); `kept_by_teacher` and
    `accuracy_by_teacher` are of the kept traces. `tokens` is their sum where tokens are known. `fates` tell of each trace given,
    sorted by problem and trace, what `rejections` count.
    """

    arm: str
    name: str
    given: int
    kept: int
    steps: tuple[tuple[str, int], ...]
    rejections: Mapping[str, int]
    before: Difficulty
    after: Difficulty
    accuracy_before: float | None
    accuracy_after: float | None
    kept_by_teacher: Mapping[str, int]
    accuracy_by_teacher: Mapping[str, float | None]
    tokens: int | None
    fates: tuple[Fate, ...]

    def summary(self) -> dict[str, Any]:
        """JSON for the report: `steps`, `rejections`, `difficulty` before and after, `teacher_accuracy`, counts; no fates."""
        summary = {
            "arm": self.arm,
            "name": self.name,
            "given": self.given,
            "kept": self.kept,
            "steps": [{"name": name, "count": count} for name, count in self.steps],
            "rejections": dict(self.rejections),
            "difficulty": {"before": dict(self.before.means), "after": dict(self.after.means)},
            "histogram": {"by": self.before.by, "before": dict(self.before.histogram), "after": dict(self.after.histogram)},
            "teacher_accuracy": self.accuracy_after,
            "teacher_accuracy_before": self.accuracy_before,
            "kept_by_teacher": dict(self.kept_by_teacher),
            "accuracy_by_teacher": dict(self.accuracy_by_teacher),
            "problems": self.after.problems,
            "problems_before": self.before.problems,
            "tokens": self.tokens,
        }
        return {name: value for name, value in summary.items() if value is not None or name.startswith("teacher_accuracy")}


class Sieve:
    """Candidates on their way through the steps, with every rejection noted and counted."""

    def __init__(self, traces: Sequence[Candidate]) -> None:
        self.left = list(traces)
        self.steps: list[tuple[str, int]] = [("given", len(traces))]
        self.rejected: list[tuple[Candidate, str, str]] = []

    @property
    def rejections(self) -> Counter[str]:
        """How many traces were rejected for each reason."""
        return Counter(reason for _, _, reason in self.rejected)

    def step(self, name: str, reason: Callable[[Candidate], str | None]) -> None:
        """Keep the traces for which `reason` is None, asked in order; note the others with the reason."""
        kept = []
        for trace in self.left:
            rejected = reason(trace)
            if rejected is None:
                kept.append(trace)
            else:
                self.rejected.append((trace, name, rejected))
        self.left = kept
        self.steps.append((name, len(kept)))

    def fates(self, arm: str) -> tuple[Fate, ...]:
        """What became of each trace given, sorted by problem and trace."""
        last = self.steps[-1][0]
        ends = [*self.rejected, *((trace, last, KEPT) for trace in self.left)]
        found = [Fate(trace.id, trace.problem_id, arm, step, reason) for trace, step, reason in ends]
        return tuple(sorted(found, key=lambda fate: (fate.problem_id, fate.trace_id, fate.step, fate.reason)))

    def emptied_by(self) -> str:
        """The first step after which nothing was left."""
        return next(name for name, count in self.steps if count == 0)


def accuracy(traces: Iterable[Candidate]) -> float | None:
    """Share of correct traces among those with gold; an answer that cannot be read is not a correct one."""
    graded = [trace.verdict == "correct" for trace in traces if trace.verdict != "ungraded"]
    return sum(graded) / len(graded) if graded else None


def solve_rates(traces: Iterable[Candidate]) -> dict[str, float]:
    """Per problem id the share of correct traces; problems without graded traces are absent."""
    by_problem: dict[str, list[Candidate]] = defaultdict(list)
    for trace in traces:
        by_problem[trace.problem_id].append(trace)
    rates = {problem: accuracy(rows) for problem, rows in by_problem.items()}
    return {problem: rate for problem, rate in rates.items() if rate is not None}


def difficulty(problems: Sequence[Problem], rates: Mapping[str, float]) -> Difficulty:
    """Of distinct problems; `rates` are the teachers' solve rates over all their traces."""
    values: dict[str, list[float]] = {}
    for measure in _MEASURES:
        values[measure] = [float(p.meta[measure]) for p in problems if _is_number(p.meta.get(measure))]
    values["solve rate"] = [rates[p.id] for p in problems if p.id in rates]
    values["question words"] = [float(len(p.question.split())) for p in problems]
    means = {name: sum(rows) / len(rows) for name, rows in values.items() if rows}
    by = next((name for name in ("operations", "level", "solve rate") if values[name]), "solve rate")
    return Difficulty(len(problems), means, by, _histogram(problems, by, rates))


def _histogram(problems: Sequence[Problem], by: str, rates: Mapping[str, float]) -> dict[str, int]:
    if by == "solve rate":
        buckets = Counter(_rate_bucket(rates[p.id]) if p.id in rates else "unknown" for p in problems)
    else:
        buckets = Counter(f"{p.meta[by]:g}" if _is_number(p.meta.get(by)) else "unknown" for p in problems)
    return dict(sorted(buckets.items()))


def _rate_bucket(rate: float) -> str:
    if rate in (0.0, 1.0):
        return f"{rate:.0%}"
    return "1-33%" if rate <= 1 / 3 else "34-66%" if rate <= 2 / 3 else "67-99%"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
