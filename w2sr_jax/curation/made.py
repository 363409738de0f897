"""How a control is made, problem by problem: shown all traces once, it draws, and then says what became of each trace and which
examples there are."""

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from w2sr_jax.answers.grade import grade_all
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Problem, Trace, VerdictName
from w2sr_jax.curation import controls, texts
from w2sr_jax.curation.candidates import Candidate
from w2sr_jax.curation.controls import Draw, Piece, Row, Seen, Tools
from w2sr_jax.curation.dispositions import Disposition
from w2sr_jax.curation.funnel import Control, Funnel, Shares, Tally, between
from w2sr_jax.curation.select import example_id, weighted
from w2sr_jax.curation.steps import shared
from w2sr_jax.problems.splits import CopyIndex

TOGETHER = 1024
"""Traces that are judged, and texts that are graded, together."""


class _Open(NamedTuple):
    """A kept trace that is still to be judged: the places of its row and of itself in it."""

    row: int
    place: int
    problem: Problem
    trace: Trace


class _Made(NamedTuple):
    """An example, the problem that it answers, the tokens of its response; `own`: its trace, or the worked solution, as it is."""

    example: Example
    problem: Problem
    tokens: int
    own: bool


class Making:
    """Makes one control. Show it all problems with `see`, then `draw`, then all of them again, in the same order, with
    `dispositions` and `examples`. Of each trace that passes the shared steps a few numbers stay in memory."""

    def __init__(
        self,
        arm: str,
        label: str,
        control: controls.Control,
        tools: Tools,
        forbidden: CopyIndex | None = None,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self.arm, self.label, self.control, self.tools, self.weights = arm, label, control, tools, dict(weights or {})
        self._forbidden = forbidden if tools.settings.decontaminate else None
        self._rows: list[Row] = []
        self._open: list[_Open] = []
        self._drawn: Draw | None = None
        self._before, self._after = Tally(), Tally()
        self._steps: Counter[str] = Counter()
        self._rejections: Counter[str] = Counter()
        self._wanted = self._tokens_wanted = self._examples = self._tokens = self._correct = 0

    def see(self, problem: Problem, traces: Sequence[Trace], group: Sequence[Candidate], kept: Collection[str]) -> None:
        """All traces of a problem, also as curation looks at them, and the ids of those that the arm has kept."""
        filters, _ = shared(problem, group, self.tools.settings, self.weights, self._forbidden)
        seen = tuple(Seen(trace.id, trace.verdict, trace.tokens, trace.id in kept) for trace in filters.left)
        shares = Shares.of(group)
        length = sum(trace.tokens for trace in group) / max(len(group), 1)
        row = Row(problem.id, seen, shares.correct, shares.graded, length, problem.solution is not None)
        by_id = {trace.id: trace for trace in traces}
        self._open += [_Open(len(self._rows), place, problem, by_id[trace.id]) for place, trace in enumerate(seen) if trace.kept]
        self._wanted += len(row.kept)
        self._tokens_wanted += sum(trace.tokens for trace in row.kept)
        self._rows.append(row)
        self._before.add(problem, shares.share, group)
        if len(self._open) >= TOGETHER:
            self._judge()

    def draw(self) -> None:
        """After the last problem. `UserError` where a control of a user's own draws what is not there."""
        self._judge()
        drawn = self._drawn = self.control.draw(self._rows, self.tools.settings)
        known = {row.problem: {trace.id for trace in row.traces} for row in self._rows}
        for source, pieces in drawn.pieces.items():
            wrong = next(
                (one for one in pieces if one.asked not in known or one.trace not in known.get(source, set()) | {""}), None
            )
            if wrong is not None or source not in known:
                raise UserError(
                    f"{type(self.control).__name__}.draw has drawn {wrong} of the problem {source!r}; it may draw traces of "
                    "the rows that it was given, each under its own problem, for problems of those rows"
                )
        self._rows = []

    @property
    def asked(self) -> frozenset[str]:
        """The problems to which another problem's text is the response."""
        return frozenset(one.asked for source, pieces in self._draw.pieces.items() for one in pieces if one.asked != source)

    def dispositions(self, problem: Problem, group: Sequence[Candidate]) -> list[Disposition]:
        """What became of each trace of a problem, sorted by trace."""
        filters, _ = shared(problem, group, self.tools.settings, self.weights, self._forbidden)
        pieces = self._draw.pieces.get(problem.id, ())
        taken = {piece.trace for piece in pieces}

        def reason(trace: Candidate) -> str | None:
            return None if trace.id in taken else self._draw.reasons.get(trace.id, self._draw.rest)

        filters.step(f"control {self.label}", reason)
        self._steps.update(dict(filters.steps))
        self._rejections.update(word for _, _, word in filters.rejected)
        if pieces:
            self._after.add(problem, Shares.of(group).share, filters.left)
        self._examples += len(pieces)
        return filters.dispositions(self.arm)

    def examples(self, groups: Iterable[tuple[Problem, Sequence[Trace]]], asked: Mapping[str, Problem]) -> Iterator[Example]:
        """The control's examples, after the dispositions of all problems; `asked` has the problems that the property names. Texts
        that are other ones than their traces', or answers to other problems, are graded again where the control wants it."""
        factors = weighted(self._after, self.weights) if self.tools.settings.weighting == "loss" else {}
        made = self._made(groups, asked, factors)
        while some := list(islice(made, TOGETHER)):
            for example, _, tokens, _ in self._graded(some):
                self._tokens += tokens
                self._correct += example.verdict == "correct"
                yield example

    def funnel(self) -> Funnel:
        """After all examples."""
        found = between(self.arm, self.label, self._steps, self._rejections, self._before, self._after)
        made = Control(
            self.control.of,
            self._examples,
            self._wanted,
            self._tokens,
            self._tokens_wanted,
            self._correct,
            {name: float(count) for name, count in self._draw.counts.items()},
        )
        return dataclasses.replace(found, control=made)

    def emptied(self) -> str:
        """Why the control has no example, in a sentence; "" where it has one."""
        if self._examples:
            return ""
        if not self._before.traces:
            return "there are no traces to curate"
        if not self._wanted:
            return f"the arm {self.arm!r} ({self.label}) is made from what {self.control.of!r} keeps, and that is nothing"
        reasons = ", ".join(f"{count} {reason}" for reason, count in self._rejections.most_common())
        return (
            f"curation left nothing for the arm {self.arm!r} ({self.label}), which is made from the {self._wanted} traces of "
            f"{self.control.of!r} (rejected: {reasons})"
        )

    @property
    def _draw(self) -> Draw:
        assert self._drawn is not None
        return self._drawn

    def _judge(self) -> None:
        words = self.control.fits([(one.problem, one.trace) for one in self._open], self.tools)
        for one, word in zip(self._open, words, strict=True):
            row = self._rows[one.row]
            traces = [*row.traces]
            traces[one.place] = traces[one.place]._replace(fit=word)
            self._rows[one.row] = row._replace(traces=tuple(traces))
        self._open = []

    def _graded(self, some: Sequence[_Made]) -> Iterator[_Made]:
        grader = self.tools.grader if self.control.regrades else None
        again = [one for one in some if not one.own and grader is not None]
        verdicts: dict[str, VerdictName] = {}
        if again and grader is not None:
            graded = grade_all(grader, [one.example.response for one in again], [one.problem for one in again])
            verdicts = {one.example.id: verdict.verdict for one, verdict in zip(again, graded, strict=True)}
        for one in some:
            verdict = verdicts.get(one.example.id, one.example.verdict)
            yield one._replace(example=dataclasses.replace(one.example, verdict=verdict))

    def _made(
        self, groups: Iterable[tuple[Problem, Sequence[Trace]]], asked: Mapping[str, Problem], factors: Mapping[str, float]
    ) -> Iterator[_Made]:
        tools = self.tools
        for source, traces in groups:
            by_id = {trace.id: trace for trace in traces}
            for piece in self._draw.pieces.get(source.id, ()):
                problem = source if piece.asked == source.id else asked[piece.asked]
                if not piece.trace:
                    solution = _solution(problem, piece)
                    yield _Made(solution, problem, tools.tokens(solution.response), True)
                    continue
                trace = by_id[piece.trace]
                text = self.control.rewritten(trace, problem, tools) if piece.altered else trace.text
                own = not piece.altered and problem is source
                example = _example(trace, problem, text, own, factors.get(trace.teacher, 1.0))
                yield _Made(example, problem, tools.tokens(text) if piece.altered else trace.tokens or tools.tokens(text), own)


def _solution(problem: Problem, piece: Piece) -> Example:
    one = texts.example(problem.id, problem.question, problem.solution or "", "reason")
    return dataclasses.replace(one, id=files.digest_json([one.id, piece.copy])[:16]) if piece.copy else one


def _example(trace: Trace, problem: Problem, text: str, own: bool, weight: float) -> Example:
    """A trace as an example; `own`: its own text as the response to its own problem. Of others it is not known how likely the
    teacher was to write them."""
    return Example(
        id=example_id(trace.id) if own else files.digest_json([trace.id, problem.id, text, "reason"])[:16],
        problem_id=problem.id,
        trace_id=trace.id,
        teacher=trace.teacher,
        question=problem.question,
        response=text,
        style="reason",
        verdict=trace.verdict,
        weight=weight,
        token_ids=trace.token_ids if own else (),
        logprobs=trace.logprobs if own else (),
        top=trace.top if own else None,
    )
