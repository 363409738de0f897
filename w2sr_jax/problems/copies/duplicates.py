"""Near-duplicate questions: one question in other dress, or in nearly the same words."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies import numerals
from w2sr_jax.problems.copies.alike import Words, same_question
from w2sr_jax.problems.copies.dress import drawing, undressed
from w2sr_jax.problems.copies.plaintext import plain
from w2sr_jax.problems.copies.tokens import OPERATORS, Token, key, tokens
from w2sr_jax.problems.settings import Copies

NGRAM = 5  # words in a row that two texts have in common before they are compared
COMMON = 64  # texts that may hold such words before they say nothing about where a text is from
SHARED = 0.3  # of the shorter text's such rows of words
LCS_RATIO = 0.6  # of the shorter text must be in the longer one, in order
FEWEST = 13  # words of a text that is compared word by word
STEM = 8  # words of a question that is the same without its options
SCENE = 12  # words of a question that is the same without its drawing
REASONS = ("other_numbers", "other_names", "overlap", "exact")
AS_THEY_ARE = Copies()
_NUMBER, _NAME = "#", "@"


class Question(NamedTuple):
    """A question as it is compared: keys of its text (several where its numbers can be read in several ways), its tokens, what
    stood around it, its options, the code of its drawing, and whether it is written in formulas."""

    keys: tuple[str, ...]
    tokens: tuple[Token, ...]
    around: str
    options: tuple[str, ...]
    drawing: str | None
    formal: bool

    @property
    def text(self) -> str:
        """Its words, with the options in any order and the drawing."""
        own = key(token.text for token in self.tokens) or self.keys[0]
        return "|".join((own, *sorted(self.options), self.drawing or ""))


def read(question: str, copies: Copies = AS_THEY_ARE) -> Question:
    """A question without its dress: labels, points, instructions, marks of LaTeX, Markdown and HTML, punctuation, upper case,
    accents, white space, and the ways in which numbers and characters are written. What `copies` lets differ is masked in the
    keys."""
    text, code = drawing(question)
    parts = undressed(plain(text))
    found = [tokens(reading) for reading in numerals.readings(parts.text)]
    # What has no word, number or formula is compared as it is.
    keys = tuple(dict.fromkeys(key(_masked(each, copies)) or question.strip() for each in found))
    options = tuple(_plain_key(option) for option in parts.options)
    around = _plain_key(parts.around) if any(map(str.isalnum, parts.around)) else ""
    return Question(keys, tuple(found[0]), around, options, code, "\\" in question)


def normalised(question: str) -> str:
    """A question as text that is the same for all its dresses, options in any order."""
    return read(question).text


class Known:
    """Problems already given away, to be asked whether another one is a copy of one of them.

    `exact`: the same words and numbers, whatever the punctuation, white space and spelling of characters. `renamed`: generated
    problems with equal `meta["signature"]`; two that both have a signature are judged by it alone. `overlap`: the same question
    in another dress (labels, points, instructions around it), or one of 13 words or more with the same numbers and operators in
    the same order whose words differ in little that matters (see `alike.same_question`). `other_names` and `other_numbers`, where
    `copies` asks for them: the same text with other names or numbers; without, that is another problem. Options and drawings may
    be missing in one of two texts that say enough without them, but not differ.
    """

    def __init__(self, problems: Iterable[Problem] = (), copies: Copies = AS_THEY_ARE) -> None:
        self._copies = copies
        self._exact: dict[str, list[Question]] = defaultdict(list)
        self._signatures: set[str] = set()
        self._texts: list[tuple[Question, Words]] = []
        self._grams: dict[int, list[int]] = defaultdict(list)
        self._last: tuple[Problem, str | None] | None = None  # arms ask for the same problem one after the other
        for problem in problems:
            self.add(problem)

    def read(self, problem: Problem) -> Question:
        """A problem's question as `add` and `match` take it, for those who ask for both."""
        return read(problem.question, self._copies)

    def add(self, problem: Problem, asked: Question | None = None) -> None:
        asked, self._last = asked or self.read(problem), None
        for found in asked.keys:
            self._exact[found].append(asked)
        if "signature" in problem.meta:
            self._signatures.add(problem.meta["signature"])
        elif len(asked.tokens) >= FEWEST:
            words = _words(asked, self._copies)
            self._texts.append((asked, words))
            for gram in self._rows(words):
                self._grams[gram].append(len(self._texts) - 1)

    def match(self, problem: Problem, asked: Question | None = None) -> str | None:
        """The reason why `problem` is a copy of a known one, or None."""
        if self._last is None or self._last[0] is not problem:
            self._last = problem, self._match(problem, asked)
        return self._last[1]

    def _match(self, problem: Problem, asked: Question | None) -> str | None:
        asked = asked or self.read(problem)
        same = [other for found in asked.keys for other in self._exact.get(found, ()) if _compatible(asked, other)]
        if same:
            return max((self._reason(asked, other) for other in same), key=REASONS.index)
        if "signature" in problem.meta:
            return "renamed" if problem.meta["signature"] in self._signatures else None
        if len(asked.tokens) < FEWEST or not self._texts:
            return None
        words = _words(asked, self._copies)
        values = _values(words)
        for index in self._candidates(words):
            other, theirs = self._texts[index]
            if (
                values == _values(theirs)
                and _compatible(asked, other)
                and lcs(words.tokens, theirs.tokens) > LCS_RATIO * min(len(words.tokens), len(theirs.tokens))
                and same_question(words, theirs, self._copies.other_names)
            ):
                return self._reason(asked, other, "overlap")
        return None

    def _reason(self, asked: Question, other: Question, same: str = "exact") -> str:
        """How a question is a copy of another one."""
        if self._copies.other_numbers and _numbers(asked) != _numbers(other):
            return "other_numbers"
        if self._copies.other_names and same == "exact" and _texts(asked).isdisjoint(_texts(other)):
            return "other_names"
        return same if asked.around == other.around else "overlap"

    def _candidates(self, words: Words) -> list[int]:
        """The texts that have enough words in a row in common with a question."""
        rows = self._rows(words)
        counts = Counter(index for gram in rows if len(found := self._grams.get(gram, ())) <= COMMON for index in found)
        sizes = ((index, shared, len(self._texts[index][1].tokens) - NGRAM + 1) for index, shared in counts.items())
        return sorted(index for index, shared, size in sizes if shared >= SHARED * min(len(rows), size))

    def _rows(self, words: Words) -> set[int]:
        masked = [_NAME if word in words.names else word for word in words.tokens] if self._copies.other_names else words.tokens
        return {hash(tuple(masked[at : at + NGRAM])) for at in range(len(masked) - NGRAM + 1)}


