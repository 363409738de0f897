"""Whether two answers are equal, as far as that is certain without computer algebra: numbers, exact expressions, spellings,
bases."""

import dataclasses
import re
from fractions import Fraction
from typing import Literal

from w2sr_jax.answers.extract import extract, reduced, tidy
from w2sr_jax.answers.numbers import Number, number
from w2sr_jax.answers.reading.boxes import boxes
from w2sr_jax.answers.values import arithmetic, characters
from w2sr_jax.answers.values.units import comparable, without_unit

LONGEST = 1500  # characters; longer answers are not compared
LEAST_DECIMALS = 6  # so many decimals may stand for a fraction that repeats
TOLERANCE = Fraction(1, 10_000)  # of the value, by which they may be off; 0.000002 is further off from 1/600000


@dataclasses.dataclass(frozen=True)
class Conventions:
    """How ambiguous spellings are read. The defaults are those of Math-Verify."""

    decimal_comma: Literal["text", "always", "never"] = "text"
    """Where `3,5` is 3.5: outside of boxes and formulas (text, as Math-Verify reads it), everywhere (always), or nowhere (never).
    `1,234` is 1234, except with "always", where `1.234` is 1234. `1.234,50` is always 1234.5. An answer that is spelled like gold
    is correct whatever is set here."""
    relations_as_sets: bool = False
    """Whether an inequality equals a gold interval (`0 < x \\leq 1` for `(0,1]`). An interval always equals a gold inequality."""


DEFAULT = Conventions()

_COMMA = re.compile(r"(?<![\d.,])(-?\d+),(\d+)(?![\d.,])")
_GERMAN = re.compile(r"(?<![\d.,])(-?\d{1,3}(?:\.\d{3})*|-?\d+)(?:,(\d+))?(?![\d.,])")
_ASSIGNED = re.compile(
    r"\s*(?:\\?[a-zA-Z]{1,8}(?:_\{?\w{1,8}\}?)?(?:\s*\(\s*[\w,\s]{1,20}\s*\))?|\\(?:angle|triangle|overline|text|mathrm)\s*\{?[A-Za-z\s]{1,20}\}?|[A-Z]{2,3})'*\s*=\s*(?P<rest>[^=<>\\]*(?:\\(?!neq|leq|geq|le\b|ge\b|ne\b)[^=<>\\]*)*)"
)
_SPACING = re.compile(r"\\[,;:! ]|\\(?:left|right)(?![a-zA-Z])|~|\\displaystyle")
_DELIMITER = re.compile(r"(?<!\\)\$")
_APART = re.compile(r"(?<=\d)\s+(?=\d)")
_LETTER = re.compile(r"[(\[]?\s*([A-Za-z])\s*[)\]]?\.?")
_MERIDIEM = re.compile(r"\b([ap])\.?\s?m\b\.?", re.I)
_RISING = {">": "<", "\\gt": "<", "\\ge": "\\leq", "\\geq": "\\leq", "\\geqslant": "\\leq", ">=": "\\leq", "≥": "\\leq"}
_FALLS = r"\\geqslant|\\geq|\\ge|\\gt|>=|≥|>"
_FALLING = re.compile(rf"(?P<high>[^<>≤≥=]+?)(?P<first>{_FALLS})(?P<middle>[^<>≤≥=]+?)(?P<second>{_FALLS})(?P<low>[^<>≤≥=]+)")
_TRIGONOMETRIC = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|\\degree)")
_OPTION = re.compile(r"\\?(?:text|textbf|mathrm|mathbf)?\s*\{?\s*\(?([A-J])\s*[).:]\s*\}?(?:\s|\\[ ,;:]|\\quad|~)*(\S.*)", re.S)
_CONGRUENCE = re.compile(
    r"\s*([a-zA-Z]\w?)\s*(?:\\equiv|≡)\s*(-?\d{1,18})\s*(?:\\pmod|\\mod|\\bmod|\(\s*\\?(?:text\{)?mod\}?)\s*\{?\s*(\d{1,18})\s*\}?\s*\)?\s*"
)
_TIME = re.compile(r"(\d{1,2})\s*:\s*(\d\d)\s*([ap])\.?\s?m\.?", re.I)
_TOP_EQUALS = re.compile(r"(?<![<>!\\:])=")

_POWER = re.compile(r"(?:\^|\*\*)\s*(?:[{(]\s*)?(?:-\s*)?(\d+)")
_TOWER = re.compile(
    r"(?:\^|\*\*)\s*[{(]?\s*\d+\s*(?:\^|\*\*)\s*[{(]?\s*\d+\s*(?:\^|\*\*)"  # three stories of numbers
    r"|(?:\^|\*\*)\s*(?:\w|[{(][^{}()]{0,40})\s*(?:\^|\*\*)\s*[{(]?\s*\w\s*(?:\^|\*\*)"
    r"|(?:\^|\*\*)\s*[{(]?\s*\d{2,}\s*(?:\^|\*\*)\s*[{(]?\s*\d{2,}"
)
_LARGE = re.compile(r"\d{5,}\s*!|!\s*[)}\]]?\s*!|\d{400,}")


