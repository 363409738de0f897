"""Which traces become examples. Problems come one after the other, so that of millions of traces none needs to stay in memory."""

import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from w2sr_jax.answers.equality import Equality
from w2sr_jax.core import files, keys
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.records import Example, Pair, Problem, Trace
from w2sr_jax.curation.arms import BUILT_IN, LABELS, Select
from w2sr_jax.curation.candidates import Candidate, candidates
from w2sr_jax.curation.dispositions import KEPT, REJECTED_SIDE, Disposition
from w2sr_jax.curation.funnel import Funnel, Shares, Tally, between
from w2sr_jax.curation.pairs import drawn
from w2sr_jax.curation.settings import Curation
from w2sr_jax.curation.steps import filtered, rank
from w2sr_jax.problems.splits import CopyIndex

LIMIT = "drawn in all"
"""The step that `Curation.limit` makes, the last one."""
NONE: Mapping[str, int] = {}


class Selection(NamedTuple):
    """What was selected: ids of the traces that the limit left (None where there is no limit), factors on the weights of the
    teachers' examples (1 where absent), what became of all, and why nothing is left ("" where something is).

    Where pairs are made, those of both sides are left; `turns` is how many pairs of a problem the limit left (None where there is
    none), and `lacking` counts the problems without one of the sides, by the reason.
    """

    chosen: frozenset[str] | None
    factors: Mapping[str, float]
    funnel: Funnel
    emptied: str = ""
    turns: Mapping[str, int] | None = None
    lacking: Mapping[str, int] = NONE

    def disposition(self, row: Disposition) -> Disposition:
        """What became of a trace in the end, of what `Selector.add` said before it was known what the limit leaves."""
        if self.chosen is None or row.reason not in (KEPT, REJECTED_SIDE):
            return row
        if row.trace_id not in self.chosen:
            return Disposition(row.trace_id, row.problem_id, row.arm, LIMIT, "over_limit")
        return Disposition(row.trace_id, row.problem_id, row.arm, LIMIT, KEPT) if row.reason == KEPT else row


class Curated(NamedTuple):
    """An arm's examples, its funnel, and what became of every trace."""

    examples: list[Example]
    funnel: Funnel
    dispositions: list[Disposition]


class _Left(NamedTuple):
    """A trace that the limit may leave, in the order in which it does: a first one of as many problems as possible, in a random
    order of problems, then second ones. `problem_order` is the problem's in the order they came in, `rejected` the other trace of
    a pair, "" where none is made."""

    turn: int
    order: tuple[int, ...]
    id: str
    problem_order: int
    problem: Problem
    rate: float | None
    trace: Candidate
    rejected: str = ""


