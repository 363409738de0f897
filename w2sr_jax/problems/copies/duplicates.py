"""Near-duplicate questions: the same question with other boilerplate or in another spelling, or in nearly the same words."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies import numerals
from w2sr_jax.problems.copies.boilerplate import drawing, without_boilerplate
from w2sr_jax.problems.copies.comparison import Words, same_question
from w2sr_jax.problems.copies.plaintext import plain
from w2sr_jax.problems.copies.tokens import OPERATORS, Token, key, tokens
from w2sr_jax.problems.settings import Copies

NGRAM = 5  # words in a row that two texts must have in common to be compared
MOST_HOLDERS = 64  # texts with the same words in a row; words that more texts have are too common to count
SHARED_NGRAMS = 0.3  # of the shorter text's rows of words, which must be in the other text
LCS_RATIO = 0.6  # of the shorter text's words, which must be in the longer one, in order
LEAST_COMPARED = 13  # words; shorter texts are not compared word by word
LEAST_WITHOUT_OPTIONS = 8  # words that identify a question whose options are missing
LEAST_WITHOUT_DRAWING = 12  # words that identify a question whose drawing is missing
REASONS = ("other_numbers", "other_names", "overlap", "exact")
NO_LOOSER_COPIES = Copies()
_NUMBER, _NAME = "#", "@"


class Question(NamedTuple):
    """A question as it is compared: the keys of its text (several where its numbers can be read in several ways), its tokens, the
    boilerplate `around` it, its options, the code of its drawing, and whether it has formulas in LaTeX (`formal`)."""

    keys: tuple[str, ...]
    tokens: tuple[Token, ...]
    around: str
    options: tuple[str, ...]
    drawing: str | None
    formal: bool

    @property
    def text(self) -> str:
        """One spelling for all copies of the question: its words, its options sorted, and its drawing."""
        own = key(token.text for token in self.tokens) or self.keys[0]
        return "|".join((own, *sorted(self.options), self.drawing or ""))


def read(question: str, copies: Copies = NO_LOOSER_COPIES) -> Question:
    """A question prepared for comparison.

    Removed are labels, points and instructions around it, LaTeX, Markdown and HTML marks, punctuation, case, accents and white
    space; numbers and characters get one spelling. Names or numbers that may differ according to `copies` are masked in the keys.
    """
    text, code = drawing(question)
    parts = without_boilerplate(plain(text))
    token_lists = [tokens(reading) for reading in numerals.readings(parts.text)]
    # A question without words, numbers and formulas is compared as it is.
    keys = tuple(dict.fromkeys(key(_masked(each, copies)) or question.strip() for each in token_lists))
    options = tuple(_plain_key(option) for option in parts.options)
    around = _plain_key(parts.around) if any(map(str.isalnum, parts.around)) else ""
    return Question(keys, tuple(token_lists[0]), around, options, code, "\\" in question)


def normalised(question: str) -> str:
    """A text that is equal for all copies of a question that `read` makes equal, whatever the order of their options."""
    return read(question).text


class CopyIndex:
    """A collection of problems that finds copies of them. The reasons for which a problem is a copy:

    - `exact`: the same words and numbers, whatever the punctuation, white space and spelling of characters.
    - `renamed`: generated problems with equal `meta["signature"]`; two that both have a signature are compared by it alone.
    - `overlap`: the same question with other boilerplate (labels, points, instructions around it); or a question of 13 words or
      more with the same numbers and operators in the same order and nearly the same words (see `comparison.same_question`).
    - `other_names`, `other_numbers`: the same text with other names or numbers, where `copies` counts that as a copy.

    Options and drawings of two copies are equal, or one of the copies lacks them and identifies the question without them.
    """

    def __init__(self, problems: Iterable[Problem] = (), copies: Copies = NO_LOOSER_COPIES) -> None:
        self._copies = copies
        self._exact: dict[str, list[Question]] = defaultdict(list)
        self._signatures: set[str] = set()
        self._texts: list[tuple[Question, Words]] = []
        self._grams: dict[int, list[int]] = defaultdict(list)
        self._last: tuple[Problem, str | None] | None = None  # several arms ask for one problem in a row
        for problem in problems:
            self.add(problem)

    def read(self, problem: Problem) -> Question:
        """A problem's question prepared for `add` and `match`, so that a caller of both prepares it once."""
        return read(problem.question, self._copies)

    def add(self, problem: Problem, question: Question | None = None) -> None:
        question, self._last = question or self.read(problem), None
        for own_key in question.keys:
            self._exact[own_key].append(question)
        if "signature" in problem.meta:
            self._signatures.add(problem.meta["signature"])
        elif len(question.tokens) >= LEAST_COMPARED:
            words = _words(question, self._copies)
            self._texts.append((question, words))
            for gram in self._rows(words):
                self._grams[gram].append(len(self._texts) - 1)

    def match(self, problem: Problem, question: Question | None = None) -> str | None:
        """The reason for which `problem` is a copy of one of the collection; None where it is no copy."""
        if self._last is None or self._last[0] is not problem:
            self._last = problem, self._match(problem, question)
        return self._last[1]

    def _match(self, problem: Problem, question: Question | None) -> str | None:
        question = question or self.read(problem)
        same = [other for own_key in question.keys for other in self._exact.get(own_key, ()) if _compatible(question, other)]
        if same:
            return max((self._reason(question, other) for other in same), key=REASONS.index)
        if "signature" in problem.meta:
            return "renamed" if problem.meta["signature"] in self._signatures else None
        if len(question.tokens) < LEAST_COMPARED or not self._texts:
            return None
        words = _words(question, self._copies)
        values = _values(words)
        for index in self._candidates(words):
            other, theirs = self._texts[index]
            if (
                values == _values(theirs)
                and _compatible(question, other)
                and lcs(words.tokens, theirs.tokens) > LCS_RATIO * min(len(words.tokens), len(theirs.tokens))
                and same_question(words, theirs, self._copies.other_names)
            ):
                return self._reason(question, other, "overlap")
        return None

    def _reason(self, question: Question, other: Question, same: str = "exact") -> str:
        """The reason for which `question` is a copy of `other`; `same` is "exact" or "overlap", by which it was found."""
        if self._copies.other_numbers and _numbers(question) != _numbers(other):
            return "other_numbers"
        if self._copies.other_names and same == "exact" and _texts(question).isdisjoint(_texts(other)):
            return "other_names"
        return same if question.around == other.around else "overlap"

    def _candidates(self, words: Words) -> list[int]:
        """The indices of the texts that have enough rows of words in common with a question."""
        rows = self._rows(words)
        counts = Counter(index for gram in rows if len(holders := self._grams.get(gram, ())) <= MOST_HOLDERS for index in holders)
        sizes = ((index, shared, len(self._texts[index][1].tokens) - NGRAM + 1) for index, shared in counts.items())
        return sorted(index for index, shared, size in sizes if shared >= SHARED_NGRAMS * min(len(rows), size))

    def _rows(self, words: Words) -> set[int]:
        masked = [_NAME if word in words.names else word for word in words.tokens] if self._copies.other_names else words.tokens
        return {hash(tuple(masked[start : start + NGRAM])) for start in range(len(masked) - NGRAM + 1)}


