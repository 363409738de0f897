"""Numbers for the second opinion: few spellings, read exactly, by rules that share nothing with `answers.numbers`."""

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

LONGEST = 500  # characters of a marked answer, and of a gold one
NEAR = Fraction(1, 10_000)  # of a value, by which a rounded fraction may be off
_DIGITS = 300
_EXPONENT = 400


class Value(NamedTuple):
    """An exact value; `percent` where a percent sign followed it (5 % has value 5); `unit` as written behind it."""

    value: Fraction
    percent: bool
    unit: str = ""


class Reading(NamedTuple):
    """A number as a text spells it; `value` is None where it is no number or not clearly one."""

    value: Value | None
    spelling: str | None


_RUN = r"[0-9](?:[0-9.,:'’\u2009\u202f\xa0]*[0-9])?|\.[0-9]+"
NUMBER = re.compile(
    rf"""(?<![A-Za-z0-9_])(?<![0-9][.,:'’])
    (?P<sign>(?<![\w)\]}}%])[-+])?(?:[$€£¥₹]\s?|(?:USD|EUR|Rs\.?)\s)?(?P<inner>-)?
    (?:(?P<whole>[0-9]{{1,30}})(?:\s|(?=\\[dtc]?frac)))?
    (?:\\[dtc]?frac\s?(?:\{{\s?(?P<top>-?[0-9]{{1,{_DIGITS}}})\s?\}}|(?P<t>[0-9]))\s?(?:\{{\s?(?P<under>[0-9]{{1,{_DIGITS}}})\s?\}}|(?P<u>[0-9]))
      |10\s?\^\s?(?:\{{\s?(?P<ten>-?[0-9]{{1,3}})\s?\}}|(?P<n>-?[0-9]{{1,3}}))(?![0-9.])
      |(?P<run>{_RUN})
       (?:[eE](?P<e>[-+]?[0-9]{{1,4}})(?![0-9A-Za-z]))?
       (?:\s?/\s?(?P<over>[0-9]{{1,{_DIGITS}}})(?![0-9.,/]*[0-9]))?
    )
    (?:\s?(?:\\times|\\cdot|[×·*⋅]|x(?=\s?10\s?\^))\s?10\s?\^\s?\{{?\s?(?P<power>-?[0-9]{{1,4}})(?![0-9])\s?\}}?)?
    (?P<percent>\s?%|\s(?:percent|per\scent)\b)?""",
    re.X,
)
_GROUPED = re.compile(r"[0-9]{1,3}(?:([,'’\u2009\u202f\xa0])[0-9]{3})(?:\1[0-9]{3})*(?:\.[0-9]+)?|[0-9]*\.?[0-9]+")
_SCALES = {
    "hundred": 100,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
    "万": 10**4,
    "亿": 10**8,
}
_SCALE = re.compile(rf"\s?({'|'.join(_SCALES)})(?![A-Za-z])", re.I | re.A)
_UNIT = re.compile(
    r"(?:\s?°[CF]?|\s?\^\s?\{?\s?\\circ\s?\}?|\s?\\circ)?"
    r"(?:(?:[ -]?[^\W\d_]{2,20}(?![^\W\d_])\.?|[ ]?[mgshLlNJWVK€£$°](?![^\W\d_])){1,6}"
    r"(?:\s?\^\s?\{?[23]\}?)?(?:\s?/\s?[a-z]{1,12}\s?){0,2})?\s*[.。]?\s*"
)
_NO_UNIT = re.compile(
    r"\b(?:pi|sqrt|or|and|to|plus|minus|times|over|more|less|than|base|mod|factorial|squared|cubed|half|halves|thirds?|quarters?"
    r"|power|not|but|sin|cos|tan|log|ln)\b|[πи十百千又]"
)
_GOES_ON = re.compile(
    r"\s?(?:[-+*/^×·!√π]|\.\.|…|\\(?!\)|\]|\\|text|mathrm|circ|,|;|quad)|[({](?=[0-9])|(?![mgshLlNJWVK](?![A-Za-z]))[A-Za-z](?![A-Za-z]))"
)
_SIDE = r"[-+*/×·()0-9., \u2009$%]{1,200}"
_ASSIGNED = re.compile(rf"^(?:\\?[A-Za-z]{{1,12}}(?:_\{{?\w{{1,4}}\}}?)?|{_SIDE}(?:={_SIDE}){{0,5}})\s?=(?!=)")
_OUTER = " \t\r\n$*_`~"
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox|textit|rm)\s?\{([^{}]{0,80})\}")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_RAISED_RUN = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]{1,4}")
_VULGAR = re.compile(r"[¼½¾⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
_DASHES = {"−": "-", "–": "-", "‒": "-", "﹣": "-", "⁄": "/", "\u200b": "", "\u2060": "", "\ufeff": ""}
_TEX = (("{,}", ","), ("\\$", "$"), ("\\%", "%"), ("\\!", ""), ("\\,", "\u2009"), ("\\left", ""), ("\\right", ""), ("**", ""))


def plain(text: str) -> str:
    """The text with ASCII digits, signs and letters for all others, and without LaTeX that changes no value."""
    text = text.replace("10**", "10^")
    if not text.isascii():
        text = _RAISED_RUN.sub(lambda match: f"^{{{match.group().translate(_RAISED)}}}", text)
        text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match.group()), text)
        text = text.translate({ord(char): _ascii(char) for char in set(text) if not char.isascii()})
    for spelling, plain in _TEX:
        text = text.replace(spelling, plain)
    return text