class Selector:
    """Selects one arm's traces. Equal traces give equal selections, whatever the order of a problem's traces.

    `forbidden` are problems (of the probe and test splits) that must not be trained on. `weights` are the teachers' (1 where
    absent): a teacher of weight 0 is left out and has no vote; others are mixed as `settings.weighting` says. In memory are
    counts and, where there is a limit, about as many candidates as it allows. `equality` says which answers are one vote.
    """

    def __init__(
        self,
        arm: str,
        settings: Curation,
        forbidden: CopyIndex | None = None,
        weights: Mapping[str, float] | None = None,
        equality: Equality | None = None,
        select: Select | None = None,
        label: str | None = None,
    ) -> None:
        if select is None and arm not in BUILT_IN:
            raise UserError(f"the arm {arm!r} is unknown; arms with a name are {', '.join(BUILT_IN)}")
        self.select = BUILT_IN[arm] if select is None else select
        self.label = LABELS.get(arm, arm) if label is None else label
        self.arm, self.settings, self.weights = arm, settings, dict(weights or {})
        for teacher, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise UserError(f"the weight of teacher {teacher!r} is {weight}; weights are finite and not negative")
        self._equality = equality or Equality(exact=True)
        self._forbidden = forbidden if settings.decontaminate else None
        self._steps: dict[str, int] = {}
        self._rejections: Counter[str] = Counter()
        self._before, self._after = Tally(), Tally()
        self._left: list[_Left] = []
        self._places = self._pairs = 0
        self._lacking: Counter[str] = Counter()

    def add(self, problem: Problem | None, traces: Sequence[Candidate]) -> list[Disposition]:
        """All traces of a problem, or of one that is none of the rung's. What becomes of each, sorted by trace; of those kept it
        is final where there is no limit (see `Selection.disposition`)."""
        filters = filtered(problem, traces, self.select, self.label, self.settings, self.weights, self._forbidden, self._equality)
        for step, count in filters.steps:
            self._steps[step] = self._steps.get(step, 0) + count
        self._rejections.update(reason for _, _, reason in filters.rejected)
        rate = Shares.of(traces).share
        self._before.add(problem, rate, traces)
        if self.settings.limit and problem is not None:
            order = keys.words(self.settings.seed, "curation limit", problem.id)
            ways = [(one, other.id) for one, other in filters.pairs] or [(trace, "") for trace in filters.left]
            for turn, (trace, other) in enumerate(ways, 1):
                self._left.append(_Left(turn, order, trace.id, self._places, problem, rate, trace, other))
            if len(self._left) > 2 * self.settings.limit + 1000:
                self._cut()
        elif filters.left:
            self._after.add(problem, rate, filters.left)
        self._places += 1
        self._pairs += len(filters.pairs)
        self._lacking.update([filters.lacking] if filters.lacking else ())
        return filters.dispositions(self.arm)

    def finish(self) -> Selection:
        """After the last problem. Raises `NothingToTrain` saying which step left nothing."""
        selection = self.selection()
        if selection.emptied:
            raise NothingToTrain(selection.emptied)
        return selection

    def selection(self) -> Selection:
        """`finish`, which also has a selection of nothing; `emptied` then says why."""
        chosen = self._limit() if self.settings.limit and self._before.traces else None
        factors = weighted(self._after, self.weights) if self.settings.weighting == "loss" else {}
        turns = Counter(left.problem.id for left in self._left) if chosen is not None and self.select.pairs else None
        return Selection(chosen, factors, self._funnel(), self._emptied(), turns, dict(sorted(self._lacking.items())))

    def _emptied(self) -> str:
        """Why nothing is left, in a sentence; "" where something is."""
        count = self._before.traces
        if not count:
            return "there are no traces to curate"
        if self._after.traces:
            return ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._rejections.most_common())
        emptied = next(name for name, count in self._steps.items() if count == 0)
        return (
            f"curation left nothing for the arm {self.arm!r} ({self.label}): of {count} traces the step "
            f"{emptied!r} took the last ones (rejected: {reasons})"
        )

    def _cut(self) -> None:
        self._left.sort(key=lambda left: left[:4])
        del self._left[self.settings.limit :]

    def _limit(self) -> frozenset[str]:
        self._cut()
        before = next(reversed(self._steps.values()))
        kept, rejected = ({getattr(left, side) for left in self._left} for side in ("id", "rejected"))
        over, self._steps[LIMIT] = before - len(kept), len(kept)
        if self.select.pairs:
            rejected.discard("")
            over += self._rejections[REJECTED_SIDE] - len(rejected)
            self._rejections[REJECTED_SIDE] = len(rejected)
            self._pairs = len(self._left)
        if over:
            self._rejections["over_limit"] = over
        for _, group in groupby(sorted(self._left, key=attrgetter("problem_order", "turn")), attrgetter("problem_order")):
            rows = list(group)
            self._after.add(rows[0].problem, rows[0].rate, list({row.id: row.trace for row in rows}.values()))
        return frozenset(kept | rejected)

    def _funnel(self) -> Funnel:
        found = between(self.arm, self.label, self._steps, self._rejections, self._before, self._after)
        return dataclasses.replace(found, pairs=self._pairs) if self.select.pairs else found


