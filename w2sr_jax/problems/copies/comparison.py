"""Whether two texts with the same numbers and nearly the same words are the same question."""

from difflib import SequenceMatcher
from typing import NamedTuple

from w2sr_jax.problems.copies import wordlists

PER_WORD = 20  # one word in so many may be spelled differently
SPELLING = 0.6  # least share of letters that two spellings of a word have in common
SURPLUS = 0.5  # of the shorter text: how much the longer one may have before or behind it


class Words(NamedTuple):
    """A question as it is compared: its tokens, the indices of tokens with which a sentence begins, the tokens that are always
    written with a capital, and whether it has formulas."""

    tokens: tuple[str, ...]
    begins: frozenset[int]
    names: frozenset[str]
    formal: bool


def same_question(a: Words, b: Words, other_names: bool = False) -> bool:
    """Whether two texts with the same numbers are the same question.

    They may differ by whole sentences before or behind the rest that hold no word of `wordlists.MEANING`, by function words, and,
    where neither has formulas, by the spelling of one word in twenty. With `other_names` names may differ too, if each name is
    replaced by the same other one throughout.
    """
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
        # A word that the other text has at another position is not the same word spelled differently.
        if len(lost) != len(new) or not there.isdisjoint(lost) or not here.isdisjoint(new):
            return False
        if not all(_spelt_alike(one, other) for one, other in zip(lost, new)):
            return False
        respelt.update(lost)
    allowed = 0 if a.formal or b.formal else shorter // PER_WORD
    return len(respelt) <= allowed and len(set(renamed.values())) == len(renamed)


def _around(text: Words, start: int, end: int, shorter: int) -> bool:
    """Whether the tokens `start` to `end`, which only this text has, are whole sentences before or behind the rest."""
    if end - start > SURPLUS * shorter:
        return False
    return (start == 0 and end in text.begins) or (end == len(text.tokens) and start in text.begins)


def _says_little(word: str) -> bool:
    return word in wordlists.FUNCTION or word in wordlists.RELATING or word in wordlists.FUNCTION_SYLLABLES


def _spelt_alike(one: str, other: str) -> bool:
    """Whether two words may be spellings of the same word: `centre` and `center`, `summer` and `sumer`."""
    if one[0] != other[0] or abs(len(one) - len(other)) > 2:
        return False
    return SequenceMatcher(None, one, other, autojunk=False).ratio() > SPELLING
