"""Which traces an arm of a rung keeps. The arms of the weak-to-strong protocol (arXiv 2505.20072), and majority agreement.

All arms pass the same steps (`curation.steps`) and differ in one: `All` never looks at verdicts, `Correct` and `Incorrect` keep
one verdict each, `Majority` keeps traces whose answer most of the problem's traces agree on. `Nothing` is the selection of arms
that learn from no traces; they are not curated.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.answers.equality import Equality
from w2sr_jax.core.extendable import Extendable
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.settings import Curation
from w2sr_jax.curation.votes import vote

Reason = Callable[[Candidate], str | None]
"""Why a trace is left out, in a word; None where it stays."""

VERDICTS = (-1, 0, 1)
"""Of an example: incorrect, not known, correct."""


class ProblemTraces(NamedTuple):
    """What a selection may look at of one problem: the traces that have a vote (those that were finished), the settings, the
    teachers' weights, and which answers are one."""

    voters: Sequence[Candidate]
    settings: Curation
    weights: Mapping[str, float]
    equality: Equality


class Select(Extendable):
    """Which of a problem's traces are kept. Extend it as a frozen dataclass and define `reason`."""

    must_define = ("reason",)

    @property
    def curates(self) -> bool:
        """Whether there is something to select from; an arm whose selection does not curate learns from no traces at all."""
        return True

    @property
    def verdicts(self) -> tuple[int, ...]:
        """Verdicts that its traces may have, of `VERDICTS`."""
        return VERDICTS

    def reason(self, problem: ProblemTraces) -> Reason | None:
        """What says of each trace of a problem why it is left out; None where all stay, without a step in the funnel."""
        raise NotImplementedError(f"{type(self).__name__} must define reason(problem)")

    @property
    def made_from(self) -> str | None:
        """Name of the arm of the rung whose kept traces it is made from, as controls are; None where it looks at no other arm."""
        return None

    @property
    def regrades(self) -> bool:
        """Whether its texts are graded again, being other texts or answers to other problems than those of their traces."""
        return False

    @property
    def untaught(self) -> bool:
        """Whether no teacher wrote what its student learns from, so that nothing is known of a teacher's distribution."""
        return False

    @property
    def pairs(self) -> int:
        """How many pairs it makes of the traces of a problem at most; 0: it makes none."""
        return 0

    def sides(self, problem: ProblemTraces) -> "Callable[[Candidate], str] | None":
        """Of a selection that makes `pairs`, what says of a trace on which side of a pair it may be ("chosen", "rejected"), or
        why on none, in a word; it is asked instead of `reason`."""
        return None

    def emptied(self, samples: int | None, settings: Curation) -> str | None:
        """Why nothing can be left, where that is sure from how many traces a problem has (None: not known); None otherwise."""
        return None


@dataclasses.dataclass(frozen=True)
class All(Select):
    """Every trace."""

    def reason(self, problem: ProblemTraces) -> None:
        return None


@dataclasses.dataclass(frozen=True)
class Nothing(Select):
    """No trace: the arm's student learns from nothing that a teacher wrote, as a policy does from its own answers.

    Such an arm has no curation and no curated files, and its training stages have no examples.
    """

    @property
    def curates(self) -> bool:
        return False

    @property
    def verdicts(self) -> tuple[int, ...]:
        return ()

    def reason(self, problem: ProblemTraces) -> Reason:
        return lambda trace: "not_learned_from"


@dataclasses.dataclass(frozen=True)
class Correct(Select):
    """Traces with a correct answer."""

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (1,)

    def reason(self, problem: ProblemTraces) -> Reason:
        return _of_verdicts({"correct"})


@dataclasses.dataclass(frozen=True)
class Incorrect(Select):
    """Traces with an incorrect answer, and with `Curation.unparsed_is_incorrect` those in which none could be read."""

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (-1,)

    def reason(self, problem: ProblemTraces) -> Reason:
        return _of_verdicts({"incorrect", *(["unparsed"] if problem.settings.unparsed_is_incorrect else [])})


@dataclasses.dataclass(frozen=True)
class Majority(Select):
    """Traces whose answer most of the problem's traces agree on, whether or not there is a gold answer."""

    def reason(self, problem: ProblemTraces) -> Reason:
        settings = problem.settings
        agreed = vote(problem.voters, problem.equality, problem.weights)
        weak = agreed.share < settings.majority_threshold or len(problem.voters) < settings.majority_votes

        def agrees(trace: Candidate) -> str | None:
            if trace.answer is None:
                return "unparsed"
            if not agreed.answers or weak:
                return "no_majority"
            return None if trace.answer in agreed.answers else "minority_answer"

        return agrees

    def emptied(self, samples: int | None, settings: Curation) -> str | None:
        if samples is None or samples >= settings.majority_votes:
            return None
        return f"{samples} traces a problem are fewer than curation.majority_votes, {settings.majority_votes}"


def _of_verdicts(kept: set[str]) -> Reason:
    return lambda trace: None if trace.verdict in kept else str(trace.verdict)


BUILT_IN: Mapping[str, Select] = {"all": All(), "correct": Correct(), "incorrect": Incorrect(), "majority": Majority()}
"""The selections that are known by a name."""
LABELS: Mapping[str, str] = {"all": "W2SR", "correct": "W2SR-P", "incorrect": "W2SR-N", "majority": "Majority"}
"""What they are called in tables (arXiv 2505.20072; majority agreement is for problems without gold)."""
