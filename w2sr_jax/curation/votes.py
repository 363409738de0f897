"""What the traces of one problem agree on."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.answers.equality import Equality
from w2sr_jax.curation.candidates import Candidate


class Vote(NamedTuple):
    """What a problem's traces agree on: the spellings of the answer most voted for (none where two tie), and its share of all
    votes."""

    answers: frozenset[str]
    share: float


def vote(traces: Sequence[Candidate], equality: Equality, weights: Mapping[str, float] | None = None) -> Vote:
    """The vote of one problem's traces. Answers that `equality` joins are one; unreadable ones count in the total alone. A
    trace's vote is its teacher's weight."""
    ballots = [(trace.answer, (weights or {}).get(trace.teacher, 1.0)) for trace in traces]
    answers = sorted({answer for answer, _ in ballots if answer is not None})
    groups = dict(zip(answers, equality.groups(answers), strict=True))
    counts: dict[str, float] = defaultdict(float)
    for answer, weight in ballots:
        if answer is not None:
            counts[groups[answer]] += weight
    ranked = sorted(counts.items(), key=lambda item: -item[1])[:2]
    total = sum(weight for _, weight in ballots)
    if not ranked or not total or (len(ranked) == 2 and math.isclose(ranked[0][1], ranked[1][1])):
        return Vote(frozenset(), 0.0)
    return Vote(frozenset(answer for answer, group in groups.items() if group == ranked[0][0]), ranked[0][1] / total)
