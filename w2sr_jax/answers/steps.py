"""Find the equations of a chain of thought and check each exactly, in rationals.

Read are `16 - 4 = 12`, chains `2 * 3 + 4 = 6 + 4 = 10`, GSM8K's `<<16-4=12>>`, `×`, `÷`, `−`, `\\times`, `\\frac{1}{2}`,
`20% of 50`, dollar and per cent signs, thousands' commas, and units behind numbers (`3 cans x $0.05 = $0.15`). Equations with
unknowns or other words inside are not steps: what is parsed is reported beside what is valid.
"""

import bisect
import re
import unicodedata
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from w2sr_jax.answers.numbers import number

LONGEST = 100_000  # characters of a text that are looked at
TOKENS = 64  # of one side of an equation
DIGITS = 30  # of one number
BITS = 8192  # of a value on the way: more than the product of all numbers of a side, less than a tower of powers
READINGS = 8  # of what follows `=`, each a few tokens shorter than the last
UNIT_WORDS = 4  # between a number and the next operator


class Step(NamedTuple):
    """One equation: `left` side as written, its binary `operators` in order, the `stated` value, whether the two are equal, and
    where in the text it stands (`text[start:end]`)."""

    left: str
    operators: str
    stated: Fraction
    valid: bool
    start: int
    end: int


class _Token(NamedTuple):
    kind: str  # number, op, %, (, ), =, unit, word, other
    text: str
    value: Fraction
    start: int
    end: int


_UNKNOWN = re.compile(r"[xX](?!\s*[\d$(\\.])")  # as in 2x, not as in 2x3
_ZERO = Fraction(0)
_INSIDE = ("number", "op", "(", ")", "%", "unit")
_TIES = ("than", "by", "times", "half", "twice", "x")
_PARTS = ("half", "third", "thirds", "fourth", "fourths", "quarter", "quarters", "fifth", "fifths")
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
_MARK = re.compile(r"<<([^<>\n]{1,200})>>")


def steps(text: str) -> list[Step]:
    """All equations of a text in order of position. Never raises; the first 100,000 characters are looked at."""
    text = text[:LONGEST]
    found = []
    covered = []
    for mark in _MARK.finditer(text):
        inner = _equations(mark.group(1), mark.start(1))
        found += inner
        covered += [mark.span()] * bool(inner)
    blank = _MARK.sub(lambda mark: " " * len(mark.group()), text)
    ends = [end for _, end in covered]
    for step in _equations(blank, 0):
        behind = bisect.bisect_right(ends, step.start)  # the first mark that ends after the step begins
        if behind == len(covered) or covered[behind][0] >= step.end:
            found.append(step)
    return sorted(found, key=lambda step: step.start)


def validity(text: str) -> tuple[int, int]:
    """(valid, parsed): how many equations hold, of how many that could be read."""
    found = steps(text)
    return sum(step.valid for step in found), len(found)


def final_consistent(text: str, answer: str | None) -> bool | None:
    """Whether the stated answer is the last derived value; None where the text has no step or the answer is no number."""
    stated = number(answer) if answer is not None else None
    found = steps(text)
    if stated is None or not found:
        return None
    return stated.value == found[-1].stated or (stated.percent and stated.value / 100 == found[-1].stated)


def _equations(text: str, offset: int) -> list[Step]:
    if "=" not in text:
        return []
    tokens = _lex(text)
    found = []
    for position, token in enumerate(tokens):
        if token.kind != "=":
            continue
        left = _before(tokens, position)
        right = _after(tokens, position)
        if not left or not right:
            continue
        operators = "".join(t.text for t, p in zip(left[1:], left) if t.kind == "op" and p.kind not in ("op", "("))
        if not operators:
            continue
        stated, valid, end = _check(left, right)
        if stated is not None:
            start = left[0].start
            found.append(Step(text[start : left[-1].end], operators, stated, valid, offset + start, offset + end))
    return found


def _lex(text: str) -> list[_Token]:
    """Tokens; units behind numbers are dropped, per cent signs are tokens of their own, word operators are resolved."""
    raw = [(m.lastgroup or "other", m.group(), m.start(), m.end()) for m in _LEXER.finditer(text) if m.lastgroup != "space"]
    tokens: list[_Token] = []
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
        tokens.append(_Token(name, string, value, start, end))
    return tokens