def _words(question: Question, copies: Copies) -> Words:
    texts = [token.text for token in question.tokens]
    marked = tuple(_NUMBER if copies.other_numbers and text[0].isdigit() else text for text in texts)
    begins = frozenset(index for index, token in enumerate(question.tokens) if token.begins)
    formal = question.formal or any(text in OPERATORS and text not in "():" for text in texts)
    return Words(marked, begins, _names(question.tokens), formal)


def _values(words: Words) -> list[str]:
    """The numbers and operators of a question, in order."""
    return [word for word in words.tokens if word[0].isdigit() or word in OPERATORS or word == _NUMBER]


def _numbers(question: Question) -> list[str]:
    return [token.text for token in question.tokens if token.text[0].isdigit()]


def _texts(question: Question) -> set[str]:
    return {key(token.text for token in question.tokens)}


def _compatible(a: Question, b: Question) -> bool:
    """Whether the options and drawings of two questions do not contradict each other: they are equal, or missing in one of the
    two, and the shorter text identifies the question without them."""
    shorter = min(len(a.tokens), len(b.tokens))
    if (
        a.options != b.options
        and sorted(a.options) != sorted(b.options)
        and ((a.options and b.options) or shorter < LEAST_WITHOUT_OPTIONS)
    ):
        return False
    return a.drawing == b.drawing or (None in (a.drawing, b.drawing) and shorter >= LEAST_WITHOUT_DRAWING)


def _plain_key(text: str) -> str:
    return key(token.text for token in tokens(next(numerals.readings(text))))


def _names(sequence: Sequence[Token]) -> frozenset[str]:
    """The words that are always written with a capital; none where most words of the text are."""
    words = [token for token in sequence if token.text[0].isalpha()]
    small = {token.text for token in words if not token.capital}
    capital = {token.text for token in words} - small
    return frozenset(capital) if small and sum(token.capital for token in words) <= 0.6 * len(words) else frozenset()


def _masked(sequence: Sequence[Token], copies: Copies) -> Sequence[str]:
    """The words of a text with masks for what may differ according to `copies`: numbers, and names by order of first
    occurrence."""
    words = [token.text for token in sequence]
    if copies.other_numbers:
        words = [_NUMBER if word[0].isdigit() else word for word in words]
    if not copies.other_names:
        return words
    names, order = _names(sequence), dict[tuple[str, ...], str]()
    masked: list[str] = []
    for named, run in itertools.groupby(words, names.__contains__):
        run_words = tuple(run)
        masked += [order.setdefault(run_words, f"{_NAME}{len(order)}")] if named else run_words
    return masked


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence of `a` and `b`, bit-parallel (Hyyrö 2004)."""
    positions: dict[str, int] = defaultdict(int)
    for position, word in enumerate(a):
        positions[word] |= 1 << position
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        common = row & positions.get(word, 0)
        row = ((row + common) | (row - common)) & full
    return len(a) - row.bit_count()
