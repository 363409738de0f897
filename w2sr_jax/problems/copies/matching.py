"""Look up problems by questions that are written in other files."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies import numerals, wordlists
from w2sr_jax.problems.copies.duplicates import normalised

_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{4,}")
_DIGIT = re.compile(r"[^0-9]+")
RARE = 2  # rarest words of a question, of which a text must have one to be that question
SAME = 0.8  # of a question's words, which the text must have, too
FEW = 3  # words, or digits, that are enough to recognise a question by
BOILERPLATE = 200  # characters that a text may have around a question of fewer words and digits


class Questions:
    """Finds the problem that a text asks: the first one with the same question, white space aside, else the only one with an
    equal `normalised` question."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._written: dict[str, Problem] = {}
        for problem in problems:
            self._written.setdefault(single_spaced(problem.question), problem)
        self._normalised: dict[str, Problem | None] | None = None
        self._prefilter = _Prefilter(())

    def find(self, question: str) -> Problem | None:
        """The problem; None where there is none, or where several have an equal `normalised` question."""
        same = self._written.get(single_spaced(question))
        if same is not None or not self._written:
            return same
        if self._normalised is None:  # most files spell questions as the problems do, and never get here
            self._normalised = {}
            for problem in self._written.values():
                key = normalised(problem.question)
                self._normalised[key] = None if key in self._normalised else problem
            self._prefilter = _Prefilter([problem.question for problem in self._written.values()])
        return self._normalised.get(normalised(question)) if self._prefilter.may_hold(question) else None


class _Prefilter:
    """Tells quickly that a text is none of some questions, so that most texts of a large file need not be normalised."""

    def __init__(self, questions: Sequence[str]) -> None:
        words = [_words(question) for question in questions]
        often = Counter(word for own in words for word in own)
        self._by_word: dict[str, list[frozenset[str]]] = {}
        self._digits: dict[str, int] = {}
        for question, own in zip(questions, words, strict=True):
            if len(own) < FEW:
                digits = _DIGIT.sub("", question)
                self._digits[digits] = max(len(question), self._digits.get(digits, 0))
                continue
            for word in sorted(own, key=lambda word: (often[word], word))[:RARE]:
                self._by_word.setdefault(word, []).append(own)

    def may_hold(self, text: str) -> bool:
        if not text.isascii():
            return True
        words = _words(text)
        if any(len(own & words) >= SAME * len(own) for word in words for own in self._by_word.get(word, ())):
            return True
        digits = _DIGIT.sub("", text)
        return any(own in digits for own, size in self._digits.items() if len(own) >= FEW or len(text) <= size + BOILERPLATE)


def _words(text: str) -> frozenset[str]:
    """Words that all copies of a question have: those of four letters or more, without LaTeX commands, names of signs, words for
    numbers and words that ask for a value."""
    return frozenset(_WORD.findall(text.lower())) - wordlists.ASKING - {"what", "value", "angle", "triangle"} - numerals.WORDS


def single_spaced(question: str) -> str:
    """A question's text with single spaces in place of all white space."""
    return " ".join(question.split())