def _before(tokens: Sequence[_Token], equals: int) -> list[_Token]:
    """The expression that ends at `=`, without units; empty where it has parts that cannot be read."""
    start = equals
    depth = 0
    while start > 0 and equals - start < TOKENS:
        kind, right = tokens[start - 1].kind, tokens[start].kind
        if kind == "number" and right == "number":
            return []
        if kind not in _INSIDE or (kind == "unit" and right in ("number", "(")):
            break
        depth += (kind == ")") - (kind == "(")
        if depth < 0:
            break
        start -= 1
    while depth > 0 and start < equals:
        depth -= tokens[start].kind == ")"
        start += 1
    inside = [token for token in tokens[start:equals] if token.kind != "unit"]
    if start > 0 and tokens[start - 1].kind in ("word", "unit") and _continued(tokens, start - 1):
        return []
    if inside and inside[0].kind == "op":
        signed = inside[0].text == "-" and len(inside) > 1 and inside[1].start == inside[0].end
        if start > 0 and not (tokens[start - 1].kind == "other" and tokens[start - 1].text in ",:;.\n#"):
            return []
        if not signed:  # a bullet
            inside.pop(0)
    return inside


def _continued(tokens: Sequence[_Token], last: int) -> bool:
    """Whether words before an expression tie it to something that is not in it: `half of 4 + …`, `3 + his 4 + …`."""
    word = tokens[last].text.lower()
    if word in _TIES or (word == "of" and last > 0 and tokens[last - 1].text.lower() in _PARTS):
        return True
    first = last
    while first > 0 and last - first < 3 and tokens[first].kind in ("word", "unit"):
        first -= 1
    return tokens[first].kind == "op"


def _after(tokens: Sequence[_Token], equals: int) -> list[_Token]:
    end = equals + 1
    while end < len(tokens) and end - equals <= TOKENS and tokens[end].kind in _INSIDE:
        end += 1
    return list(tokens[equals + 1 : end])


def _check(left: Sequence[_Token], right: Sequence[_Token]) -> tuple[Fraction | None, bool, int]:
    """(stated value, whether it is the left side's, end). The right side counts as a whole or, in a running calculation, up to
    its first number. A percentage is a hundredth or, in the whole equation alike, a unit. No stated value: cannot be read."""
    if _evaluate(left, False) is None and not _divides_by_zero(left):
        return None, False, 0
    whole = _readable([token for token in right if token.kind != "unit"])
    sides = [side for side in (whole, _leading(right)) if side]
    if not sides:
        return None, False, 0
    hundredths = _evaluate(left, False)
    for side in sides:
        stated = _evaluate(side, False)
        unit = _evaluate(side, True)
        if hundredths is not None and (stated == hundredths or unit == hundredths or unit == _evaluate(left, True)):
            return stated, True, side[-1].end
    simple = "".join(token.text for token in whole if token.kind == "op") in ("/", "-/")  # a fraction, no further calculation
    side = sides[0] if simple else sides[-1]
    return _evaluate(side, False), False, side[-1].end


def _readable(tokens: list[_Token]) -> list[_Token]:
    """The longest part from the left that has a value; empty where the first few that might have none."""
    ends = _complete(tokens)
    for end in reversed(ends[-READINGS:]):
        if _evaluate(tokens[:end], False) is not None:
            return tokens[:end]
    return []


def _complete(tokens: Sequence[_Token]) -> list[int]:
    """Where an expression may end: behind an operand, with every bracket closed, before anything that cannot go on."""
    ends = []
    depth = 0
    operand = False  # whether one stands to the left
    for position, token in enumerate(tokens):
        if operand and token.kind == "number":
            break
        depth += (token.kind == "(") - (token.kind == ")")
        if depth < 0:
            break
        operand = token.kind in ("number", ")", "%")
        if operand and not depth:
            ends.append(position + 1)
    return ends


def _leading(right: Sequence[_Token]) -> list[_Token]:
    signed = bool(right) and right[0].text == "-"
    lead = list(right[: 2 if signed else 1])
    if len(lead) <= signed or lead[-1].kind != "number":
        return []
    return [*lead, *(token for token in right[len(lead) : len(lead) + 1] if token.kind == "%")]


def _divides_by_zero(tokens: Sequence[_Token]) -> bool:
    """Whether an expression without a value has one with other numbers in it."""
    others = [t._replace(value=Fraction(7, 3) + i) if t.kind == "number" else t for i, t in enumerate(tokens)]
    return _evaluate(others, False) is not None


class _Malformed(Exception):
    pass


def _bounded(value: Fraction) -> Fraction:
    if value.numerator.bit_length() + value.denominator.bit_length() > BITS:
        raise _Malformed
    return value


def _evaluate(tokens: Sequence[_Token], percent_is_unit: bool) -> Fraction | None:
    """The exact value by the usual precedence; None where the tokens are no expression, divide by zero or grow too large."""
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
