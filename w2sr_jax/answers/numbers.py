"""Numbers as people write answers, read exactly."""

import re
from fractions import Fraction
from typing import NamedTuple

from w2sr_jax.answers.values import characters, words

LONGEST = 1500  # characters; a longer string is no plain number
DIGITS = 1500
EXPONENT = 400  # the largest power of ten in scientific notation


class Number(NamedTuple):
    """An exact value; whether a percent sign follows it (5 % has the value 5); how many `decimals` are written; its `unit` as
    written ("" where there is none)."""

    value: Fraction
    percent: bool
    decimals: int
    unit: str = ""


_QUICK = re.compile(r"-?\d{1,15}(?:\.\d{1,15})?")
_SPACE = re.compile(r"\s{2,}")
_SPACES = re.compile(r"\\[,;:> ]|\\!|\\q?quad\b|~(?!\s*[\d$])|\\space\b")
_DECORATION = re.compile(r"\\left|\\right|\\mathopen|\\mathclose|\^\s*\\circ\b|\^\s*\{\s*\\circ\s*\}|\\degree\b|\\circ\b|°|º")
_FRACTION = re.compile(
    r"\\[dtc]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))|\{\s*(-?\d+)\s*\\over\s*(-?\d+)\s*\}"
)
_PLAIN = r"\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d{1,3}(?: \d{3})+(?!\d)(?:\.\d*)?|\d{1,3}(?:'\d{3})+(?!\d)(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+"
_REPEATING = re.compile(
    r"(\d*)\.(\d*)(?:\\overline\s*\{?(\d+)\}?|\\bar\s*\{?(\d+)\}?|\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?|\((\d{1,30})\)(?!\d))"
)
_DOTTED = re.compile(
    r"(?<![\d.,])(\d{1,3}(?:\.\d{3}){2,})(?:,(\d+))?(?![\d.,]*\d)|(?<![\d.,])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?!\d)"
)
_UPRIGHT_E = re.compile(r"(?<=\d)\s*\\(?:mathrm|text)\s*\{\s*[eE]\s*\}\s*\{?\s*([-+]?\d{1,3})\s*\}?")
_GOES_ON = re.compile(r"(\d*)\.(\d{1,60})\s*(?:\.{3,}|…|\\[lc]?dots\b)")
_TO_THE = r"\s*(?:\^|\*\*)\s*(?:\{\s*([-+]?\s*\d{1,3})\s*\}|\(\s*([-+]?\s*\d{1,3})\s*\)|([-+]?\d{1,3}))"
_POWER = re.compile(r"(?:\\times|\\cdot|\\ast|×|·|⋅|∙|\*|(?<=[\d ])x(?=\s*10\b))\s*10" + _TO_THE, re.I)
_TEN = re.compile(r"(?<![\d.^{])10" + _TO_THE + r"(?!\d)")
_VALUE = re.compile(
    rf"(?P<sign>[-+]?)\s*(?P<money>(?:{words.CURRENCY.pattern})\s*)?(?P<inner>[-+]?)\s*"
    rf"(?:(?P<whole>\d+)\s+(?P<over>\d+)\s*/\s*(?P<under>\d+)"
    rf"|(?P<a>{_PLAIN})(?:\s?[eE](?P<e>[-+]?\d{{1,3}})(?![\w.]))?(?:\s*/\s*(?P<b>{_PLAIN}))?)(?P<rest>.*)",
    re.S,
)
_PERCENT = re.compile(
    r"\s*(?:\\?%|percent(?:age points?)?\b|per cent\b|pct\b|Prozent\b|por ?ciento\b|por cento\b|процент\w*|퍼센트)", re.I
)
_CJK = r"[\u2e80-\u2fdf\u3005-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_UNIT = re.compile(
    r"(?:(?:\s*-?\s*[^\W\d_\u2e80-\ud7af]{3,}\.?(?:[\s./-]+(?:[^\W\d_\u2e80-\ud7af]{1,20}\.?|\([^()\d]{1,30}\))){0,5}"
    r"|\s*(?:[ckmμµn]?m|[km]?g|lbs?|ft|in|hrs?|oz|m?l|mL|mph|kph|mins?|secs?|yd|kWh|[kMG]W|[kM]J|[kMG]Hz|[kM]Pa|[kM]?eV|[kcm]?m/s|km/h"
    r"|\s[GMkmμµnp]?(?:W|J|Hz|Pa|N|V|A|K|C|F|T|L|s|h|d|mol)|\smi|ft/s|o'clock|кг|г|км|м|см|ч|шт|р|л|дн|€|Std|Stk)\b\.?(?:\s*(?:/|per)\s*[a-zA-Z]{1,12})?)"
    r"(?:\s*(?:\^\s*\{?-?\d\}?|\*\*\s*\d))?"
    rf"|\s*{_CJK}{{1,10}}(?:\s*/\s*{_CJK}{{1,4}})?)?[\s.。]*"
)
_NOT_UNITS = re.compile(
    r"\b(?:pi|sqrt|sin|cos|tan|log|ln|exp|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|half|halves|quarters?|thirds?"
    r"|factorial|squared|cubed|times|plus|minus|over|or|and|to|mod|modulo|base|than|not|und|oder|et|ou|o|ou|или|и|dots|ldots|infty"
    r"|rad|theta|alpha|beta|choose|is|are|was|of which)\b|[万亿億萬千百十半几余多分之点又和或与比]|反",
    re.I,
)
_BEFORE = re.compile(r"\s*\d+\s*/\s*\d")
_DOLLARS_AND_CENTS = re.compile(r"(?:\$\s*(\d[\d,]{0,11})|(\d[\d,]{0,11})\s*dollars?)\s*(?:and|,)\s*(\d{1,2})\s*cents?", re.I)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SHARE = re.compile(r"(\d{1,9})\s+(?:in|out of)\s+(\d{1,9})")
_NOTE = re.compile(r"(?:\s+|(?<![\d)])|(?=（))(?:\(([^()]{1,60})\)|（([^（）]{1,60})）|\[([^\[\]]{1,60})\])\s*[.。]?\s*$")


