"""The steps of curation that the traces of one problem pass, one after the other.

All arms pass the same steps and differ in one, the arm's own selection (`curation.arms`). Up to `per_problem` traces are then
drawn; or pairs of traces are, and the chosen ones are left.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from w2sr_jax.answers.equality import Equality
from w2sr_jax.core import keys
from w2sr_jax.core.code import returned, usercode
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import ProblemTraces, Reason, Select
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.dispositions import KEPT, REJECTED_SIDE, Disposition
from w2sr_jax.curation.pairs import CHOSEN, REJECTED, drawn
from w2sr_jax.curation.settings import Curation
from w2sr_jax.problems.splits import CopyIndex

_RIGHT = 'return why the trace is left out, in a word ("too_long"), or None: it stays'


class Filters:
    """One problem's candidates on their way through the steps: those `left`, how many after each step, and every rejection. Where
    pairs are made, `pairs` (chosen, rejected), and in `lacking` the reason of `_sides` where one side is missing."""

    def __init__(self, traces: Sequence[Candidate]) -> None:
        self.left = list(traces)
        self.steps: list[tuple[str, int]] = [("given", len(traces))]
        self.rejected: list[tuple[Candidate, str, str]] = []
        self.pairs: list[tuple[Candidate, Candidate]] = []
        self.lacking = ""

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

    def dispositions(self, arm: str) -> list[Disposition]:
        """What became of each trace given, sorted by trace."""
        last = self.steps[-1][0]
        ends = [*self.rejected, *((trace, last, KEPT) for trace in self.left)]
        rows = [Disposition(trace.id, trace.problem_id, arm, step, reason) for trace, step, reason in ends]
        return sorted(rows, key=lambda row: (row.trace_id, row.step, row.reason))


def filtered(
    problem: Problem | None,
    traces: Sequence[Candidate],
    select: Select,
    label: str,
    settings: Curation,
    weights: Mapping[str, float],
    forbidden: CopyIndex | None,
    equality: Equality,
) -> Filters:
    """All steps but the limit of all examples. The order of `traces` does not matter; without a problem nothing is kept."""
    filters, voters = shared(problem, traces, settings, weights, forbidden)
    looked_at = ProblemTraces(voters, settings, weights, equality)
    sides = select.sides(looked_at) if select.pairs else None
    if sides is not None:
        _paired(filters, sides, select.pairs, label)
        return filters
    reason = _selected(select, looked_at)
    if reason is not None:
        filters.step(f"arm {label}", reason)
    filters.step("drawn per problem", _quota(settings.per_problem))
    return filters


def shared(
    problem: Problem | None,
    traces: Sequence[Candidate],
    settings: Curation,
    weights: Mapping[str, float],
    forbidden: CopyIndex | None,
) -> tuple[Filters, list[Candidate]]:
    """The steps that all arms have in common, which look at no verdict; and the traces that have a vote."""
    filters = Filters(sorted(traces, key=lambda trace: rank(trace, settings, weights)))
    filters.step("of these problems and teachers", _belongs(problem, weights))
    voters = [trace for trace in filters.left if trace.finish == "stop"]  # what was cut off has stated nothing
    filters.step("finished", lambda t: "unfinished" if t.finish == "length" and not settings.keep_unfinished else None)
    filters.step("within the length limits", _fits(settings))
    if not settings.keep_loops:
        filters.step("not looping", lambda trace: "looping" if trace.looping else None)
    if forbidden is not None:
        copied = problem is not None and bool(filters.left) and forbidden.match(problem) is not None
        filters.step("not a test question", lambda _: "contaminated" if copied else None)
    filters.step("distinct", _distinct())
    return filters, voters


def _paired(filters: Filters, sides: Callable[[Candidate], str], most: int, label: str) -> None:
    """Pair what is left, in its order, and leave the chosen traces of pairs."""
    side = {trace.id: sides(trace) for trace in filters.left}
    filters.step(f"arm {label}", lambda trace: None if side[trace.id] in (CHOSEN, REJECTED) else side[trace.id])
    chosen, rejected = ([trace for trace in filters.left if side[trace.id] == name] for name in (CHOSEN, REJECTED))
    if filters.left:
        filters.lacking = "" if chosen and rejected else "nothing_to_reject" if chosen else "nothing_to_choose"
    filters.step("both sides of a pair", lambda _: filters.lacking or None)
    filters.pairs = [(chosen[one], rejected[other]) for one, other in drawn(len(chosen), len(rejected), most)]
    taken = {trace.id for pair in filters.pairs for trace in pair}
    filters.step("drawn per problem", lambda trace: None if trace.id in taken else "over_quota")
    filters.step("chosen of a pair", lambda trace: REJECTED_SIDE if side[trace.id] == REJECTED else None)


def _selected(select: Select, problem: ProblemTraces) -> Reason | None:
    """What a selection says of the traces of a problem. One of a user's own is refused where it says anything but a reason."""
    reason = select.reason(problem)
    if reason is None or usercode.is_ours(select):
        return reason
    if not callable(reason):
        raise returned.refusal(select, "reason", reason, f"return a function of a trace, which must {_RIGHT}; or None: all stay")

    def checked(trace: Candidate) -> str | None:
        word = reason(trace)
        if word is not None and (not isinstance(word, str) or word.strip() in ("", KEPT)):
            name = f"the function that {type(select).__name__}.reason gives"
            raise returned.of_function(reason, name, word, _RIGHT)
        return word

    return checked


def rank(trace: Candidate | Trace, settings: Curation, weights: Mapping[str, float]) -> tuple[float, str]:
    """The order in which traces of a problem are drawn: random, and with odds `weights` where these are for mixing, since taking
    the lowest ranks draws without replacement with such odds (Efraimidis and Spirakis 2006)."""
    weight = weights.get(trace.teacher, 1.0) if settings.weighting == "mix" else 1.0
    uniform = (keys.words(settings.seed, "curation", trace.id)[0] + 0.5) / 2**32
    return -math.log(uniform) / weight if weight else math.inf, trace.id


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


def _quota(per_problem: int) -> Reason:
    taken = 0

    def reason(_: Candidate) -> str | None:
        nonlocal taken
        taken += 1
        return None if taken <= per_problem else "over_quota"

    return reason
