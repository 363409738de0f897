"""How verdicts came about: which rule found each answer, what compared it, and what a second opinion says of the wrong ones."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from w2sr_jax.answers.guesses import guessed
from w2sr_jax.answers.second import Opinion, second_opinion
from w2sr_jax.core.records import Problem, Trace

Doubt = Literal["agreed", "doubted", "silent"]


@dataclasses.dataclass(frozen=True)
class RuleCount:
    """How many answers a rule found, how many of them were guessed, and how many are right."""

    rule: str
    n: int
    guessed: int
    correct: int


@dataclasses.dataclass(frozen=True)
class Readings:
    """How the answers of `texts` texts were read: by which rules, the most frequent first, and what compared them with gold."""

    texts: int
    rules: tuple[RuleCount, ...]
    graders: Mapping[str, int]

    @property
    def guessed(self) -> int:
        return sum(rule.guessed for rule in self.rules)


def readings(traces: Iterable[Trace]) -> Readings:
    """Counts of traces that were graded; one without a rule was not."""
    rules: Counter[str] = Counter()
    guesses: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    graders: Counter[str] = Counter()
    for trace in traces:
        if not trace.rule or trace.verdict == "ungraded":
            continue
        rules[trace.rule] += 1
        graders[trace.grader or "unknown"] += 1
        guesses[trace.rule] += guessed(trace.text, trace.answer, trace.rule)
        correct[trace.rule] += trace.verdict == "correct"
    counts = (RuleCount(rule, n, guesses[rule], correct[rule]) for rule, n in rules.items())
    return Readings(
        rules.total(),
        tuple(sorted(counts, key=lambda count: (-count.n, count.rule))),
        dict(sorted(graders.items(), key=lambda item: (-item[1], item[0]))),
    )


def doubt(trace: Trace, problem: Problem) -> tuple[Doubt, Opinion]:
    """What a second opinion says of a trace that was graded incorrect: `agreed` that it is, `doubted` (it finds the gold answer),
    or nothing."""
    opinion = second_opinion(trace.text, problem.answer)
    return ("silent" if opinion.verdict is None else "doubted" if opinion.verdict == "correct" else "agreed"), opinion
