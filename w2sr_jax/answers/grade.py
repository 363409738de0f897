"""Verdicts: read the answer of a text, compare numbers exactly and everything else with `math-verify` in killable processes."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from w2sr_jax.answers import pool
from w2sr_jax.answers.equal import DEFAULT, LONGEST, Conventions, algebraic, bare, canonical, grade_one, too_large
from w2sr_jax.answers.extract import Extraction, extract
from w2sr_jax.answers.pool import MEMORY, TIMEOUT
from w2sr_jax.answers.reading.boxes import filled, joined
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.core.records import Problem, Verdict

__all__ = ["MathGrader", "NumberGrader", "bare", "canonical", "grade", "grade_all", "grade_one"]

Progress = Callable[[int, int], None]


class Grader(Protocol):
    """A function or a frozen dataclass that is called with a text and its problem and returns a verdict."""

    def __call__(self, text: str, problem: Problem) -> Verdict: ...


@dataclasses.dataclass(frozen=True)
class MathGrader:
    """Compares numbers exactly and everything else with `math-verify`. `docs/grading.md` lists what is read and what equals what.

    Where a problem's own solution gives its answer in several boxes and the gold answer is the last of them (as in MATH), a text
    that gives all parts is correct too."""

    workers: int = 0
    """Processes for what needs math-verify; 0: one per core."""
    timeout: float = TIMEOUT
    """Seconds of processor time, not of the clock, after which a comparison is killed; its verdict is then "unparsed"."""
    memory: int = MEMORY
    """Bytes of address space a process may take; 0: no limit."""
    decimal_comma: Literal["text", "always", "never"] = DEFAULT.decimal_comma
    """Whether `3,5` is 3.5: outside of boxes and formulas (as Math-Verify reads it), everywhere (`1.234` is then 1234), or
    nowhere."""
    relations_as_sets: bool = DEFAULT.relations_as_sets
    """Whether an inequality answers a gold interval; Math-Verify accepts the reverse alone."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        return self.many([text], [problem])[0]

    def many(self, texts: Sequence[str], problems: Sequence[Problem], on_progress: Progress | None = None) -> list[Verdict]:
        pairs = [(text, problem.answer) for text, problem in zip(texts, problems, strict=True)]
        conventions = Conventions(self.decimal_comma, self.relations_as_sets)
        verdicts = grade(pairs, self.workers, self.timeout, on_progress, self.memory, conventions)
        again = {
            index: whole
            for index, (verdict, problem) in enumerate(zip(verdicts, problems, strict=True))
            if verdict.verdict == "incorrect" and (whole := _whole(problem)) is not None
        }
        second = grade(
            [(texts[i], gold) for i, gold in again.items()], self.workers, self.timeout, None, self.memory, conventions
        )
        for index, verdict in zip(again, second, strict=True):
            verdicts[index] = verdict if verdict.verdict == "correct" else verdicts[index]
        return verdicts


@dataclasses.dataclass(frozen=True)
class NumberGrader:
    """Compares exactly and never starts a process, for golds that are plain numbers: an answer that is no number is incorrect."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        extraction = extract(text)
        decided = _decide(extraction, problem.answer)
        return _verdict(extraction, False, "exact") if decided is None else decided


def grade_all(
    grader: Grader, texts: Sequence[str], problems: Sequence[Problem], on_progress: Progress | None = None
) -> list[Verdict]:
    """Verdicts of any grader, one for each text, in order; a `MathGrader` gets all texts at once. Raises UserError with file,
    line and problem where a grader of a user's own raises or returns no sound verdict."""
    if isinstance(grader, MathGrader) and type(grader).__call__ is MathGrader.__call__:
        return grader.many(texts, problems, on_progress)
    verdicts = []
    for text, problem in zip(texts, problems, strict=True):
        try:
            with usercode.calling(grader):
                verdict = grader(text, problem)
        except UserError as error:
            raise UserError(f"{error}; this was while grading an answer to problem {problem.id}") from None
        wrong = mistyped(verdict, Verdict, "what it returns")
        if wrong:
            raise UserError(f"{usercode.defined(grader)}: the grader returned no sound verdict for problem {problem.id}: {wrong}")
        verdicts.append(verdict)
        if on_progress is not None:
            on_progress(len(verdicts), len(texts))
    return verdicts