def _ascii(char: str) -> str:
    if char in _DASHES:
        return _DASHES[char]
    if char.isdecimal():
        return str(unicodedata.decimal(char))
    return chr(ord(char) - 0xFEE0) if "！" <= char <= "～" else char


def one_number(content: str) -> Reading:
    """The number of a marked answer, if that is a number with its unit and nothing else."""
    content = re.sub(" {2,}", " ", _WRAPPED.sub(r" \1 ", content[:LONGEST])).strip(_OUTER)
    while content[:2] in ("\\(", "\\["):
        content = content[2:].removesuffix("\\)").removesuffix("\\]").strip(_OUTER)
    content = _ASSIGNED.sub("", content).strip(_OUTER)
    signed = re.match(r"-\s+(?=[0-9.$€£\\])", content)
    content = "-" + content[signed.end() :] if signed else content
    match = NUMBER.match(content)
    if match is None:
        return Reading(None, content[:80] or None)
    value, end = statement(content, match)
    rest = content[end:]
    if not _UNIT.fullmatch(rest) or _NO_UNIT.search(rest):
        return Reading(None, content[:80])
    return Reading(value and value._replace(unit=rest.strip(" .")), spelling(match))


def statement(text: str, match: re.Match[str]) -> tuple[Value | None, int]:
    """The value of a number with the word for a multiple behind it (`3.5 million`), and where that ends in `text`."""
    value, scale = _value(match), _SCALE.match(text, match.end())
    if scale is None:
        return value, match.end()
    return value and value._replace(value=value.value * _SCALES[scale[1].lower()]), scale.end()


def goes_on(text: str, end: int) -> bool:
    """Whether what follows makes more than a number of it, as in `9\\pi` and `5x`."""
    return _GOES_ON.match(text, end) is not None


def spelling(match: re.Match[str]) -> str:
    return match.group().strip("$ ")


def equal(one: Value, other: Value) -> bool | None:
    """Whether two values are equal; a percentage equals its number and its value. None where the units differ, or the values by
    so little that one may be the rounded other."""
    if one.unit and other.unit and one.unit != other.unit:
        return None
    if one.value == other.value:
        return True
    if one.percent != other.percent:
        part, whole = (one, other) if one.percent else (other, one)
        return part.value == 100 * whole.value
    rounded = one.value.denominator != other.value.denominator and abs(one.value - other.value) < NEAR * abs(other.value)
    return None if rounded else False


def _value(match: re.Match[str]) -> Value | None:
    """The exact value of a match of `NUMBER`; None for digits that are no number (`1.2.3`) or may be several (`3,5`)."""
    if (ten := match["ten"] or match["n"]) is not None:
        value, under = Fraction(10) ** int(ten), 1
    elif match["run"] is None:
        value = Fraction(int(match["top"] or match["t"]))
        under = int(match["under"] or match["u"])
    else:
        run = match["run"]
        if len(run) > _DIGITS or not (run.isdigit() or _GROUPED.fullmatch(run)):
            return None
        digits, _, decimals = re.sub("[^0-9.]", "", run).partition(".")
        value = Fraction(int(digits + decimals), 10 ** len(decimals))
        under = int(match["over"] or 1)
        exponent = int(match["e"] or 0)
        if abs(exponent) > _EXPONENT:
            return None
        value *= Fraction(10) ** exponent
    if not under:
        return None
    value /= under
    if match["whole"]:
        if match["run"] is not None and not match["over"]:
            return None  # two numbers
        value += int(match["whole"])
    power = int(match["power"] or 0)
    if abs(power) > _EXPONENT:
        return None
    value *= Fraction(10) ** power
    negative = (match["sign"] == "-") != (match["inner"] == "-")
    return Value(-value if negative else value, match["percent"] is not None)
