"""Exact values of constant expressions: `\\frac{1}{2^{98}}`, `3 \\cdot 10^{4} + 5`, `\\frac{1}{2006!}`, `\\sqrt{16}`, `1101_2`.

Only rational values: an expression that is irrational, symbolic or too large to write out has no value here.
"""

import re
from fractions import Fraction
from math import factorial, isqrt
from typing import NamedTuple

from w2sr_jax.answers.values import characters

LONGEST = 400  # characters of an expression
BITS = 40_000  # of a numerator or denominator
FACTORIAL = 5000
DEPTH = 40  # of brackets within brackets


class Based(NamedTuple):
    """A numeral with its base written beside it. `digits` are lower case without leading zeros."""

    digits: str
    base: int


class _NoValue(Exception):
    """The expression cannot be evaluated here."""


class TooLarge(_NoValue):
    """The value has too many digits to write out."""


_TOKEN = re.compile(
    r"\s+|(?P<number>\d+(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"|(?P<name>\\(?:[dtc]?frac|sqrt|times|cdot|ast|div|left|right|,|;|:|!|\s|%))|(?P<power>\^|\*\*)"
    r"|(?P<mark>[-+*/×·⋅∙÷(){}\[\]!%])"
)
_BASE = re.compile(
    r"\(?([0-9a-z]{1,200})\)?\s*(?:_\s*(?:\{?\s*([a-z]{3,9}|\d{1,2})\s*\}?|\(\s*(\d{1,2})\s*\))"
    r"|[\s(,]+(?:in\s+)?base[\s~-]*(\d{1,2}|[a-z]{3,9})\s*\)?)",
    re.I,
)
_PREFIXED = re.compile(r"0(?:([xX])([0-9a-fA-F]{1,200})|([bB])([01]{1,400})|([oO])([0-7]{1,200}))")
_NAMES = {
    name: base
    for base, name in enumerate(
        [
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
            "fourteen",
            "fifteen",
            "sixteen",
        ],
        start=2,
    )
}


def value(text: str) -> Fraction | None:
    """The exact value of a constant expression; None where the text is none. Raises TooLarge."""
    text = characters.mathematical(text)
    if len(text) > LONGEST or not any(char.isdigit() for char in text):
        return None
    try:
        tokens = _tokens(text)
        result, end = _sum(tokens, 0, 0)
    except TooLarge:
        raise
    except _NoValue:
        return None
    return result if end == len(tokens) else None


def based(text: str) -> Based | None:
    """A numeral with its base (`1101_2`, `1F_{16}`, `1101_{\\text{two}}`, `0x1F`, `413 (base 5)`), else None."""
    text = characters.mathematical(text).strip()
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        digits = prefixed[2] or prefixed[4] or prefixed[6]
        return Based(digits.lower().lstrip("0") or "0", 16 if prefixed[1] else 2 if prefixed[3] else 8)
    named = text.isascii() and ("_" in text or "base" in text.lower())
    match = _BASE.fullmatch(characters.UPRIGHT.sub(r"\1", text).strip()) if named else None
    if match is None:
        return None
    name = match[2] or match[3] or match[4]
    base = int(name) if name.isdigit() else _NAMES.get(name.lower(), 0)
    digits = match[1].lower().lstrip("0") or "0"
    if not 2 <= base <= 36 or any(int(digit, 36) >= base for digit in digits):
        return None
    return Based(digits, base)


