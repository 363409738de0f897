"""Whether a sign is part of a formula, or punctuation."""

import unicodedata
from collections.abc import Sequence

import regex

from w2sr_jax.problems.copies import wordlists

_ALWAYS = frozenset("+=<>≤≥≠^%()[]{}")
_SHAPES = "□○◯△▽☆★♠♡♢♣♤♥♦♧"
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_BEFORE_SIGNED = frozenset("=(+*/^<>≤≥")  # a minus behind these is a sign even with a space behind it


def is_mathematical(sign: str, marks: Sequence["regex.Match[str]"], index: int) -> bool:
    """Whether the sign `marks[index]` of a text is part of a formula; signs that are punctuation are not compared."""
    if sign in _ALWAYS or (sign > "\x7f" and (sign in _SHAPES or unicodedata.category(sign) == "Sm")):
        return True
    before = marks[index - 1] if index else None
    after = marks[index + 1] if index + 1 < len(marks) else None
    here = marks[index]
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
        return before is not None and before.end() == here.start() and _operand(before, ")") and not _word_before(marks, index)
    if sign == "|":
        return any(near is not None and _operand(near, "(|-") for near in (before, after))
    if sign == "'":
        glued = before is not None and before.end() == here.start() and len(before.group()) == 1 and before.group().isalpha()
        return glued and after is not None and after.lastgroup == "sign" and after.group() in "('=+-*/^)|"
    return False


def _operand(match: "regex.Match[str]", also: str) -> bool:
    """Whether a token may be beside an operator: a number, a variable, a mathematical name, or one of the signs `also`."""
    word = match.group()
    if match.lastgroup == "number":
        return True
    if match.lastgroup == "sign":
        return word in also
    return (len(word) == 1 and word.lower() in _LATIN) or word.lower() in wordlists.SYMBOLS or word in wordlists.FUNCTIONS


def _word_before(marks: Sequence["regex.Match[str]"], index: int) -> bool:
    """Whether the exclamation mark `marks[index]` ends a sentence of words, as in `He has 5!`, and is no factorial."""
    return (
        index >= 2
        and marks[index - 2].lastgroup == "word"
        and len(marks[index - 2].group()) > 1
        and marks[index - 2].group() not in wordlists.FUNCTIONS
        and index + 1 == len(marks)
    )
