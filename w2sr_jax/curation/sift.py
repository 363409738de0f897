"""What an arm makes of the traces of one problem, step by step: the arms of the weak-to-strong protocol (arXiv 2505.20072) and
majority agreement.

All arms pass the same steps and differ in one: `all` never looks at verdicts, `correct` and `incorrect` keep one verdict each,
`majority` keeps traces whose answer most of the problem's traces agree on. Up to `per_problem` traces are then drawn.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.answers.same import Equality
from w2sr_jax.core import keys
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.fates import KEPT, Fate
from w2sr_jax.curation.settings import NAMES, Arm, Curation
from w2sr_jax.problems.splits import Known

Reason = Callable[[Candidate], str | None]


class Vote(NamedTuple):
    """What a problem's traces agree on: the spellings of the answer most voted for (none where two tie), and its share of all
    votes."""

    answers: frozenset[str]
    share: float


class Sieve:
    """One problem's candidates on their way through the steps: those `left`, how many after each step, and every rejection."""

    def __init__(self, traces: Sequence[Candidate]) -> None:
        self.left = list(traces)
        self.steps: list[tuple[str, int]] = [("given", len(traces))]
        self.rejected: list[tuple[Candidate, str, str]] = []

    def step(self, name: str, reason: Reason) -> None:
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

    def fates(self, arm: str) -> list[Fate]:
        """What became of each trace given, sorted by trace."""
        last = self.steps[-1][0]
        ends = [*self.rejected, *((trace, last, KEPT) for trace in self.left)]
        found = [Fate(trace.id, trace.problem_id, arm, step, reason) for trace, step, reason in ends]
        return sorted(found, key=lambda fate: (fate.trace_id, fate.step, fate.reason))


def sift(
    problem: Problem | None,
    given: Sequence[Candidate],
    arm: Arm,
    settings: Curation,
    weights: Mapping[str, float],
    forbidden: Known | None,
    equality: Equality,
) -> Sieve:
    """All steps but the limit of all examples. The order of `given` does not matter; without a problem nothing is kept."""
    sieve = Sieve(sorted(given, key=lambda trace: rank(trace, settings, weights)))
    sieve.step("of these problems and teachers", _belongs(problem, weights))
    voters = [trace for trace in sieve.left if trace.finish == "stop"]  # what was cut off has stated nothing
    sieve.step("finished", lambda t: "unfinished" if t.finish == "length" and not settings.keep_unfinished else None)
    sieve.step("within the length limits", _fits(settings))
    if not settings.keep_loops:
        sieve.step("not looping", lambda trace: "looping" if trace.looping else None)
    if forbidden is not None:
        known = problem is not None and bool(sieve.left) and forbidden.match(problem) is not None
        sieve.step("not a test question", lambda _: "contaminated" if known else None)
    sieve.step("distinct", _distinct())
    if arm != "all":
        sieve.step(f"arm {NAMES[arm]}", _arm(arm, settings, voters, weights, equality))
    sieve.step("drawn per problem", _quota(settings.per_problem))
    return sieve


def rank(trace: Candidate | Trace, settings: Curation, weights: Mapping[str, float]) -> tuple[float, str]:
    """The order in which traces of a problem are drawn: random, and with odds `weights` where these are for mixing, since taking
    the lowest ranks draws without replacement with such odds (Efraimidis and Spirakis 2006)."""
    weight = weights.get(trace.teacher, 1.0) if settings.weighting == "mix" else 1.0
    uniform = (keys.words(settings.seed, "curation", trace.id)[0] + 0.5) / 2**32
    return -math.log(uniform) / weight if weight else math.inf, trace.id


def vote(traces: Sequence[Candidate], equality: Equality, weights: Mapping[str, float] | None = None) -> Vote:
    """The vote of one problem's traces. Answers that `equality` joins are one; unreadable ones count in the total alone. A
    trace's vote is its teacher's weight."""
    ballots = [(trace.answer, (weights or {}).get(trace.teacher, 1.0)) for trace in traces]
    answers = sorted({answer for answer, _ in ballots if answer is not None})
    blocs = dict(zip(answers, equality.groups(answers), strict=True))
    counts: dict[str, float] = defaultdict(float)
    for answer, weight in ballots:
        if answer is not None:
            counts[blocs[answer]] += weight
    ranked = sorted(counts.items(), key=lambda item: -item[1])[:2]
    total = sum(weight for _, weight in ballots)
    if not ranked or not total or (len(ranked) == 2 and math.isclose(ranked[0][1], ranked[1][1])):
        return Vote(frozenset(), 0.0)
    return Vote(frozenset(answer for answer, bloc in blocs.items() if bloc == ranked[0][0]), ranked[0][1] / total)


def _belongs(problem: Problem | None, weights: Mapping[str, float]) -> Reason:
    def reason(trace: Candidate) -> str | None:
        if problem is None:
            return "unknown_problem"
        if weights.get(trace.teacher, 1.0) == 0:
            return "teacher_of_weight_0"
        return "empty" if trace.empty else None

    return reason


def _fits(settings: Curation) -> Reason:
    def reason(trace: Candidate) -> str | None:
        if settings.max_characters and trace.characters > settings.max_characters:
            return "over_characters"
        return "over_tokens" if settings.max_tokens and trace.tokens > settings.max_tokens else None

    return reason


def _distinct() -> Reason:
    seen: set[bytes] = set()

    def reason(trace: Candidate) -> str | None:
        if trace.content in seen:
            return "duplicate"
        seen.add(trace.content)
        return None

    return reason


def _arm(arm: Arm, settings: Curation, voters: Sequence[Candidate], weights: Mapping[str, float], equality: Equality) -> Reason:
    if arm == "majority":
        agreed = vote(voters, equality, weights)

        def agrees(trace: Candidate) -> str | None:
            if trace.answer is None:
                return "unparsed"
            if not agreed.answers or agreed.share < settings.majority_threshold or len(voters) < settings.majority_votes:
                return "no_majority"
            return None if trace.answer in agreed.answers else "minority_answer"

        return agrees
    wanted = {"correct"} if arm == "correct" else {"incorrect", *(["unparsed"] if settings.unparsed_is_incorrect else [])}
    return lambda trace: None if trace.verdict in wanted else str(trace.verdict)


def _quota(per_problem: int) -> Reason:
    taken = 0

    def reason(_: Candidate) -> str | None:
        nonlocal taken
        taken += 1
        return None if taken <= per_problem else "over_quota"

    return reason
