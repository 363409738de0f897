"""Tokens, and what several of them in a row come to: parentheses, numbers in words, words that ask for a value."""

from collections.abc import Sequence
from typing import NamedTuple

from w2sr_jax.problems.copies import numerals, wordlists

OPERATORS = frozenset("+-*/^=<>≤≥≠%!|:()[]{}'")
"""Tokens that stand for operations, relations and grouping; with numbers they make a problem this one and no other."""

_VALUE = (
    ["the", "exact", "value", "of"],
    ["the", "numerical", "value", "of"],
    ["the", "value", "of"],
    ["the", "values", "of"],
    ["value", "of"],
)
_FORMULA = 200  # tokens in parentheses
_GROUPS = {"(": ")", "[": "]", "{": "}"}


class Token(NamedTuple):
    """A token in lower case; whether it is written with a capital, and whether a sentence, a line or a clause begins with it."""

    text: str
    capital: bool
    begins: bool


def grouped(found: list[Token]) -> list[Token]:
    """Without the parentheses, brackets and braces that are punctuation: those around words, and parentheses around one token."""
    open_at: list[int] = []
    drop: set[int] = set()
    for place, token in enumerate(found):
        if token.text in _GROUPS:
            open_at.append(place)
        elif token.text in (")", "]", "}"):
            # Half-open intervals pair a bracket with a parenthesis.
            if not open_at or (token.text == "}") != (found[open_at[-1]].text == "{"):
                drop.add(place)
                continue
            start = open_at.pop()
            if place - start > _FORMULA:
                drop |= {start, place}
                continue
            inside = [found[at] for at in range(start + 1, place) if at not in drop]
            single = found[start].text == "(" and token.text == ")" and _whole([part.text for part in inside])
            if single or not all(_mathematical(part) for part in inside):
                drop |= {start, place}
    drop.update(open_at)
    if not drop:
        return found
    kept, begins = [], False
    for place, token in enumerate(found):
        if place in drop:
            begins = begins or token.begins
        else:
            kept.append(token._replace(begins=token.begins or begins) if begins else token)
            begins = False
    return kept


def _whole(inside: Sequence[str]) -> bool:
    """Whether what stands in parentheses holds together without them: one token, a parenthesis, a function of either."""
    if inside and inside[0] in wordlists.FUNCTIONS:
        inside = inside[1:]
    if len(inside) <= 1:
        return True
    depth = 0
    for place, word in enumerate(inside):
        depth += (word == "(") - (word == ")")
        if not depth and place < len(inside) - 1:
            return False
    return inside[0] == "("


def _mathematical(token: Token) -> bool:
    word = token.text
    return word[0].isdigit() or word in OPERATORS or len(word) == 1 or word in wordlists.FORMAL


def spelt(found: list[Token]) -> list[Token]:
    """With numbers in figures where they are words."""
    if numerals.WORDS.isdisjoint([token.text for token in found]):
        return found
    kept: list[Token] = []
    at = 0
    while at < len(found):
        end = at
        while end < len(found) and (found[end].text in numerals.WORDS or (end > at and found[end].text == "and")):
            end += 1
        if end == at:
            kept.append(found[at])
            at += 1
            continue
        begin = at - 1 if kept and kept[-1].text[0].isdigit() and found[at - 1].text == kept[-1].text else at
        if begin < at:
            kept.pop()
        words = numerals.spelt([token.text for token in found[begin:end]])
        kept += [Token(word, False, found[begin].begins and not place) for place, word in enumerate(words)]
        at = end
    return kept


def asked(found: Sequence[Token]) -> list[Token]:
    """With one word for what asks for a value: `what is the value of`, `compute`, `determine` as `find`."""
    kept: list[Token] = []
    at = 0
    while at < len(found):
        word = found[at].text
        after = found[at + 1].text if at + 1 < len(found) else ""
        if word in wordlists.ASKING or (word == "what" and after in ("is", "are")) or word == "whats":
            kept.append(found[at]._replace(text="find", capital=False))
            at += 2 if word == "what" else 1
            texts = [token.text for token in found[at : at + 4]]
            for phrase in _VALUE:
                if texts[: len(phrase)] == phrase:
                    at += len(phrase)
                    break
            continue
        kept.append(found[at])
        at += 1
    return kept
