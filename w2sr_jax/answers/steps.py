"""The equations of a chain of thought, each checked exactly in rationals.

Read are `16 - 4 = 12`, chains `2 * 3 + 4 = 6 + 4 = 10`, GSM8K's `<<16-4=12>>`, `×`, `÷`, `−`, `\\times`, `\\frac{1}{2}`,
`20% of 50`, dollar and per cent signs, thousands' commas, and units behind numbers (`3 cans x $0.05 = $0.15`). Equations with
unknowns or other words in them are no steps, so results state how many equations were read beside how many of them hold.
"""

import bisect
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from w2sr_jax.answers.expressions import Token, evaluate, lex
from w2sr_jax.answers.numbers import number

LONGEST = 100_000  # characters of a text that are read
TOKENS = 64  # of one side of an equation
READINGS = 8  # of the right side of an equation that are tried, each a few tokens shorter than the last


class Step(NamedTuple):
    """One equation, which is `text[start:end]`: its `left` side as written, the binary `operators` of that in order, the value
    that is `stated` on the right, and whether both sides are equal (`valid`)."""

    left: str
    operators: str
    stated: Fraction
    valid: bool
    start: int
    end: int


_INSIDE = ("number", "op", "(", ")", "%", "unit")
_TIES = ("than", "by", "times", "half", "twice", "x")
_PARTS = ("half", "third", "thirds", "fourth", "fourths", "quarter", "quarters", "fifth", "fifths")
_MARK = re.compile(r"<<([^<>\n]{1,200})>>")


def steps(text: str) -> list[Step]:
    """All equations of a text, in order of position. Only the first 100,000 characters are read. Never raises."""
    text = text[:LONGEST]
    parsed = []
    covered = []
    for mark in _MARK.finditer(text):
        inner = _equations(mark.group(1), mark.start(1))
        parsed += inner
        covered += [mark.span()] * bool(inner)
    blank = _MARK.sub(lambda mark: " " * len(mark.group()), text)
    ends = [end for _, end in covered]
    for step in _equations(blank, 0):
        behind = bisect.bisect_right(ends, step.start)  # the first mark that ends after the step begins
        if behind == len(covered) or covered[behind][0] >= step.end:
            parsed.append(step)
    return sorted(parsed, key=lambda step: step.start)


def validity(text: str) -> tuple[int, int]:
    """(valid, read): how many equations of a text hold, and how many there are."""
    parsed = steps(text)
    return sum(step.valid for step in parsed), len(parsed)


def final_consistent(text: str, answer: str | None) -> bool | None:
    """Whether the answer is the value of the last equation; None where the text has none or the answer is no number."""
    stated = number(answer) if answer is not None else None
    parsed = steps(text)
    if stated is None or not parsed:
        return None
    return stated.value == parsed[-1].stated or (stated.percent and stated.value / 100 == parsed[-1].stated)


def _equations(text: str, offset: int) -> list[Step]:
    if "=" not in text:
        return []
    tokens = lex(text)
    parsed = []
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
            parsed.append(Step(text[start : left[-1].end], operators, stated, valid, offset + start, offset + end))
    return parsed


def _before(tokens: Sequence[Token], equals: int) -> list[Token]:
    """The expression that ends before token `equals`, without units; empty where parts of it cannot be read."""
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


def _continued(tokens: Sequence[Token], last: int) -> bool:
    """Whether the words that end with token `last` make the expression behind them part of a larger one: `half of 4 + …`, `3 +
    his 4`."""
    word = tokens[last].text.lower()
    if word in _TIES or (word == "of" and last > 0 and tokens[last - 1].text.lower() in _PARTS):
        return True
    first = last
    while first > 0 and last - first < 3 and tokens[first].kind in ("word", "unit"):
        first -= 1
    return tokens[first].kind == "op"


def _after(tokens: Sequence[Token], equals: int) -> list[Token]:
    end = equals + 1
    while end < len(tokens) and end - equals <= TOKENS and tokens[end].kind in _INSIDE:
        end += 1
    return list(tokens[equals + 1 : end])


def _check(left: Sequence[Token], right: Sequence[Token]) -> tuple[Fraction | None, bool, int]:
    """(value that the right side states, whether the left side has it too, where the right side ends in the text). The value is
    None where a side cannot be read. The right side is read as a whole or, since calculations run on, up to its first number. Per
    cent means hundredths or, in the whole equation, is a unit that changes nothing."""
    if evaluate(left, False) is None and not _divides_by_zero(left):
        return None, False, 0
    whole = _readable([token for token in right if token.kind != "unit"])
    sides = [side for side in (whole, _leading(right)) if side]
    if not sides:
        return None, False, 0
    hundredths = evaluate(left, False)
    for side in sides:
        stated = evaluate(side, False)
        unit = evaluate(side, True)
        if hundredths is not None and (stated == hundredths or unit == hundredths or unit == evaluate(left, True)):
            return stated, True, side[-1].end
    simple = "".join(token.text for token in whole if token.kind == "op") in ("/", "-/")  # a fraction, no further calculation
    side = sides[0] if simple else sides[-1]
    return evaluate(side, False), False, side[-1].end


def _readable(tokens: list[Token]) -> list[Token]:
    """The longest beginning that has a value; empty where none of the `READINGS` longest that may be expressions has one."""
    ends = _complete(tokens)
    for end in reversed(ends[-READINGS:]):
        if evaluate(tokens[:end], False) is not None:
            return tokens[:end]
    return []


def _complete(tokens: Sequence[Token]) -> list[int]:
    """The lengths of all beginnings that may be expressions: they end behind an operand and have every bracket closed."""
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


def _leading(right: Sequence[Token]) -> list[Token]:
    signed = bool(right) and right[0].text == "-"
    lead = list(right[: 2 if signed else 1])
    if len(lead) <= signed or lead[-1].kind != "number":
        return []
    return [*lead, *(token for token in right[len(lead) : len(lead) + 1] if token.kind == "%")]


def _divides_by_zero(tokens: Sequence[Token]) -> bool:
    """Whether an expression that has no value would have one with other numbers in it, and so is divided by zero."""
    others = [t._replace(value=Fraction(7, 3) + i) if t.kind == "number" else t for i, t in enumerate(tokens)]
    return evaluate(others, False) is not None
