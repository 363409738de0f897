"""Problems by their questions, as texts of other files are matched to them."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies import numerals, wordlists
from w2sr_jax.problems.copies.duplicates import normalised

_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{4,}")
_DIGIT = re.compile(r"[^0-9]+")
RARE = 2  # words of a question, rare among the others', one of which a text must have to be the question
SAME = 0.8  # of a question's words, which the text must have, too
FEW = 3  # words, or digits, by which a question can be known
DRESS = 200  # characters around a question of fewer words and digits


class Questions:
    """Finds the problem that a question is: the first one with the same text, white space aside, else the only one with the same
    text in another dress (`normalised`)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._written: dict[str, Problem] = {}
        for problem in problems:
            self._written.setdefault(written(problem.question), problem)
        self._dressed: dict[str, Problem | None] | None = None
        self._marks = _Marks(())

    def find(self, question: str) -> Problem | None:
        """The problem, or None where there is none, or where several questions differ in nothing but dress."""
        same = self._written.get(written(question))
        if same is not None or not self._written:
            return same
        if self._dressed is None:  # a look at the text alone is enough for most files
            self._dressed = {}
            for problem in self._written.values():
                key = normalised(problem.question)
                self._dressed[key] = None if key in self._dressed else problem
            self._marks = _Marks([problem.question for problem in self._written.values()])
        return self._dressed.get(normalised(question)) if self._marks.may_hold(question) else None


class _Marks:
    """A quick look at whether a text may be one of some questions, which spares most texts of a large file the reading."""

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
        return any(own in digits for own, size in self._digits.items() if len(own) >= FEW or len(text) <= size + DRESS)


def _words(text: str) -> frozenset[str]:
    """Words that a dress does not change: long ones, but for commands of LaTeX and words for signs or for a value."""
    return frozenset(_WORD.findall(text.lower())) - wordlists.ASKING - {"what", "value", "angle", "triangle"} - numerals.WORDS


def written(question: str) -> str:
    """A question's text with single spaces."""
    return " ".join(question.split())