def weighted(kept: Tally, weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of examples by teacher, scaled so that their mean over the kept traces is 1; none where none is kept."""
    counts = {teacher: shares.traces for teacher, shares in kept.by_teacher.items()}
    mean = sum(weights.get(teacher, 1.0) * count for teacher, count in counts.items()) / max(kept.traces, 1)
    return {teacher: weights.get(teacher, 1.0) / mean for teacher in counts}


def curate(
    traces: Sequence[Trace],
    problems: Sequence[Problem],
    arm: str,
    settings: Curation,
    forbidden: Sequence[Problem] = (),
    count_tokens: Callable[[Trace], int] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Curated:
    """Curation of traces in memory, in the order of `problems`, whatever the order of traces."""
    by_problem: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        by_problem[trace.problem_id].append(trace)
    ours = [(problem, by_problem.pop(problem.id)) for problem in problems if problem.id in by_problem]
    dispositions = list[Disposition]()
    with Equality() as equality:
        selector = Selector(arm, settings, CopyIndex(forbidden, settings.copies) if forbidden else None, weights, equality)
        for problem, group in (*ours, *((None, by_problem[key]) for key in sorted(by_problem))):
            dispositions += selector.add(problem, list(candidates(group, count_tokens)))
    selection = selector.finish()
    ends = [selection.disposition(row) for row in dispositions]
    of_ours = (row for row in ends if row.problem_id not in by_problem)
    return Curated(list(examples(selector, selection, ours, of_ours)), selection.funnel, ends)


Groups: TypeAlias = Iterable[tuple[Problem, Sequence[Trace]]]


def examples(
    selector: Selector, selection: Selection, groups: Groups, dispositions: Iterable[Disposition], reason: str = KEPT
) -> Iterator[Example]:
    """What was selected, as examples, or with the `reason` of rejected sides these.

    `groups` are the problems as they were selected from, with all their traces, `dispositions` what became of these in the end,
    in the order in which the selector told them.
    """
    for problem, by_reason in _ended(selector, groups, dispositions):
        for trace in by_reason.get(reason, ()):
            yield _example(trace, problem, selection.factors.get(trace.teacher, 1.0))


def pairs(selector: Selector, selection: Selection, groups: Groups, dispositions: Iterable[Disposition]) -> Iterator[Pair]:
    """The pairs of what was selected, in the order of its examples; none where the selection makes none."""
    for problem, by_reason in _ended(selector, groups, dispositions):
        kept, rejected = (by_reason.get(reason, ()) for reason in (KEPT, REJECTED_SIDE))
        ways = drawn(len(kept), len(rejected), selector.select.pairs)
        for one, other in ways if selection.turns is None else ways[: selection.turns.get(problem.id, 0)]:
            a, b = kept[one].id, rejected[other].id
            yield Pair(files.digest_json([a, b])[:16], problem.id, example_id(a), example_id(b), a, b)


def _ended(
    selector: Selector, groups: Groups, dispositions: Iterable[Disposition]
) -> Iterator[tuple[Problem, Mapping[str, Sequence[Trace]]]]:
    """The kept traces of each problem, and the rejected sides of pairs, in the order in which they were drawn."""
    for (problem, traces), (key, ends) in zip(groups, groupby(dispositions, attrgetter("problem_id")), strict=True):
        if key != problem.id:
            raise ValueError(f"dispositions of the problem {key} stand where those of {problem.id} should")
        reasons = {row.trace_id: row.reason for row in ends if row.reason in (KEPT, REJECTED_SIDE)}
        by_reason: dict[str, list[Trace]] = defaultdict(list)
        taken = (trace for trace in traces if trace.id in reasons)
        for trace in sorted(taken, key=lambda trace: rank(trace, selector.settings, selector.weights)):
            by_reason[reasons[trace.id]].append(trace)
        yield problem, by_reason


def example_id(trace: str) -> str:
    """The id of the example that a trace of this id makes."""
    return files.digest_json([trace, "reason"])[:16]


def _example(trace: Trace, problem: Problem, weight: float) -> Example:
    return Example(
        id=example_id(trace.id),
        problem_id=problem.id,
        trace_id=trace.id,
        teacher=trace.teacher,
        question=problem.question,
        response=trace.text,
        style="reason",
        verdict=trace.verdict,
        weight=weight,
        token_ids=trace.token_ids,
        logprobs=trace.logprobs,
        top=trace.top,
    )