def grade_one(answer: str, gold: str, conventions: Conventions = DEFAULT, rule: str = "") -> bool | None:
    """Whether an answer equals gold, both without delimiters; None where only computer algebra can tell.

    Numbers and constant expressions of rational value are compared as exact rationals, with two conventions: a percentage equals
    its number (5 % and 5) and its value (5 % and 0.05); a number of six or more decimals equals the repeating fraction that it
    rounds (0.333333 and 1/3), if it is off by at most a ten-thousandth of the value. Units count only where both sides have one
    of the same kind (5 km and 5 m). A numeral with its base does not equal a number without one, unless the base is 10. `x = 5`
    equals `5`. Words are compared without case, single letters with it. `rule` is the rule that read the answer, on which
    `Conventions.decimal_comma` depends.
    """
    if answer == gold:
        return True
    if conventions.decimal_comma == "always":
        commas = _with_comma(answer, gold, conventions, rule)
        if commas is not None:
            return commas
    left, right = number(answer), number(gold)
    if left is not None and right is not None:
        return _same_number(left, right)
    if _spelling(answer) == _spelling(gold):
        return True
    if len(answer) > LONGEST or len(gold) > LONGEST:
        return None
    times = _clock(answer), _clock(gold)
    if times[0] is not None and times[1] is not None:
        return times[0] == times[1]
    commas = _with_comma(answer, gold, conventions, rule)
    if commas is not None:
        return commas
    letters = _LETTER.fullmatch(_unwrapped(answer)), _LETTER.fullmatch(_unwrapped(gold))
    if letters[0] and letters[1]:
        return letters[0][1] == letters[1][1]
    option = _OPTION.fullmatch(answer)
    if option is not None and _OPTION.fullmatch(gold) is None:
        return letters[1][1] == option[1] if letters[1] else grade_one(option[2], gold, conventions, rule)
    residues = _CONGRUENCE.fullmatch(answer), _CONGRUENCE.fullmatch(gold)
    if residues[0] and residues[1]:
        modulus = int(residues[1][3])
        same = residues[0][1].strip() == residues[1][1].strip() and int(residues[0][3]) == modulus
        return same and modulus > 0 and (int(residues[0][2]) - int(residues[1][2])) % modulus == 0
    bases = arithmetic.based(answer), arithmetic.based(gold)
    if bases[0] or bases[1]:
        return _same_base(answer, gold, *bases)
    stripped = _without_assignment(answer, gold)
    if stripped is not None:
        return grade_one(*stripped, conventions, rule)
    if (_APART.search(answer) and not number(answer)) or (_APART.search(gold) and not number(gold)):
        return False if not re.search(r"[a-zA-Z\\,;]", answer + gold) else None
    return _same_value(answer, gold, left, right)


def canonical(answer: str) -> str:
    """One spelling for all spellings of an answer, as far as the answer alone tells: the exact rational of a number or constant
    expression (50 % is 50), without an assignment before it; otherwise the text without spaces, and without case in words."""
    value = number(answer)
    if value is not None:
        return str(value.value)
    match = _ASSIGNED.fullmatch(answer) if "=" in answer else None
    if match is not None and match["rest"].strip():
        return canonical(match["rest"])
    try:
        exact = arithmetic.value(answer) if len(answer) <= arithmetic.LONGEST else None
    except arithmetic.TooLarge:
        exact = None
    if exact is not None and max(exact.numerator.bit_length(), exact.denominator.bit_length()) < 4000:
        return str(exact)
    return _spelling(answer)


def bare(gold: str) -> str:
    """A gold answer alone: the line after `####`, or the content of its boxes, without math delimiters."""
    if "####" in gold or boxes(gold):
        return extract(gold).answer or tidy(gold)
    gold = tidy(gold)
    return reduced(gold) if "=" in gold else gold


def algebraic(answer: str) -> str:
    """An answer in the form that computer algebra reads best: without its unit, inequalities from the smaller to the larger side,
    and degrees within sines and the like in radians."""
    answer = without_unit(characters.mathematical(answer))
    chain = _FALLING.fullmatch(answer)
    if chain is not None:
        high, first, middle, second, low = (chain[name].strip() for name in ("high", "first", "middle", "second", "low"))
        answer = f"{low} {_RISING[second]} {middle} {_RISING[first]} {high}"
    return _DEGREES.sub(r"\\frac{\1\\pi}{180}", answer) if _TRIGONOMETRIC.search(answer) else answer


def too_large(answer: str) -> bool:
    """Whether an answer takes too long to evaluate: by its length, exponents of five or more digits, towers of powers, or
    factorials."""
    if len(answer) > LONGEST:
        return True
    try:
        arithmetic.value(answer)
    except arithmetic.TooLarge:
        return True
    return (
        any(len(match[1]) > 4 for match in _POWER.finditer(answer))
        or _TOWER.search(answer) is not None
        or _LARGE.search(answer) is not None
    )


