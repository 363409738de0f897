"""Verdicts: extract the answer, compare numbers exactly and all else with `math-verify` in killable processes."""

import dataclasses
import os
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Protocol

from w2sr_jax.answers import pool
from w2sr_jax.answers.extract import Extraction, boxes, extract, tidy
from w2sr_jax.answers.numbers import Number, number
from w2sr_jax.records import Problem, Verdict

LONGEST = 1500  # characters of an answer that is still compared
PLACES = 6  # decimals from which a decimal may stand for a repeating fraction
TIMEOUT = 5.0
MEMORY = 2 << 30

Progress = Callable[[int, int], None]


class Grader(Protocol):
    """What grades: any function or frozen dataclass called with a text and its problem."""

    def __call__(self, text: str, problem: Problem) -> Verdict: ...


@dataclasses.dataclass(frozen=True)
class MathGrader:
    """Exact comparison of numbers, `math-verify` for everything else."""

    workers: int = 0
    """Processes for what needs math-verify; 0: one per core."""
    timeout: float = TIMEOUT
    """Seconds of processor time, not of the clock, after which a comparison is killed; its verdict is then "unparsed"."""
    memory: int = MEMORY
    """Bytes of address space a process may take; 0: no limit."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        return self.many([text], [problem])[0]

    def many(self, texts: Sequence[str], problems: Sequence[Problem], on_progress: Progress | None = None) -> list[Verdict]:
        pairs = [(text, problem.answer) for text, problem in zip(texts, problems, strict=True)]
        return grade(pairs, self.workers, self.timeout, on_progress, self.memory)


@dataclasses.dataclass(frozen=True)
class NumberGrader:
    """Exact comparison and nothing else, for golds that are plain numbers: an answer that is no number is incorrect."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        extraction = extract(text)
        decided = _decide(extraction, problem.answer)
        return _verdict(extraction, False, "exact") if decided is None else decided


def grade_all(
    grader: Grader, texts: Sequence[str], problems: Sequence[Problem], on_progress: Progress | None = None
) -> list[Verdict]:
    """Verdicts of any grader, in order; a `MathGrader` gets all texts at once."""
    if isinstance(grader, MathGrader):
        return grader.many(texts, problems, on_progress)
    verdicts = []
    for text, problem in zip(texts, problems, strict=True):
        verdicts.append(grader(text, problem))
        if on_progress is not None:
            on_progress(len(verdicts), len(texts))
    return verdicts


def grade(
    pairs: Sequence[tuple[str, str | None]],
    workers: int = 0,
    timeout: float = TIMEOUT,
    on_progress: Progress | None = None,
    memory: int = MEMORY,
) -> list[Verdict]:
    """Verdicts of (text, gold) pairs, in order.

    Without gold: "ungraded". Without an answer in the text: "unparsed". `Verdict.grader` is "exact" (numbers and equal
    spelling, in this process), "math-verify", or why no comparison came out and the verdict is "unparsed": "limits" (too long or
    too large to evaluate), "timeout", "memory", "recursion", "crash", or an error's name. `workers` 0: one per core; none is
    started where "exact" decides all. `timeout` is processor time, and what is not done by then is tried once more, alone, before
    it is called so: a verdict does not depend on load, unless its comparison takes about as long as `timeout` itself.
    """
    verdicts: list[Verdict | None] = []
    open_items: dict[tuple[str, str], list[int]] = {}
    found: list[Extraction] = []
    for position, (text, gold) in enumerate(pairs):
        extraction = extract(text)
        found.append(extraction)
        verdicts.append(_decide(extraction, gold))
        if verdicts[-1] is None and extraction.answer is not None and gold is not None:
            open_items.setdefault((extraction.answer, bare(gold)), []).append(position)
    total = len(pairs)
    settled = total - sum(map(len, open_items.values()))
    if on_progress is not None and settled:
        on_progress(settled, total)
    if open_items:
        share = (total - settled) / len(open_items)

        def progress(done: int) -> None:
            if on_progress is not None:
                on_progress(settled + round(done * share), total)

        outcomes = pool.compare(list(open_items), workers or os.cpu_count() or 1, timeout, memory, progress)
        for positions, outcome in zip(open_items.values(), outcomes, strict=True):
            for position in positions:
                verdicts[position] = _verdict(
                    found[position], outcome.equal, "math-verify" if outcome.equal is not None else outcome.reason
                )
    return [verdict for verdict in verdicts if verdict is not None]


