"""Graders besides `MathGrader`: exact spelling, numbers with tolerance, regular expressions.

Each says "unparsed" where it finds no answer or cannot read it, so that a report shows how often that was.
"""

import dataclasses
import math
import re
import string
from collections import deque
from fractions import Fraction
from typing import Any, Literal

from w2sr_jax.answers.choice import ChoiceGrader
from w2sr_jax.answers.equal import bare, grade_one
from w2sr_jax.answers.extract import LONGEST, Extraction, extract
from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.values import arithmetic
from w2sr_jax.core import sentences, thinking
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Verdict

__all__ = ["ChoiceGrader", "ExactGrader", "NumericGrader", "RegexGrader"]

_SPACE = re.compile(r"\s+")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b", re.I)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclasses.dataclass(frozen=True)
class ExactGrader:
    """Correct where the answer is spelled like the gold one, after both are normalised as these settings say."""

    whole: bool = False
    """Compare the whole text outside of thoughts, not the final answer in it."""
    case: bool = False
    """Whether upper and lower case differ."""
    spaces: bool = False
    """Whether white space counts; otherwise runs of it are one space, and outer ones none."""
    punctuation: bool = True
    """Whether punctuation counts."""
    articles: bool = True
    """Whether a, an and the count."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        outside = thinking.read(text).outside if self.whole else ""
        extraction = Extraction(outside if outside.strip() else None, "whole") if self.whole else extract(text)
        if problem.answer is None or not problem.answer.strip():
            return Verdict("ungraded", extraction.answer, extraction.rule, "none")
        if extraction.answer is None:
            return Verdict("unparsed", None, extraction.rule, "none")
        gold = problem.answer if self.whole else bare(problem.answer)
        return _verdict(extraction, self._normal(extraction.answer) == self._normal(gold), "exact")

    def _normal(self, text: str) -> str:
        text = text if self.case else text.casefold()
        text = text if self.punctuation else text.translate(_PUNCTUATION)
        text = text if self.articles else _ARTICLE.sub(" ", text)
        return text if self.spaces else _SPACE.sub(" ", text).strip()


@dataclasses.dataclass(frozen=True)
class NumericGrader:
    """Correct where the answer, as an exact number, differs from gold by at most `absolute`, or by at most `relative` times gold.
    An answer that is no number is unparsed; a problem whose gold is no number is ungraded."""

    absolute: float = 0.0
    """Largest difference."""
    relative: float = 0.0
    """Largest difference as a part of the gold answer's size."""

    def __post_init__(self) -> None:
        for name in ("absolute", "relative"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and math.isfinite(value) and value >= 0):
                raise UserError(f"NumericGrader: {name} is {sentences.value(value)}; it must be a number of 0 or more")

    def __call__(self, text: str, problem: Problem) -> Verdict:
        extraction = extract(text)
        gold = _number(bare(problem.answer)) if problem.answer is not None else None
        if gold is None:
            return Verdict("ungraded", extraction.answer, extraction.rule, "none")
        value = _number(extraction.answer) if extraction.answer is not None else None
        if value is None:
            return Verdict("unparsed", extraction.answer, extraction.rule, "none" if extraction.answer is None else "no number")
        allowed = max(Fraction(self.absolute), Fraction(self.relative) * abs(gold))
        return _verdict(extraction, abs(value - gold) <= allowed, "numeric")


@dataclasses.dataclass(frozen=True)
class RegexGrader:
    """Finds the answer with a regular expression (in the syntax of the `regex` package, which includes that of `re`) and compares
    it with gold as a number or, where one of them is no number, by spelling. A text without a match is unparsed."""

    pattern: str = r"[Aa]nswer:\s*(.+)"
    """What to look for. The answer is its group `answer`, else its first group, else all that matches."""
    take: Literal["last", "first"] = "last"
    """Which of several matches counts."""
    ignore_case: bool = False
    """Whether upper and lower case are alike, here and in comparing spellings."""
    thoughts: bool = False
    """Whether a match inside a thought (`<think>…</think>` and its like) counts, or one in a thought that is cut off."""
    timeout: float = 1.0
    """Seconds of processor time for one text, after which it is unparsed: some patterns take for ever on some texts."""

    def __post_init__(self) -> None:
        if not (isinstance(self.timeout, int | float) and math.isfinite(self.timeout) and self.timeout > 0):
            raise UserError(f"RegexGrader: timeout is {sentences.value(self.timeout)}; it must be more than 0 seconds")
        self._compiled()

    def __call__(self, text: str, problem: Problem) -> Verdict:
        try:
            searched = text if self.thoughts else thinking.read(text).outside
            matches = self._compiled().finditer(searched[-LONGEST:], timeout=self.timeout)
            match = next(matches, None) if self.take == "first" else next(iter(deque(matches, maxlen=1)), None)
        except TimeoutError:
            return Verdict("unparsed", None, "regex", "timeout")
        except (MemoryError, RecursionError) as error:
            return Verdict("unparsed", None, "regex", type(error).__name__)
        answer = _group(match)
        if problem.answer is None or not problem.answer.strip():
            return Verdict("ungraded", answer, "regex", "none")
        if answer is None:
            return Verdict("unparsed", None, "regex", "none")
        gold = bare(problem.answer)
        equal = grade_one(answer, gold)
        if equal is None or number(answer) is None:  # grade_one is blind to case
            equal = " ".join(answer.split()) == " ".join(gold.split()) or (self.ignore_case and bool(equal))
        return _verdict(Extraction(answer, "regex"), equal, "exact")

    def _compiled(self) -> Any:
        import regex

        try:
            return regex.compile(self.pattern, regex.IGNORECASE if self.ignore_case else 0)
        except Exception as error:
            raise UserError(
                f"RegexGrader: {sentences.value(self.pattern)} is no regular expression: {sentences.cause(error)}"
            ) from None


def _group(match: Any) -> str | None:
    """The answer in a match: its group `answer`, else its first group, else all of it; None where that is empty."""
    if match is None:
        return None
    text = match["answer"] if "answer" in match.re.groupindex else match[min(1, match.re.groups)]
    return text.strip() or None if text is not None else None


def _number(text: str) -> Fraction | None:
    """The exact value of a number or constant expression."""
    value = number(text)
    if value is not None:
        return value.value
    try:
        return arithmetic.value(text)
    except arithmetic.TooLarge:
        return None


def _verdict(extraction: Extraction, equal: bool, grader: str) -> Verdict:
    return Verdict("correct" if equal else "incorrect", extraction.answer, extraction.rule, grader)
