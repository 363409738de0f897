"""Controls: arms that are made from what another arm of the rung has kept, and differ from it in one thing.

A control is a selection with a field `of`, the name of that arm. Its traces pass the steps that all arms share; what the arm has
kept, however it was limited, is known before the control draws. `Curation.per_problem` and `Curation.limit` do not count again.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.arms import ProblemTraces, Reason, Select
from w2sr_jax.curation.settings import Curation

NOT_DRAWN, GOLD_INSTEAD = "not_drawn", "gold_instead"


class Seen(NamedTuple):
    """A trace that passed the steps that all arms share. `kept`: by the arm that the control is made from; `fit`: what
    `Control.fits` said of it."""

    id: str
    verdict: str
    tokens: int
    kept: bool
    fit: str = ""


class Row(NamedTuple):
    """A problem with its traces, in the order in which they are drawn. `right` of the `graded` traces that its teachers wrote are
    correct, all together have `length` tokens in the mean; `solved`: there is a worked solution."""

    problem: str
    traces: tuple[Seen, ...]
    right: int
    graded: int
    length: float
    solved: bool

    @property
    def kept(self) -> list[Seen]:
        """Those that the arm has kept."""
        return [trace for trace in self.traces if trace.kept]


class Piece(NamedTuple):
    """An example to be: the text of the trace `trace` ("": the worked solution, its copy number `copy`) as the response to the
    problem `asked`; `altered` is whether `Control.rewritten` is asked for another text."""

    trace: str
    asked: str
    altered: bool = False
    copy: int = 0


class Draw(NamedTuple):
    """What a control has drawn: pieces by the problem whose trace or solution they are made of, why traces that it might have
    had were left out (those of no piece and without a reason here: `rest`), and counts for its funnel."""

    pieces: Mapping[str, Sequence[Piece]]
    reasons: Mapping[str, str]
    counts: Mapping[str, float]
    rest: str = NOT_DRAWN


class Tools(NamedTuple):
    """What a control may ask: the settings, whether the student's tokenizer knows all of a text, how many tokens it has (with the
    end of the turn), and the run's grader (None: nothing is graded again)."""

    settings: Curation
    known: Callable[[str], bool] = lambda text: True
    tokens: Callable[[str], int] = lambda text: len(text.split()) + 1
    grader: Grader | None = None


@dataclasses.dataclass(frozen=True)
class Control(Select):
    """An arm made from another one. Extend it as a frozen dataclass and define `draw`."""

    must_define = ("draw",)

    of: str = "correct"
    """Name of the arm of the same rung that it is a control of; itself no control."""

    @property
    def made_from(self) -> str:
        return self.of

    def reason(self, problem: ProblemTraces) -> Reason:
        raise UserError(f"{type(self).__name__} is made from what the arm {self.of!r} has kept, and cannot select without it")

    def fits(self, items: Sequence[tuple[Problem, Trace]], tools: Tools) -> Sequence[str]:
        """Of traces that the arm has kept, a word each on what their texts allow; "" unless `draw` looks at that."""
        return [""] * len(items)

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        """What it consists of. `rows` are the rung's problems with traces, in their order. Draw random numbers from `keys`."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(rows, settings)")

    def rewritten(self, trace: Trace, problem: Problem, tools: Tools) -> str:
        """The text of an altered piece."""
        return trace.text


def order(rows: Sequence[Row], seed: int, purpose: str) -> list[Row]:
    """Rows in a random order that depends on the seed, the purpose and the problems' ids alone."""
    return sorted(rows, key=lambda row: (keys.words(seed, f"curation {purpose}", row.problem), row.problem))


def rounded(share: float, count: int) -> int:
    """`share` of `count`, rounded half up."""
    return int(share * count + 0.5)


def check_share(where: str, share: float) -> None:
    """`UserError` unless it is one."""
    if not 0.0 <= share <= 1.0:
        raise UserError(f"{where} is {share}; it is a share from 0 to 1")


def as_they_are(row: Row, traces: Sequence[Seen]) -> list[Piece]:
    """Traces of a problem, unaltered."""
    return [Piece(trace.id, row.problem) for trace in traces]


def solutions(row: Row, count: int) -> list[Piece]:
    """The worked solution of a problem, `count` times."""
    return [Piece("", row.problem, copy=copy) for copy in range(count)]


@dataclasses.dataclass(frozen=True)
class RandomSubset(Control):
    """As many traces as the arm has, on as many problems, each with as many traces as one of the arm's, drawn without regard to
    anything: what the arm's size alone does."""

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        wanted = Counter(len(row.kept) for row in rows if row.kept)
        left = order([row for row in rows if row.traces], settings.seed, "random subset")
        pieces: dict[str, list[Piece]] = {}
        # Many first: what the arm itself has is one way to do it, so that there are always enough problems of so many traces.
        for count in sorted(wanted, reverse=True):
            able = [row for row in left if len(row.traces) >= count][: wanted[count]]
            pieces |= {row.problem: as_they_are(row, row.traces[:count]) for row in able}
            left = [row for row in left if row.problem not in pieces]
        own = sum(row.problem in pieces for row in rows if row.kept)
        return Draw(pieces, {}, {"problems_of_the_arm": own})


@dataclasses.dataclass(frozen=True)
class Shuffled(Control):
    """Right form, another problem's reasoning: each trace of the arm is the response to another of the arm's problems, none to
    its own. Texts stay whole, with the answers that they state, so that every token that the arm learns is learnt here; verdicts
    are those that the grader gives them as answers to the other problem.

    Traces without any other problem to go to are left out.
    """

    @property
    def regrades(self) -> bool:
        return True

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        blocks = [(row.problem, row.kept) for row in order([row for row in rows if row.kept], settings.seed, "shuffled")]
        total, reasons = sum(len(kept) for _, kept in blocks), dict[str, str]()
        for number, (problem, kept) in enumerate(blocks):
            others = total - len(kept)
            if len(kept) > others:  # more than half of all are of one problem
                reasons = {trace.id: "no_other_problem" for trace in kept[others:]}
                blocks[number] = (problem, kept[:others])
                break
        sources = [(problem, trace) for problem, kept in blocks for trace in kept]
        # One problem's traces stand together: moved on by the largest number of them, none comes to its own problem.
        shift = max((len(kept) for _, kept in blocks), default=0)
        pieces: dict[str, list[Piece]] = {}
        for number, (problem, trace) in enumerate(sources):
            asked, _ = sources[(number + shift) % len(sources)]
            pieces.setdefault(problem, []).append(Piece(trace.id, asked))
        return Draw(pieces, reasons, {"no_other_problem": len(reasons)})
