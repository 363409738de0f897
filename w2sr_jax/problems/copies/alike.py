"""Whether two questions that have the same numbers and nearly the same words are one question."""

from difflib import SequenceMatcher
from typing import NamedTuple

from w2sr_jax.problems.copies import wordlists

PER_WORD = 20  # one word in so many may be spelt in another way
SPELLING = 0.6  # of the letters of two spellings of a word, at least, are the same
SURPLUS = 0.5  # of the shorter text: so much may stand before it or behind it in the longer one


class Words(NamedTuple):
    """A question to compare: its tokens, the places where a sentence begins, the tokens that are always written with a capital,
    and whether it is written in formulas."""

    tokens: tuple[str, ...]
    begins: frozenset[int]
    names: frozenset[str]
    formal: bool


def same_question(a: Words, b: Words, other_names: bool = False) -> bool:
    """Whether two texts with the same numbers are one question. What only one of them has are sentences before or behind the rest
    that ask nothing and count nothing, words that say little, and, in texts without formulas, other spellings of one word in
    twenty. Names may differ if `other_names`, each in the same way throughout."""
    here, there = frozenset(a.tokens), frozenset(b.tokens)
    shorter = min(len(a.tokens), len(b.tokens))
    renamed: dict[str, str] = {}
    respelt: set[str] = set()
    for kind, i1, i2, j1, j2 in SequenceMatcher(None, a.tokens, b.tokens, autojunk=False).get_opcodes():
        if kind == "equal":
            continue
        gone, come = a.tokens[i1:i2], b.tokens[j1:j2]
        if any(word in wordlists.MEANING or word in wordlists.MEANING_SYLLABLES for word in (*gone, *come)):
            return False
        if gone and come and wordlists.RELATING.issuperset((*gone, *come)) and not other_names:
            return False
        if (not gone and _around(b, j1, j2, shorter)) or (not come and _around(a, i1, i2, shorter)):
            continue
        if gone and come and a.names.issuperset(gone) and b.names.issuperset(come):
            if not other_names or not there.isdisjoint(gone) or not here.isdisjoint(come):
                return False
            if renamed.setdefault(" ".join(gone), " ".join(come)) != " ".join(come):
                return False
            continue
        lost, new = ([word for word in words if not _says_little(word)] for words in (gone, come))
        # A word that the other text has elsewhere plays another part there.
        if len(lost) != len(new) or not there.isdisjoint(lost) or not here.isdisjoint(new):
            return False
        if not all(_spelt_alike(one, other) for one, other in zip(lost, new)):
            return False
        respelt.update(lost)
    allowed = 0 if a.formal or b.formal else shorter // PER_WORD
    return len(respelt) <= allowed and len(set(renamed.values())) == len(renamed)


def _around(text: Words, start: int, end: int, shorter: int) -> bool:
    """Whether a part that only one text has is made of sentences before the rest, or behind it."""
    if end - start > SURPLUS * shorter:
        return False
    return (start == 0 and end in text.begins) or (end == len(text.tokens) and start in text.begins)


def _says_little(word: str) -> bool:
    return word in wordlists.FUNCTION or word in wordlists.RELATING or word in wordlists.FUNCTION_SYLLABLES


def _spelt_alike(one: str, other: str) -> bool:
    """Whether two words may be spellings of one: `centre` and `center`, `summer` and `sumer`."""
    if one[0] != other[0] or abs(len(one) - len(other)) > 2:
        return False
    return SequenceMatcher(None, one, other, autojunk=False).ratio() > SPELLING