def grade_one(answer: str, gold: str) -> bool | None:
    """Whether two bare answers are equal, where that is certain: both are numbers, or both are spelled alike. None: undecided.

    Numbers are compared as exact rationals, with two conventions: a percentage equals its number (5 % and 5) and its value (5 %
    and 0.05); a decimal of six or more places equals the repeating fraction that it is the rounding of (0.333333 and 1/3).
    """
    left, right = number(answer), number(gold)
    if left is not None and right is not None:
        return left.value == right.value or _percentage(left, right) or _rounded(left, right)
    return True if _spelling(answer) == _spelling(gold) else None


def canonical(answer: str) -> str:
    """One spelling for equal answers, as far as certain: exact rationals for numbers, else without spaces and case. For votes."""
    value = number(answer)
    return _spelling(answer) if value is None else f"{value.value}{'%' if value.percent else ''}"


def bare(gold: str) -> str:
    """A gold answer without its wrapping: the line after `####`, the content of its box, no math delimiters."""
    if "####" in gold or boxes(gold):
        return extract(gold).answer or tidy(gold)
    return tidy(gold)


def _decide(extraction: Extraction, gold: str | None) -> Verdict | None:
    if gold is None or not gold.strip():
        return Verdict("ungraded", extraction.answer, extraction.rule, "none")
    if extraction.answer is None:
        return Verdict("unparsed", None, extraction.rule, "none")
    gold = bare(gold)
    if len(extraction.answer) <= LONGEST:
        equal = grade_one(extraction.answer, gold)
        if equal is not None:
            return _verdict(extraction, equal, "exact")
    if _too_large(extraction.answer) or _too_large(gold):
        return _verdict(extraction, None, "limits")
    return None


def _verdict(extraction: Extraction, equal: bool | None, grader: str) -> Verdict:
    name = "unparsed" if equal is None else "correct" if equal else "incorrect"
    return Verdict(name, extraction.answer, extraction.rule, grader)  # type: ignore[arg-type]


def _percentage(left: Number, right: Number) -> bool:
    if left.percent == right.percent:
        return False
    part, whole = (left, right) if left.percent else (right, left)
    return part.value / 100 == whole.value


def _rounded(left: Number, right: Number) -> bool:
    decimal, exact = (left, right) if left.places >= right.places else (right, left)
    repeating = 10**decimal.places * exact.value
    return (
        decimal.places >= PLACES
        and repeating.denominator > 1
        and abs(repeating - 10**decimal.places * decimal.value) <= Fraction(1, 2)
    )


_POWER = re.compile(r"(?:\^|\*\*)\s*(?:[{(]\s*)?(?:-\s*)?(\d+)")
_TOWER = re.compile(r"(?:\^|\*\*)\s*(?:[{(][^{}()]{0,40}|[\w.!]{1,40}\s*)(?:\^|\*\*)")
_LARGE = re.compile(r"\d{5,}\s*!|!\s*[)}\]]?\s*!|\d{400,}")


def _too_large(answer: str) -> bool:
    """Whether evaluating would take for ever: length, exponents of five digits or more, towers of powers, large factorials."""
    return (
        len(answer) > LONGEST
        or any(len(match[1]) > 4 for match in _POWER.finditer(answer))
        or _TOWER.search(answer) is not None
        or _LARGE.search(answer) is not None
    )


def _spelling(answer: str) -> str:
    return (
        re.sub(r"\s+|\\[,;:! ]|\\left|\\right", "", answer.replace("dfrac", "frac").replace("tfrac", "frac"))
        .rstrip(".")
        .casefold()
    )