def grade(
    pairs: Sequence[tuple[str, str | None]],
    workers: int = 0,
    timeout: float = TIMEOUT,
    on_progress: Progress | None = None,
    memory: int = MEMORY,
    conventions: Conventions = DEFAULT,
) -> list[Verdict]:
    """Verdicts of (text, gold) pairs, in order.

    A pair without gold is "ungraded", a text without an answer "unparsed". `Verdict.grader` is "exact" (numbers and equal
    spelling, compared in this process), "math-verify", or the reason for which there was no comparison and the verdict is
    "unparsed": "limits" (too long or too large to evaluate), "timeout", "memory", "recursion", "crash", or an error's name.

    `workers`: processes for math-verify; 0: one per core. None is started where "exact" decides all. `timeout`: seconds of
    processor time for a pair. A pair that is not done by then is tried once more, alone, before its reason is "timeout", so that
    a verdict does not depend on the load of the machine, unless its comparison takes about as long as `timeout`. `memory`: bytes
    of address space for a process.
    """
    verdicts: list[Verdict | None] = []
    open_items: dict[tuple[str, str], list[int]] = {}
    extractions: list[Extraction] = []
    for position, (text, gold) in enumerate(pairs):
        extraction = extract(text)
        extractions.append(extraction)
        verdicts.append(_decide(extraction, gold, conventions))
        if verdicts[-1] is None and extraction.answer is not None and gold is not None:
            open_items.setdefault((algebraic(extraction.answer), algebraic(bare(gold))), []).append(position)
    total = len(pairs)
    settled = total - sum(map(len, open_items.values()))
    if on_progress is not None and settled:
        on_progress(settled, total)
    if open_items:
        share = (total - settled) / len(open_items)

        def progress(done: int) -> None:
            if on_progress is not None:
                on_progress(settled + round(done * share), total)

        outcomes = pool.compare(
            list(open_items), workers or os.cpu_count() or 1, timeout, memory, progress, conventions.relations_as_sets
        )
        for positions, outcome in zip(open_items.values(), outcomes, strict=True):
            for position in positions:
                verdicts[position] = _verdict(
                    extractions[position], outcome.equal, "math-verify" if outcome.equal is not None else outcome.reason
                )
    return [verdict for verdict in verdicts if verdict is not None]


def _whole(problem: Problem) -> str | None:
    """All parts of a gold answer, where the problem's own solution has several boxes and the gold answer is the last of them
    alone, as in MATH; None otherwise."""
    if not problem.answer or not problem.solution or "box" not in problem.solution:
        return None
    answer_boxes = filled(problem.solution)
    whole = joined(problem.solution, answer_boxes)
    if (
        whole is None
        or whole.content == answer_boxes[-1].content
        or grade_one(answer_boxes[-1].content, bare(problem.answer)) is not True
    ):
        return None
    return whole.content


def _decide(extraction: Extraction, gold: str | None, conventions: Conventions = DEFAULT) -> Verdict | None:
    if gold is None or not gold.strip():
        return Verdict("ungraded", extraction.answer, extraction.rule, "none")
    if extraction.answer is None:
        return Verdict("unparsed", None, extraction.rule, "none")
    gold = bare(gold)
    if len(extraction.answer) <= LONGEST:
        equal = grade_one(extraction.answer, gold, conventions, extraction.rule)
        if equal is not None:
            return _verdict(extraction, equal, "exact")
    if too_large(extraction.answer) or too_large(gold):
        return _verdict(extraction, None, "limits")
    return None


def _verdict(extraction: Extraction, equal: bool | None, grader: str) -> Verdict:
    name = "unparsed" if equal is None else "correct" if equal else "incorrect"
    return Verdict(name, extraction.answer, extraction.rule, grader)  # type: ignore[arg-type]