def _tokens(text: str) -> list[str]:
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NoValue
        position = match.end()
        token = match.group()
        if match["number"]:
            if tokens and tokens[-1][0] in "0123456789.":
                raise _NoValue  # two numbers beside each other
            tokens.append(token.replace(",", ""))
        elif match["power"]:
            tokens.append("^")
        elif match["name"]:
            name = token[1:]
            if name in ("dfrac", "tfrac", "cfrac", "frac"):
                tokens.append("frac")
            elif name in ("times", "cdot", "ast"):
                tokens.append("*")
            elif name == "div":
                tokens.append("/")
            elif name in ("sqrt", "%"):
                tokens.append(name)
        elif match["mark"]:
            tokens.append({"×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "[": "(", "]": ")"}.get(token, token))
    return tokens


def _sum(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if depth > DEPTH:
        raise _NoValue
    total, at = _product(tokens, at, depth)
    while at < len(tokens) and tokens[at] in "+-":
        sign = 1 if tokens[at] == "+" else -1
        term, at = _product(tokens, at + 1, depth)
        total = _bounded(total + sign * term)
    return total, at


def _product(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    sign = 1
    while at < len(tokens) and tokens[at] in "+-":
        sign, at = (-sign if tokens[at] == "-" else sign), at + 1
    result, at = _power(tokens, at, depth)
    while at < len(tokens):
        token = tokens[at]
        if token in ("*", "/"):
            negative = at + 1 < len(tokens) and tokens[at + 1] == "-"
            factor, at = _power(tokens, at + 1 + negative, depth)
            factor = -factor if negative else factor
            if token == "/" and not factor:
                raise _NoValue
            result = _bounded(result / factor if token == "/" else result * factor)
        elif token in ("(", "frac", "sqrt") and tokens[at - 1] in (")", "}"):
            factor, at = _power(tokens, at, depth)  # (2)(3)
            result = _bounded(result * factor)
        elif token in ("(", "sqrt") and tokens[at - 1][0].isdigit():
            factor, at = _power(tokens, at, depth)  # 2(3), 2\sqrt{9}
            result = _bounded(result * factor)
        else:
            break
    return sign * result, at


def _power(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    base, at = _factor(tokens, at, depth)
    if at < len(tokens) and tokens[at] == "^":
        exponent, at = _exponent(tokens, at + 1, depth)
        base = _raised(base, exponent)
    while at < len(tokens) and tokens[at] in ("%", "!"):
        if tokens[at] == "!":
            raise _NoValue
        base, at = base / 100, at + 1
    return base, at


def _exponent(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    sign = 1
    if at < len(tokens) and tokens[at] in "+-":
        sign, at = (-1 if tokens[at] == "-" else 1), at + 1
    exponent, at = _power(tokens, at, depth + 1)  # towers are evaluated from the top
    return sign * exponent, at


def _factor(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    if at >= len(tokens):
        raise _NoValue
    token = tokens[at]
    if token[0].isdigit() or token[0] == ".":
        result, at = Fraction(token), at + 1
    elif token in ("(", "{"):
        result, at = _sum(tokens, at + 1, depth + 1)
        if at >= len(tokens) or tokens[at] != {"(": ")", "{": "}"}[token]:
            raise _NoValue
        at += 1
    elif token == "frac":
        over, at = _argument(tokens, at + 1, depth)
        under, at = _argument(tokens, at, depth)
        if not under:
            raise _NoValue
        result = _bounded(over / under)
    elif token == "sqrt":
        radicand, at = _argument(tokens, at + 1, depth)
        result = _root(radicand)
    else:
        raise _NoValue
    if at < len(tokens) and tokens[at] == "!":
        result, at = _factorial(result), at + 1
        if at < len(tokens) and tokens[at] == "!":
            raise _NoValue
    return result, at


def _argument(tokens: list[str], at: int, depth: int) -> tuple[Fraction, int]:
    """The argument of a command: a group, or one digit."""
    if at < len(tokens) and tokens[at] == "{":
        return _factor(tokens, at, depth + 1)
    if at < len(tokens) and tokens[at].isdigit():
        digit, rest = tokens[at][0], tokens[at][1:]
        tokens[at : at + 1] = [digit, rest] if rest else [digit]
        return Fraction(digit), at + 1
    raise _NoValue


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 2:
        base, exponent = _root(base), exponent * 2
    if exponent.denominator != 1:
        raise _NoValue
    if not base:
        if exponent <= 0:
            raise _NoValue
        return base
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if base not in (1, -1) and abs(exponent) * bits > BITS:
        raise TooLarge
    return base ** int(exponent)


def _factorial(of: Fraction) -> Fraction:
    if of.denominator != 1 or of < 0:
        raise _NoValue
    if of > FACTORIAL:
        raise TooLarge
    return Fraction(factorial(int(of)))


def _root(of: Fraction) -> Fraction:
    if of < 0:
        raise _NoValue
    over, under = isqrt(of.numerator), isqrt(of.denominator)
    if over * over != of.numerator or under * under != of.denominator:
        raise _NoValue
    return Fraction(over, under)


def _bounded(result: Fraction) -> Fraction:
    if max(result.numerator.bit_length(), result.denominator.bit_length()) > BITS:
        raise TooLarge
    return result