def _same_number(left: Number, right: Number) -> bool:
    scale = comparable(left.unit, right.unit)
    if scale is not None and scale != 1:
        return left.value * scale == right.value
    return left.value == right.value or _percentage(left, right) or _rounded(left, right)


def _same_value(answer: str, gold: str, left: Number | None, right: Number | None) -> bool | None:
    try:
        one = left.value if left is not None else arithmetic.value(answer)
        other = right.value if right is not None else arithmetic.value(gold)
    except arithmetic.TooLarge:
        return None
    if one is None or other is None:
        return None
    return _same_number(left or Number(one, False, 0), right or Number(other, False, 0))


def _same_base(answer: str, gold: str, left: arithmetic.Based | None, right: arithmetic.Based | None) -> bool | None:
    if left is not None and right is not None:
        return int(left.digits, left.base) == int(right.digits, right.base) and left.base == right.base
    based, bare_number = (left, number(gold)) if left is not None else (right, number(answer))
    assert based is not None
    if bare_number is None:
        return None
    return based.base == 10 and int(based.digits) == bare_number.value


def _with_comma(answer: str, gold: str, conventions: Conventions, rule: str) -> bool | None:
    """Whether an answer with a decimal comma is the gold number; None where no decimal comma is read."""
    if conventions.decimal_comma == "never" or ("," not in answer and "," not in gold and conventions.decimal_comma == "text"):
        return None
    if conventions.decimal_comma == "text" and (rule in ("boxed", "last_math", "") or "\\" in answer or "$" in answer):
        return None
    pattern = _GERMAN if conventions.decimal_comma == "always" else _COMMA
    pair = []
    for text in (answer, gold) if conventions.decimal_comma == "always" else (answer,):
        text = pattern.sub(lambda match: match[1].replace(".", "") + ("." + match[2] if match[2] else ""), text)
        pair.append(number(text))
    if len(pair) == 1:
        pair.append(number(gold))
    return None if pair[0] is None or pair[1] is None else _same_number(pair[0], pair[1])


def _clock(answer: str) -> int | None:
    """Minutes since midnight of a time with a.m. or p.m.; None for anything else, such as the ratio 3:20."""
    match = (
        _TIME.fullmatch(_SPACING.sub("", characters.UPRIGHT.sub(r"\1", characters.plain(answer))).strip())
        if ":" in answer
        else None
    )
    if match is None or int(match[1]) > 12 or int(match[2]) > 59:
        return None
    return int(match[1]) % 12 * 60 + int(match[2]) + (720 if match[3].lower() == "p" else 0)


def _without_assignment(answer: str, gold: str) -> tuple[str, str] | None:
    """The pair without the `x =` that one of them has and the other has not; None where there is none to remove."""
    sides = [_ASSIGNED.fullmatch(text) if "=" in text else None for text in (answer, gold)]
    if sides[0] and not _TOP_EQUALS.search(gold) and sides[0]["rest"].strip():
        return sides[0]["rest"].strip(), gold
    if sides[1] and not _TOP_EQUALS.search(answer) and sides[1]["rest"].strip():
        return answer, sides[1]["rest"].strip()
    return None


def _percentage(left: Number, right: Number) -> bool:
    if left.percent == right.percent:
        return False
    part, whole = (left, right) if left.percent else (right, left)
    return part.value / 100 == whole.value


def _rounded(left: Number, right: Number) -> bool:
    decimal, exact = (left, right) if left.decimals >= right.decimals else (right, left)
    repeating = 10**decimal.decimals * exact.value
    return (
        decimal.decimals >= LEAST_DECIMALS
        and repeating.denominator > 1
        and exact.decimals == 0
        and abs(repeating - 10**decimal.decimals * decimal.value) <= Fraction(1, 2)
        and abs(exact.value - decimal.value) <= TOLERANCE * abs(exact.value)
    )


def _unwrapped(answer: str) -> str:
    return tidy(characters.UPRIGHT.sub(r"\1", answer)).strip()


def _spelling(answer: str) -> str:
    answer = characters.plain(answer)
    if "\\" in answer or "~" in answer:
        answer = _SPACING.sub("", answer.replace("dfrac", "frac").replace("tfrac", "frac").replace("\\varnothing", "\\emptyset"))
        answer = characters.UPRIGHT.sub(r"\1", answer)
    if "$" in answer:
        answer = _DELIMITER.sub("", answer)
    answer = _MERIDIEM.sub(lambda match: match[1].lower() + "m", answer) if ":" in answer else answer
    answer = re.sub(r"\s+", "", _APART.sub("\x00", answer.strip())).rstrip(".")
    return answer if _LETTER.fullmatch(answer) else answer.casefold()
