"""Whether a sign is part of a formula, or punctuation."""

import unicodedata
from collections.abc import Sequence

import regex

from w2sr_jax.problems.copies import wordlists

_ALWAYS = frozenset("+=<>≤≥≠^%()[]{}")
_SHAPES = "□○◯△▽☆★♠♡♢♣♤♥♦♧"
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_BEFORE_SIGNED = frozenset("=(+*/^<>≤≥")  # a minus behind these is a sign even with a space behind it


def counts(sign: str, marks: Sequence["regex.Match[str]"], place: int) -> bool:
    """Whether the sign at a place among the tokens of a text counts where texts are compared."""
    if sign in _ALWAYS or (sign > "\x7f" and (sign in _SHAPES or unicodedata.category(sign) == "Sm")):
        return True
    before = marks[place - 1] if place else None
    after = marks[place + 1] if place + 1 < len(marks) else None
    here = marks[place]
    if sign == "-":
        if after is None or not _operand(after, "([{|"):
            return False
        tight = after.start() == here.end()
        if before is not None and _operand(before, ")]}|'!"):
            return True
        glued = before is not None and before.end() == here.start() and before.lastgroup != "sign"
        return (tight and not glued) or (before is not None and before.group() in _BEFORE_SIGNED)
    if sign in "*/":
        return before is not None and after is not None and _operand(before, ")]}|'!") and _operand(after, "([{|-")
    if sign == ":":
        return before is not None and after is not None and before.lastgroup == after.lastgroup == "number"
    if sign == "!":
        return before is not None and before.end() == here.start() and _operand(before, ")") and not _word_before(marks, place)
    if sign == "|":
        return any(near is not None and _operand(near, "(|-") for near in (before, after))
    if sign == "'":
        glued = before is not None and before.end() == here.start() and len(before.group()) == 1 and before.group().isalpha()
        return glued and after is not None and after.lastgroup == "sign" and after.group() in "('=+-*/^)|"
    return False


def _operand(match: "regex.Match[str]", also: str) -> bool:
    """Whether a token can stand beside an operator: a number, a variable, a name of mathematics, or a sign of `also`."""
    word = match.group()
    if match.lastgroup == "number":
        return True
    if match.lastgroup == "sign":
        return word in also
    return (len(word) == 1 and word.lower() in _LATIN) or word.lower() in wordlists.SYMBOLS or word in wordlists.FUNCTIONS


def _word_before(marks: Sequence["regex.Match[str]"], place: int) -> bool:
    """Whether an exclamation mark ends a sentence of words: `He has 5!`."""
    return (
        place >= 2
        and marks[place - 2].lastgroup == "word"
        and len(marks[place - 2].group()) > 1
        and marks[place - 2].group() not in wordlists.FUNCTIONS
        and place + 1 == len(marks)
    )
