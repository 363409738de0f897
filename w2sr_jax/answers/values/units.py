"""Units of measure that people write behind numbers, as far as they tell two answers apart: 5 km are not 5 m."""

import re
from fractions import Fraction

_KINDS: dict[str, dict[str, Fraction]] = {
    "length": {
        "mm": Fraction(1, 1000), "millimeter": Fraction(1, 1000), "millimetre": Fraction(1, 1000),
        "cm": Fraction(1, 100), "centimeter": Fraction(1, 100), "centimetre": Fraction(1, 100),
        "m": Fraction(1), "meter": Fraction(1), "metre": Fraction(1),
        "km": Fraction(1000), "kilometer": Fraction(1000), "kilometre": Fraction(1000),
        "in": Fraction(254, 10_000), "inch": Fraction(254, 10_000), "ft": Fraction(3048, 10_000), "foot": Fraction(3048, 10_000),
        "feet": Fraction(3048, 10_000), "yd": Fraction(9144, 10_000), "yard": Fraction(9144, 10_000),
        "mile": Fraction(1_609_344, 1000), "mi": Fraction(1_609_344, 1000),
    },
    "mass": {
        "mg": Fraction(1, 1000), "milligram": Fraction(1, 1000), "g": Fraction(1), "gram": Fraction(1), "kg": Fraction(1000),
        "kilogram": Fraction(1000), "ton": Fraction(10**6), "tonne": Fraction(10**6),
    },
    "imperial mass": {"oz": Fraction(1), "ounce": Fraction(1), "lb": Fraction(16), "pound": Fraction(16)},
    "time": {
        "second": Fraction(1), "sec": Fraction(1), "minute": Fraction(60), "min": Fraction(60), "hour": Fraction(3600),
        "hr": Fraction(3600), "day": Fraction(86_400), "week": Fraction(604_800),
    },
    "years": {"month": Fraction(1), "year": Fraction(12)},
    "volume": {
        "ml": Fraction(1, 1000), "milliliter": Fraction(1, 1000), "millilitre": Fraction(1, 1000), "l": Fraction(1),
        "liter": Fraction(1), "litre": Fraction(1),
    },
    "money": {"cent": Fraction(1), "dollar": Fraction(100)},
}  # fmt: skip
_UNITS = {name: (kind, size) for kind, units in _KINDS.items() for name, size in units.items()}
_POWER = re.compile(r"^(square|sq\.?|cubic|cu\.?)\s+|\s*\^\s*\{?([23])\}?$")


def comparable(left: str, right: str) -> Fraction | None:
    """How many of the `right` unit one `left` unit is, where both are units of one kind; None where one is unknown or absent."""
    one, other = _unit(left), _unit(right)
    if one is None or other is None or one[0] != other[0] or one[2] != other[2]:
        return None
    return (one[1] / other[1]) ** one[2]


def _unit(text: str) -> tuple[str, Fraction, int] | None:
    """(kind, size, power) of a unit."""
    text = text.strip().rstrip(".")
    power = 1
    match = _POWER.search(text.lower())
    if match is not None:
        power = int(match[2]) if match[2] else 2 if match[1].startswith("sq") else 3
        text = _POWER.sub("", text.lower())
    name = text.strip().lower()
    found = _UNITS.get(name) or _UNITS.get(name.removesuffix("s")) or _UNITS.get(name.removesuffix("es"))
    return (*found, power) if found else None
