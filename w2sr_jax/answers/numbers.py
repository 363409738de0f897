"""Numbers as people write answers, read exactly."""

import re
from fractions import Fraction
from typing import NamedTuple

LONGEST = 1500  # characters; a longer string is no plain number
DIGITS = 1500


class Number(NamedTuple):
    """An exact value; `percent` where a percent sign followed it (5 % has value 5); `places` written after the decimal point."""

    value: Fraction
    percent: bool
    places: int


_SPACES = re.compile(r"\\[,;:!> ]|\\q?quad\b|[\u00a0\u2009\u202f]|~")
_WRAPPERS = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|textrm|rm|bf)\s*\{([^{}]*)\}")
_DECORATION = re.compile(r"\\left|\\right|\\\$|[$€£]|\^\s*\\circ\b|\^\s*\{\s*\\circ\s*\}|\\degree\b|°")
_FRACTION = re.compile(r"\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))")
_PLAIN = r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?: \d{3})+(?!\d)(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+"
_VALUE = re.compile(
    rf"(?P<sign>[-+]?)\s*(?:(?P<whole>\d+)\s+(?P<over>\d+)\s*/\s*(?P<under>\d+)|(?P<a>{_PLAIN})(?:[eE](?P<e>[-+]?\d{{1,2}}))?"
    rf"(?:\s*/\s*(?P<b>{_PLAIN}))?)(?P<percent>\s*\\?%)?(?P<unit>.*)",
    re.S,
)
_UNIT = re.compile(
    r"(?:(?:\s+[a-zA-Z]{3,}(?:[\s./-]+[a-zA-Z]{1,20}){0,5}"
    r"|\s*(?:[ckm]?m|[km]?g|lbs?|ft|in|hrs?|oz|m?l|mph|kph|mins?|secs?)\b)(?:\s*\^\s*\{?[23]\}?)?)?[\s.]*"
)
_NOT_UNITS = re.compile(
    r"\b(?:pi|sqrt|sin|cos|tan|log|exp|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|half|halves|quarters?|thirds?"
    r"|factorial|squared|cubed|times|plus|minus|over|or|and|to|mod|modulo|base)\b",
    re.I,
)


def number(text: str) -> Number | None:
    """The exact value of `1,234`, `$12.50`, `3/4`, `\\frac34`, `2 1/2`, `-7`, `15%`, `1.5e3`, `24 dollars`; else None."""
    if len(text) > LONGEST:
        return None
    text = _SPACES.sub(" ", text.replace("−", "-").replace("–", "-").replace("{,}", ",").replace(",\\!", ","))
    text = _WRAPPERS.sub(r" \1 ", text)
    text = _DECORATION.sub("", text)
    text = _FRACTION.sub(_plain_fraction, text).strip().rstrip(".").strip()
    while text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    match = _VALUE.fullmatch(text)
    if match is None or len(re.findall(r"\d", text)) > DIGITS:
        return None
    unit = match["unit"]
    if not _UNIT.fullmatch(unit) or _NOT_UNITS.search(unit):
        return None
    if match["whole"]:
        if not int(match["under"]):
            return None
        value = int(match["whole"]) + Fraction(int(match["over"]), int(match["under"]))
    else:
        value = _decimal(match["a"]) * Fraction(10) ** int(match["e"] or 0)
        if match["b"]:
            under = _decimal(match["b"])
            if not under:
                return None
            value /= under
    places = 0 if match["whole"] or match["b"] or match["e"] else len(match["a"].partition(".")[2])
    return Number(-value if match["sign"] == "-" else value, match["percent"] is not None, places)


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").rstrip(".") or "0")


def _plain_fraction(match: re.Match[str]) -> str:
    over, under = match[1] or match[2], match[3] or match[4]
    sign = "-" if over.startswith("-") != under.startswith("-") else ""
    return f" {sign}{over.lstrip('-')}/{under.lstrip('-')} "