def number(text: str) -> Number | None:
    """The exact value of a text that is one number and nothing else; None for any other text.

    Read are `1,234`, `$12.50`, `3/4`, `\\frac34`, `2 1/2`, `-7`, `15%`, `24 dollars`, `1.5e3`, `1.6 \\times 10^{-19}`,
    `0.1\\overline{6}`, `about 15`, `negative 5`, `USD 35`, `3.5 million`, `twelve`, `15 (fifteen)`, `12个`. A unit is recorded
    and does not change the value. An expression (`9\\pi`, `5x`) is no number.
    """
    if len(text) > LONGEST:
        return None
    if _QUICK.fullmatch(text):
        whole, _, part = text.partition(".")
        return Number(Fraction(int(whole + part), 10 ** len(part)) if part else Fraction(int(whole)), False, len(part))
    text = plain_spelling(text)
    share = _SHARE.fullmatch(text)
    if share is not None and int(share[2]):
        return Number(Fraction(int(share[1]), int(share[2])), False, 0)
    money = _DOLLARS_AND_CENTS.fullmatch(text)
    if money is not None:
        dollars = (money[1] or money[2]).replace(",", "")
        return Number(int(dollars) + Fraction(int(money[3]), 100), False, 2, "dollars")
    hedge = words.HEDGE.match(text)
    text, negative = words.signed(text[hedge.end() :] if hedge else text)
    result = _digits(text) or _spelt(text)
    if result is None:
        note = _NOTE.search(text)
        if note is None or not text[: note.start()].strip():
            return None
        result = _digits(text[: note.start()]) or _spelt(text[: note.start()])
        if result is None:
            return None
        inner = note[1] or note[2] or note[3]
        repeated = number(inner)
        if repeated.value != result.value if repeated is not None else _WORD.search(inner) is None:
            return None
    return result._replace(value=-result.value) if negative else result


def plain_spelling(text: str) -> str:
    """A number's text without what LaTeX and typography add to it: spacing, wrappers, delimiters' sizes, forms of fractions."""
    text = _SPACE.sub(" ", characters.mathematical(text)).replace("{,}", ",").replace(",\\!", ",").replace("\\!", "")
    if "\\" in text or "~" in text:
        text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\%", "%")
        text = _SPACES.sub(" ", _UPRIGHT_E.sub(r"e\1", text))
        text = characters.UPRIGHT.sub(r" \1 ", text)
    text = _DECORATION.sub("", text)
    if "." in text:
        text = _DOTTED.sub(_undotted, text)
    if "frac" in text or "over" in text:
        text = _FRACTION.sub(_plain_fraction, text)
    text = text.strip()
    text = text if text.endswith(("...", "…")) else text.rstrip(".。").strip()
    while text.startswith("{") and text.endswith("}") and "}" not in text[1:-1]:
        text = text[1:-1].strip()
    if text[:1] in "([" and text[-1:] in ")]" and re.fullmatch(r"[(\[]\s*[-+]\s*[^()\[\],;]*[)\]]", text):
        text = text[1:-1].strip()
    return text


