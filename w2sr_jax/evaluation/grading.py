"""How verdicts came about: which rule found each answer, what compared it, and what a second opinion says of the wrong ones."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from w2sr_jax.answers.extract import guessed
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
    """How the answers of `texts` texts were read, and how many were guessed: by which rules, the most frequent first, and how
    often each grader compared them with gold (or why none did)."""

    texts: int
    guessed: int
    rules: tuple[RuleCount, ...]
    graders: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Doubts:
    """A second opinion on `traces` wrong traces: incorrect for it too (`agreed`), correct for it (`doubted`), or none
    (`silent`). `problems` are the first ones with a doubted trace."""

    traces: int
    agreed: int
    doubted: int
    silent: int
    problems: tuple[str, ...]


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
        guesses.total(),
        tuple(sorted(counts, key=lambda count: (-count.n, count.rule))),
        dict(sorted(graders.items(), key=lambda item: (-item[1], item[0]))),
    )


def doubt(trace: Trace, problem: Problem) -> tuple[Doubt, Opinion]:
    """What a second opinion says of a trace that was graded incorrect: `agreed` that it is, `doubted` (it finds the gold answer),
    or nothing."""
    opinion = second_opinion(trace.text, problem.answer)
    return ("silent" if opinion.verdict is None else "doubted" if opinion.verdict == "correct" else "agreed"), opinion
