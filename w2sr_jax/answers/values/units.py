"""Units of measure behind numbers, as far as they make two answers different: 5 km are not 5 m."""

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
    "kitchen volume": {
        "cup": Fraction(1), "pint": Fraction(2), "quart": Fraction(4), "gallon": Fraction(16), "tablespoon": Fraction(1, 16),
        "teaspoon": Fraction(1, 48),
    },
    "money": {"cent": Fraction(1), "dollar": Fraction(100)},
}  # fmt: skip
_PREFIXES = {
    "G": Fraction(10**9), "M": Fraction(10**6), "k": Fraction(1000), "": Fraction(1), "c": Fraction(1, 100),
    "m": Fraction(1, 1000), "μ": Fraction(1, 10**6), "µ": Fraction(1, 10**6), "n": Fraction(1, 10**9), "p": Fraction(1, 10**12),
}  # fmt: skip
_SYMBOLS = {
    "J": "energy", "W": "power", "A": "current", "Pa": "pressure", "Hz": "frequency", "V": "voltage", "N": "force",
    "eV": "electronvolt", "C": "charge", "F": "capacitance", "T": "field", "m": "length", "s": "time",
    "g": "mass", "L": "volume", "l": "volume",
}  # fmt: skip
_NAMES = {
    "joule": "J",
    "watt": "W",
    "ampere": "A",
    "amp": "A",
    "pascal": "Pa",
    "hertz": "Hz",
    "volt": "V",
    "newton": "N",
    "second": "s",
}
_WORDS = {"kilo": "k", "mega": "M", "giga": "G", "milli": "m", "micro": "μ", "nano": "n"}
_SI = {prefix + symbol: (kind, size) for symbol, kind in _SYMBOLS.items() for prefix, size in _PREFIXES.items()} | {
    "h": ("time", Fraction(3600))
}
_SPELT = {
    word + name: (_SYMBOLS[symbol], _PREFIXES[prefix])
    for name, symbol in _NAMES.items()
    for word, prefix in {**_WORDS, "": ""}.items()
}
_UNITS = _SPELT | {name: (kind, size) for kind, units in _KINDS.items() for name, size in units.items()}
_POWER = re.compile(r"^(square|sq\.?|cubic|cu\.?)\s+|\s*\^\s*\{?\s*([23])\s*\}?$")
_RATIO = re.compile(r"\s*(?:/|\bper\b|\ba\b)\s*")
_SPEEDS = {"mph": "mile/hour", "kph": "km/hour", "kmh": "km/hour"}
_BEHIND = re.compile(
    r"(?<=[\w)}\]!°πi])\s+(?:(?:square|sq\.?|cubic|cu\.?)\s+)?([a-zA-Zμµ]{1,12}(?:\s*(?:/|per)\s*[a-zA-Z]{1,12})?)\s*(?:\^\s*\{?\s*-?\d\s*\}?)?\.?$"
)


def comparable(left: str, right: str) -> Fraction | None:
    """How many of the `right` unit make one of the `left` unit; None where one is unknown or absent, or they are of two kinds."""
    one, other = _unit(left), _unit(right)
    return one[1] / other[1] if one is not None and other is not None and one[0] == other[0] else None


def without_unit(text: str) -> str:
    """An expression without the unit of measure behind it: `16π cm^2` without `cm^2`."""
    match = _BEHIND.search(text)
    return text[: match.start()] if match is not None and len(match[1]) > 1 and _unit(match[1]) is not None else text


def _unit(text: str) -> tuple[str, Fraction] | None:
    """(kind, size) of a unit."""
    text = text.strip().rstrip(".").strip()
    text = _SPEEDS.get(text.lower(), text)
    parts = _RATIO.split(text)
    if len(parts) == 2:
        over, under = _unit(parts[0]), _unit(parts[1])
        return (f"{over[0]}/{under[0]}", over[1] / under[1]) if over and under else None
    power = 1
    match = _POWER.search(text)
    if match is not None:
        power = int(match[2]) if match[2] else 2 if match[1].startswith("sq") else 3
        text = _POWER.sub("", text).strip()
    name = text.lower()
    unit = _SI.get(text) or _UNITS.get(name) or _UNITS.get(name.removesuffix("s")) or _UNITS.get(name.removesuffix("es"))
    return (f"{unit[0]}^{power}", unit[1] ** power) if unit else None
