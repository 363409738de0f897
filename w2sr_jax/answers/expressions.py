"""Arithmetic expressions as a chain of thought writes them: their tokens, and their exact values."""

import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from w2sr_jax.answers.numbers import number

DIGITS = 30  # of one number
BITS = 8192  # of an intermediate value: more than the product of all numbers of a side, less than a tower of powers
UNIT_WORDS = 4  # between a number and the next operator


class Token(NamedTuple):
    """A token of a text: `text[start:end]`, spelled as `text`. `value` is that of a number and 0 of anything else."""

    kind: str  # number, op, %, (, ), =, unit, word, other
    text: str
    value: Fraction
    start: int
    end: int


_UNKNOWN = re.compile(r"[xX](?!\s*[\d$(\\.])")  # as in 2x, not as in 2x3
_ZERO = Fraction(0)
_OPERATORS = {
    **{mark: mark for mark in "+-*/^"},
    "×": "*", "·": "*", "∙": "*", "⋅": "*", "\\times": "*", "\\cdot": "*", "x": "*", "X": "*", "times": "*", "of": "*",
    "÷": "/", "\\div": "/", "−": "-", "–": "-", "plus": "+", "minus": "-", "**": "^",
}  # fmt: skip
_LEXER = re.compile(
    r"(?P<space>[ \t\u00a0]+|\\[,;! ]|\\left|\\right)"
    r"|(?P<frac>\\[dt]?frac\s*\{\s*\d{1,15}\s*\}\s*\{\s*\d{1,15}\s*\})"
    r"|(?P<mixed>\d{1,9} \d{1,4}/\d{1,4}(?![\d/.,]\d))"
    r"|(?P<vulgar>[¼½¾⅓⅔⅕⅙⅛⅜⅝⅞])"
    r"|(?P<number>\\?[$€£]\s?\d{1,3}(?: \d{3})+(?!\d)"
    r"|(?:\\?[$€£]\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?"
    r"|(?:\\?[$€£]\s?)?\.\d+)"
    r"|(?P<percent>\\?%)"
    r"|(?P<other2>=>|<=|>=|==|!=|->|-{2,}|={2,}|\*{3,})"
    r"|(?P<op>\*\*|[-+*/^×·∙⋅÷−–]|\\times\b|\\cdot\b|\\div\b)"
    r"|(?P<open>[(\[])|(?P<close>[)\]])|(?P<equals>=)"
    r"|(?P<word>[^\W\d_]+)|(?P<other>.)",
    re.S,
)


def lex(text: str) -> list[Token]:
    """The tokens of a text. Words behind numbers that are units have a kind of their own; operators in words are operators."""
    raw = [(m.lastgroup or "other", m.group(), m.start(), m.end()) for m in _LEXER.finditer(text) if m.lastgroup != "space"]
    tokens: list[Token] = []
    run = 0
    for i, (kind, string, start, end) in enumerate(raw):
        following = raw[i + 1] if i + 1 < len(raw) else ("other", "", end, end)
        operand_next = following[0] in ("number", "mixed", "frac", "vulgar", "open")
        value, name = _ZERO, "other"
        before = tokens[-1].kind if tokens else ""
        after_operand = before in ("number", ")", "%", "unit")
        if kind == "vulgar":
            name, value = "number", Fraction(unicodedata.numeric(string)).limit_denominator(8)
        elif kind in ("number", "mixed", "frac"):
            factor = following[0] == "word" and following[2] == end and len(following[1]) == 1 and following[1] not in "xX"
            factor = factor or _UNKNOWN.match(text, end) is not None
            short = sum(c.isdigit() for c in string) <= DIGITS and not text.startswith("..", end)
            read = number(string) if short and not factor else None
            name, value = ("number", read.value) if read else ("other", _ZERO)
        elif kind == "op":
            per = string == "/" and before == "unit" and following[0] == "word"
            name, string = ("unit", string) if per else ("op", _OPERATORS[string])
        elif kind in ("open", "close", "equals", "percent"):
            name = {"open": "(", "close": ")", "equals": "=", "percent": "%"}[kind]
        elif kind == "word":
            run = run + 1 if before == "unit" else 0
            if (
                string in _OPERATORS
                and operand_next
                and (before in ("number", ")", "%") or (before == "unit" and string != "of"))
            ):
                name, string = "op", _OPERATORS[string]
            elif after_operand and run < UNIT_WORDS and (len(string) > 1 or start > tokens[-1].end):
                name = "unit"
            else:
                name = "word"
        tokens.append(Token(name, string, value, start, end))
    return tokens


class _Malformed(Exception):
    pass


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > BITS:
        raise _Malformed
    return value


def evaluate(tokens: Sequence[Token], percent_is_unit: bool) -> Fraction | None:
    """The exact value of an expression by the usual precedence; None where the tokens are no expression, divide by zero, or have
    too large a value. `percent_is_unit`: read 5 % as 5 instead of 1/20."""
    position = 0

    def peek() -> str:
        if position >= len(tokens):
            return ""
        token = tokens[position]
        return token.text if token.kind == "op" else token.kind

    def total() -> Fraction:
        nonlocal position
        value = product()
        while peek() in ("+", "-"):
            sign = 1 if peek() == "+" else -1
            position += 1
            value += sign * product()
        return value

    def product() -> Fraction:
        nonlocal position
        value = signed()
        while peek() in ("*", "/", "("):
            operator = peek()
            position += operator != "("
            factor = signed()
            value = _bounded(value / factor if operator == "/" else value * factor)
        return value

    def signed() -> Fraction:
        nonlocal position
        if peek() in ("-", "+"):
            negative = peek() == "-"
            position += 1
            return -signed() if negative else signed()
        base = atom()
        if peek() == "^":
            position += 1
            exponent = signed()
            if exponent.denominator != 1 or abs(exponent) > 12 or (not base and exponent < 0):
                raise _Malformed
            base = _bounded(base) ** exponent.numerator
        return base

    def atom() -> Fraction:
        nonlocal position
        kind = peek()
        if kind == "number":
            value = tokens[position].value
        elif kind == "(":
            position += 1
            value = total()
            if peek() != ")":
                raise _Malformed
        else:
            raise _Malformed
        position += 1
        if peek() == "%":
            position += 1
            value = value if percent_is_unit else value / 100
        return value

    try:
        value = total()
    except (_Malformed, ZeroDivisionError):
        return None
    return value if position == len(tokens) else None