def _digits(text: str) -> Number | None:
    text, scale = _scientific(_expanded(text))
    match = _VALUE.match(text)
    if match is None or len(re.findall(r"\d", text)) > DIGITS or (match["sign"] and match["inner"]):
        return None
    if match["whole"]:
        if not int(match["under"]):
            return None
        value = int(match["whole"]) + Fraction(int(match["over"]), int(match["under"]))
    else:
        exponent = int(match["e"] or 0)
        if abs(exponent) > EXPONENT:
            return None
        value = _decimal(match["a"]) * Fraction(10) ** exponent
        if match["b"]:
            under = _decimal(match["b"])
            if not under:
                return None
            value /= under
    factor, rest = words.multiplier(match["rest"], match["money"] is not None)
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    rest = _without_currency(rest)
    unit = rest.strip(" .。")
    if not _UNIT.fullmatch(rest) or _NOT_UNITS.search(rest) or _BEFORE.match(rest):
        return None
    if scale is not None:
        value *= Fraction(10) ** scale
    whole = match["whole"] or match["b"] or match["e"] or factor != 1 or scale is not None
    decimals = 0 if whole else len(match["a"].partition(".")[2])
    value *= factor
    return Number(-value if "-" in (match["sign"], match["inner"]) else value, percent is not None, decimals, unit)


def _spelt(text: str) -> Number | None:
    read = words.spelt(text)
    if read is None:
        return None
    value, rest = read
    percent = _PERCENT.match(rest)
    rest = rest[percent.end() :] if percent else rest
    if not _UNIT.fullmatch(rest) or _NOT_UNITS.search(rest) or words.spelt(rest.lstrip(" ,-")) or "-" in rest:
        return None
    return Number(value, percent is not None, 0, rest.strip(" ."))


def _scientific(text: str) -> tuple[str, int | None]:
    """The text without its power of ten, and the exponent: `4.5 \\times 10^{33} m` gives `4.5  m`, `10^{33}` gives `1`."""
    if "10" not in text:
        return text, None
    match = _POWER.search(text)
    if match is None:
        match = _TEN.match(text.lstrip("+-"))
        if match is None:
            return text, None
        sign = "-" if text.startswith("-") else ""
        return f"{sign}1 {text.lstrip('+-')[match.end() :]}", _exponent(match)
    return f"{text[: match.start()].rstrip()} {text[match.end() :]}", _exponent(match)


def _exponent(match: re.Match[str]) -> int:
    return int(re.sub(r"\s", "", match[1] or match[2] or match[3]))


def _expanded(text: str) -> str:
    """Repeating decimals as fractions."""
    if "." not in text:
        return text
    match = _REPEATING.match(text.lstrip("+-"))
    if match is not None:
        fixed = match[2]
        dotted = match[5] + match[6] + match[7] if match[6] is not None else match[5]
        period = match[3] or match[4] or dotted or match[8]
        rest = text.lstrip("+-")[match.end() :]
        return f"{'-' if text.startswith('-') else ''}{_repeated(match[1], fixed, period)}{rest}"
    match = _GOES_ON.match(text.lstrip("+-"))
    if match is not None and (split := _period(match[2])):
        rest = text.lstrip("+-")[match.end() :]
        return f"{'-' if text.startswith('-') else ''}{_repeated(match[1], *split)}{rest}"
    return text


def _repeated(whole: str, fixed: str, period: str) -> str:
    value = Fraction(int(whole or 0)) + Fraction(int(fixed or 0), 10 ** len(fixed))
    value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(fixed))
    return f"{value.numerator}/{value.denominator}"


def _period(digits: str) -> tuple[str, str] | None:
    """(digits before, period) of written decimals, as ("1", "6") of `1666`: the shortest period that is repeated at least twice
    and over at least three digits; None where there is none."""
    for length in range(1, len(digits) // 2 + 1):
        period = digits[-length:]
        count = 0
        while digits.endswith(period * (count + 1)):
            count += 1
        if count >= 2 and count * length >= 3:
            fixed = digits[: len(digits) - count * length]
            return fixed, period
    return None


def _without_currency(rest: str) -> str:
    match = words.CURRENCY.match(rest.lstrip())
    return rest.lstrip()[match.end() :] if match else rest


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").replace("'", "").rstrip(".") or "0")


def _undotted(match: re.Match[str]) -> str:
    """`1.250.000` and `1.250,50`, which can be read in one way only, as English writes them."""
    whole, part = match[1] or match[3], match[2] or match[4]
    return whole.replace(".", "") + (f".{part}" if part else "")


def _plain_fraction(match: re.Match[str]) -> str:
    over, under = match[1] or match[2] or match[5], match[3] or match[4] or match[6]
    sign = "-" if over.startswith("-") != under.startswith("-") else ""
    return f" {sign}{over.lstrip('-')}/{under.lstrip('-')} "
