"""Pairs of a chosen and a rejected trace of one problem: which traces may be which, and which of them are paired.

Where a problem has gold, a correct trace is chosen over an incorrect one. Where it has none, traces vote, and the confidence in
the answer that most agree on is its share of the votes, as in weak-to-strong reasoning without gold (Yang et al. 2024, arXiv
2407.13647): a trace that agrees is chosen over a minority one.
"""

import dataclasses
from collections.abc import Callable
from math import lcm
from typing import Literal

from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import ProblemTraces, Reason, Select
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.settings import Curation
from w2sr_jax.curation.votes import vote

CHOSEN: Literal["chosen"] = "chosen"
REJECTED: Literal["rejected"] = "rejected"


@dataclasses.dataclass(frozen=True)
class Pairs(Select):
    """Pairs of traces of one problem, for training stages that learn from preferences (`experiment.preference.Preference`). The
    traces that the arm keeps are the chosen ones of its pairs, so that an `Imitation()` stage of the arm learns from these.

    `Curation.per_problem` does not count here, and `Curation.limit` is the most pairs in all. Of a problem that has only one of
    the two sides nothing is kept.
    """

    per_problem: int = 1
    """Most pairs of one problem. A trace is in several only where its side has fewer traces than there are pairs."""
    confidence: float = 0.6
    """Without gold: smallest share of the votes for the answer agreed on; a problem below it has no pair."""
    rejection: float = 0.8
    """Without gold: smallest such share at which a trace that disagrees, of a teacher that has no vote, is rejected. A minority
    trace among those that have one is rejected at `confidence`."""
    voters: tuple[str, ...] = ()
    """Without gold: the teachers whose traces vote, such as a Graduate that is the student as it was; the others' are judged by
    that vote. Empty: all vote."""

    def __post_init__(self) -> None:
        if self.per_problem < 1:
            raise UserError(f"Pairs.per_problem is {self.per_problem}; it must be 1 or more")
        for name in ("confidence", "rejection"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"Pairs.{name} is {getattr(self, name)}; it is a share of votes from 0 to 1")

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (0, 1)

    @property
    def pairs(self) -> int:
        return self.per_problem

    def sides(self, problem: ProblemTraces) -> Callable[[Candidate], str]:
        if any(trace.verdict != "ungraded" for trace in problem.voters):
            return lambda trace: _by_gold(trace, problem.settings)
        return self._by_vote(problem)

    def reason(self, problem: ProblemTraces) -> Reason:
        sides = self.sides(problem)
        return lambda trace: None if (side := sides(trace)) in (CHOSEN, REJECTED) else side

    def emptied(self, samples: int | None, settings: Curation) -> str | None:
        if samples is None or samples > 1:
            return None
        return f"{samples} trace a problem makes no pair"

    def _by_vote(self, problem: ProblemTraces) -> Callable[[Candidate], str]:
        voters = [trace for trace in problem.voters if self._votes(trace)]
        agreed = vote(voters, problem.equality, problem.weights)

        def side(trace: Candidate) -> str:
            if trace.answer is None:
                return "unparsed"
            if not agreed.answers or len(voters) < problem.settings.majority_votes:
                return "no_majority"
            if agreed.share < self.confidence:
                return "low_confidence"
            if trace.answer in agreed.answers:
                return CHOSEN
            return REJECTED if self._votes(trace) or agreed.share >= self.rejection else "low_confidence"

        return side

    def _votes(self, trace: Candidate) -> bool:
        return not self.voters or trace.teacher in self.voters


def _by_gold(trace: Candidate, settings: Curation) -> str:
    if trace.verdict == "correct":
        return CHOSEN
    wrong = trace.verdict == "incorrect" or (trace.verdict == "unparsed" and settings.unparsed_is_incorrect)
    return REJECTED if wrong else trace.verdict


def drawn(chosen: int, rejected: int, most: int) -> list[tuple[int, int]]:
    """Up to `most` distinct pairs of two sides of so many traces, by their numbers: all use each trace of a side about as often,
    and the first traces first, so that none is in two pairs before every one of its side is in one.

    The first k pairs are those of the traces that they have, whatever else there is: `drawn(c, r, most)[:k]` is
    `drawn(min(c, k), min(r, k), most)[:k]`.
    """
    count = min(most, chosen * rejected)
    round_of = lcm(chosen, rejected) if count else 1  # after so many pairs the same ones would come again: go on one further
    return [(pair % chosen, (pair + pair // round_of) % rejected) for pair in range(count)]