def _words(asked: Question, copies: Copies) -> Words:
    texts = [token.text for token in asked.tokens]
    marked = tuple(_NUMBER if copies.other_numbers and text[0].isdigit() else text for text in texts)
    begins = frozenset(place for place, token in enumerate(asked.tokens) if token.begins)
    formal = asked.formal or any(text in OPERATORS and text not in "():" for text in texts)
    return Words(marked, begins, _names(asked.tokens), formal)


def _values(words: Words) -> list[str]:
    """Numbers and operators, in order."""
    return [word for word in words.tokens if word[0].isdigit() or word in OPERATORS or word == _NUMBER]


def _numbers(asked: Question) -> list[str]:
    return [token.text for token in asked.tokens if token.text[0].isdigit()]


def _texts(asked: Question) -> set[str]:
    return {key(token.text for token in asked.tokens)}


def _compatible(a: Question, b: Question) -> bool:
    """Whether options and drawings, where both have them, are the same, and where one has none, the text says enough without."""
    shorter = min(len(a.tokens), len(b.tokens))
    if a.options != b.options and sorted(a.options) != sorted(b.options) and ((a.options and b.options) or shorter < STEM):
        return False
    return a.drawing == b.drawing or (None in (a.drawing, b.drawing) and shorter >= SCENE)


def _plain_key(text: str) -> str:
    return key(token.text for token in tokens(next(numerals.readings(text))))


def _names(found: Sequence[Token]) -> frozenset[str]:
    """Words that are always written with a capital; none in a text that is in capitals."""
    words = [token for token in found if token.text[0].isalpha()]
    small = {token.text for token in words if not token.capital}
    capital = {token.text for token in words} - small
    return frozenset(capital) if small and sum(token.capital for token in words) <= 0.6 * len(words) else frozenset()


def _masked(found: Sequence[Token], copies: Copies) -> Sequence[str]:
    """The words of a text, with marks in place of what may differ: numbers, and names by the order in which they come."""
    words = [token.text for token in found]
    if copies.other_numbers:
        words = [_NUMBER if word[0].isdigit() else word for word in words]
    if not copies.other_names:
        return words
    names, order = _names(found), dict[tuple[str, ...], str]()
    masked: list[str] = []
    for named, run in itertools.groupby(words, names.__contains__):
        together = tuple(run)
        masked += [order.setdefault(together, f"{_NAME}{len(order)}")] if named else together
    return masked


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
    places: dict[str, int] = defaultdict(int)
    for position, word in enumerate(a):
        places[word] |= 1 << position
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        common = row & places.get(word, 0)
        row = ((row + common) | (row - common)) & full
    return len(a) - row.bit_count()
