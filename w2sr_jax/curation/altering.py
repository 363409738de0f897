"""Controls whose texts are other than the traces': the answer without the reasoning, a wrong step in the reasoning; and the arm
of wrong traces as a second grader sees them."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.answers.second import second_opinion
from w2sr_jax.answers.step_errors import altered
from w2sr_jax.core import keys, thinking
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.curation.controls import Control, Draw, Piece, Row, Tools, check_share, rounded
from w2sr_jax.curation.settings import Curation
from w2sr_jax.text.spans import answer_start

ALTERABLE, NO_STEP = "alterable", "no_step_to_alter"
AGREED, DOUBTED, SILENT = "agreed", "false_negative", "no_opinion"


@dataclasses.dataclass(frozen=True)
class AnswerOnly(Control):
    """The arm's traces without their reasoning: what they state as their answer, with its marker (`#### 12`, `The answer is
    12.`); one that states it without a marker has `#### 12`. Thoughts are left empty. Traces without an answer are left out."""

    def fits(self, items: Sequence[tuple[Problem, Trace]], tools: Tools) -> list[str]:
        return ["unparsed" if trace.answer is None else "" for _, trace in items]

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        pieces = {
            row.problem: [Piece(trace.id, row.problem, altered=True) for trace in row.kept if not trace.fit]
            for row in rows
            if any(not trace.fit for trace in row.kept)
        }
        reasons = {trace.id: trace.fit for row in rows for trace in row.kept if trace.fit}
        return Draw(pieces, reasons, {"unparsed": len(reasons)})

    def rewritten(self, trace: Trace, problem: Problem, tools: Tools) -> str:
        return statement(trace.text, str(trace.answer))


def statement(text: str, answer: str) -> str:
    """What a text states as its answer, without what comes before; `answer` is that as it was read."""
    outside, opening, closing = text, None, None
    if thinking.marked(text):
        outside, opening, closing = thinking.read(text).outside, thinking.OPENING.search(text), thinking.CLOSING.search(text)
    start = answer_start(outside)
    stated = f"#### {answer}" if start is None else outside[start:].strip()
    if opening is not None:
        return f"{opening.group()}\n\n{thinking.closing(opening.group())}\n\n{stated}"
    return stated if closing is None else f"{closing.group()}\n\n{stated}"


@dataclasses.dataclass(frozen=True)
class StepErrors(Control):
    """The arm's traces, in a share of which the result of one equation that held is wrong (`answers.step_errors`). Those that are
    altered are graded again. Where too few have an equation that can be altered, all that have one are.

    What a lower share has altered, a higher one alters too.
    """

    share: float = 0.5
    """Of all traces of the arm, how many are altered, rounded to whole traces (half up)."""
    carry: bool = False
    """Let later equations and the answer follow from the wrong result, so that the answer is wrong too; otherwise all but the one
    result stays as it is, the answer with it."""

    def __post_init__(self) -> None:
        check_share("StepErrors.share", self.share)

    @property
    def regrades(self) -> bool:
        return True

    def fits(self, items: Sequence[tuple[Problem, Trace]], tools: Tools) -> list[str]:
        return [NO_STEP if self._altered(trace, tools) is None else ALTERABLE for _, trace in items]

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        kept = [trace for row in rows for trace in row.kept]
        able = [trace.id for trace in kept if trace.fit == ALTERABLE]
        able.sort(key=lambda key: (keys.words(settings.seed, "curation step errors", key), key))
        wanted = rounded(self.share, len(kept))
        chosen = frozenset(able[:wanted])
        pieces = {row.problem: [Piece(one.id, row.problem, one.id in chosen) for one in row.kept] for row in rows if row.kept}
        counts = {"altered": len(chosen), "alterable": len(able), "short_of_share": wanted - len(chosen)}
        return Draw(pieces, {}, counts)

    def rewritten(self, trace: Trace, problem: Problem, tools: Tools) -> str:
        text = self._altered(trace, tools)
        assert text is not None
        return text

    def _altered(self, trace: Trace, tools: Tools) -> str | None:
        generator = keys.generator(tools.settings.seed, "curation step error", trace.id)
        return altered(trace.text, self.carry, generator, tools.known)


@dataclasses.dataclass(frozen=True)
class Audited(Control):
    """The arm's traces that a second grader finds wrong, too. Those that it finds right are left out as false negatives of the
    first, and counted; so are those of which it says nothing, which stay."""

    of: str = "incorrect"
    """Name of the arm of the same rung whose wrong traces are graded again; itself no control."""
    grader: Grader | None = None
    """The second grader; None: the rules of another make that grade no run (`answers.second`), for answers that are numbers."""

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (-1,)

    def fits(self, items: Sequence[tuple[Problem, Trace]], tools: Tools) -> list[str]:
        problems, texts = [problem for problem, _ in items], [trace.text for _, trace in items]
        if self.grader is None:
            said = [second_opinion(text, problem.answer).verdict for text, problem in zip(texts, problems, strict=True)]
        else:
            graded = [verdict.verdict for verdict in grade_all(self.grader, texts, problems)]
            said = [one if one in ("correct", "incorrect") else None for one in graded]
        return [SILENT if one is None else DOUBTED if one == "correct" else AGREED for one in said]

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        named = {
            "not_wrong": [trace.id for row in rows for trace in row.kept if trace.verdict not in ("incorrect", "unparsed")],
        }
        wrong = [(row, trace) for row in rows for trace in row.kept if trace.verdict in ("incorrect", "unparsed")]
        named |= {word: [trace.id for _, trace in wrong if trace.fit == word] for word in (DOUBTED, SILENT, AGREED)}
        pieces: dict[str, list[Piece]] = {}
        for row, trace in wrong:
            if trace.fit != DOUBTED:
                pieces.setdefault(row.problem, []).append(Piece(trace.id, row.problem))
        reasons = {key: word for word in ("not_wrong", DOUBTED) for key in named[word]}
        return Draw(pieces, reasons, {word: len(ids) for word, ids in named.items()})
