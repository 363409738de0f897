"""Words that are numbers or belong to one: number words, multipliers, currencies, hedges."""

import re
from collections.abc import Sequence
from fractions import Fraction

_COUNTED = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_ROUND = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
UNITS = {word: value for value, word in enumerate(_COUNTED)}
TENS = {word: 10 * value for value, word in enumerate(_ROUND, 2)} | {"fourty": 40}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""English words of numbers by value; `hundred` besides."""

HAN = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
"""Chinese numerals."""

_PARTS = {
    "half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9,
    "tenth": 10, "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_DENOMINATORS = _PARTS | {word + "s": value for word, value in _PARTS.items() if not word.startswith("hal")}
_ALONE = {
    "half": Fraction(1, 2),
    "third": Fraction(1, 3),
    "quarter": Fraction(1, 4),
    "fifth": Fraction(1, 5),
    "dozen": Fraction(12),
}
"""Words that are numbers behind `a` or `one`, besides `hundred`."""

_BY_FACTOR = {
    12: ("dozen", "dozens"),
    100: ("hundred", "hundreds", "百"),
    10**3: ("thousand", "thousands", "mil", "tausend", "mille", "тысяч", "тысячи", "тысяча", "тыс", "千", "천"),
    10**4: ("万", "萬", "만"),
    10**6: (
        *("million", "millions", "mln", "mio", "millionen", "millón", "millon", "millones", "milhão", "milhões"),
        *("миллион", "миллиона", "миллионов", "млн"),
    ),
    10**8: ("亿", "億", "억"),
    10**9: ("billion", "billions", "bn", "milliarde", "milliarden", "milliard", "milliards", "миллиардов", "млрд"),
    10**12: ("trillion", "trillions"),
}
_MULTIPLIERS = {word: factor for factor, spellings in _BY_FACTOR.items() for word in spellings}
_MONEY = {"k": 10**3, "m": 10**6, "b": 10**9, "bn": 10**9}
_CODES = (
    r"USD|EUR|GBP|CAD|AUD|NZD|HKD|SGD|CHF|INR|RMB|CNY|JPY|KRW|RUB|BRL|MXN|ZAR|SEK|NOK|DKK|PLN|TRY|THB|VND|IDR|PHP|NGN|KES|PKR|BDT"
    r"|US\$|A\$|C\$|R\$|HK\$|NT\$|Rs\.?|₨"
)
SYMBOLS = "$€£¥₹₽₩₦₱₫₺₴₪฿₿"
"""Signs of currencies, any of which may stand before or behind an amount."""

CURRENCY = re.compile(rf"\\?[{re.escape(SYMBOLS)}]|(?<![A-Za-z])(?:{_CODES})(?![A-Za-z$])")
HEDGE = re.compile(
    r"(?:\s*(?:\\approx|\\simeq|\\sim|≈|≅|~(?=\s*[\d$\\-])|="
    r"|(?:about|approximately|approx\.?|around|roughly|nearly|almost|close to|exactly|precisely|simply|just|only|merely|indeed"
    r"|clearly|therefore|thus|hence|then"
    r"|donc|alors|also|somit|daher|entonces|portanto|logo|quindi|итак|значит"
    r"|equal to|equals|at least|at most|up to|a total of|an average of|ca\.|circa"
    r"|etwa|ungefähr|genau|environ|exactement|aproximadamente|exactamente|exatamente|cerca de|примерно|около|ровно"
    r"|大约|约|約|大概|共|一共|总共|正好|恰好|약|모두)(?![a-zäöüé])\s*:?))+\s*",
    re.I,
)
"""Words before a number that do not change its value."""

_NEGATIVE = re.compile(r"(?:negative|minus|menos|moins|минус|负|負|マイナス|음의)\s*(?=[\d.$\\a-z¥€£₹])", re.I)
_MULTIPLIER = re.compile(
    r"\s*(" + "|".join(sorted(map(re.escape, _MULTIPLIERS), key=len, reverse=True)) + r")(?![^\W\d_\u2e80-\ud7af])\.?", re.I
)
_ABBREVIATED = re.compile(r"\s?(k|m|bn|b)(?![a-z0-9])", re.I)
_WORD = re.compile(r"[a-z]+", re.I)
_SPELT = re.compile(r"(?:(?:minus|negative)[ -]+)?[a-z]+(?:[ ,-]+[a-z]+){0,14}", re.I)
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,15}")


def signed(text: str) -> tuple[str, bool]:
    """The text without a leading word for "negative", and whether there was one."""
    match = _NEGATIVE.match(text)
    return (text[match.end() :], True) if match else (text, False)


def multiplier(text: str, money: bool) -> tuple[int, str]:
    """The factor that a text begins with (`million`, `万`; `k` or `M` where `money`; else 1), and what follows it."""
    total = 1
    while (match := _MULTIPLIER.match(text)) and (factor := _MULTIPLIERS.get(match[1].casefold())):  # ı matches i
        total, text = total * factor, text[match.end() :]
    abbreviated = _ABBREVIATED.match(text) if money and total == 1 else None
    if abbreviated:
        return _MONEY[abbreviated[1].casefold()], text[abbreviated.end() :]
    return total, text


def spelt(text: str) -> tuple[Fraction, str] | None:
    """The value of English number words (or Chinese numerals) at the beginning of a text, and what follows them; else None.

    Read are `twelve`, `minus forty-two`, `one hundred and five`, `two and a half`, `three quarters`, `two-thirds`, `a dozen`.
    """
    han = _CHINESE.match(text)
    if han:
        return Fraction(chinese(han.group())), text[han.end() :]
    span = _SPELT.match(text)
    if span is None:
        return None
    spoken = [(match.group().casefold(), match.end()) for match in _WORD.finditer(text, 0, span.end())]
    sign = -1 if spoken[0][0] in ("minus", "negative") else 1
    spoken = spoken[1:] if sign < 0 else spoken
    value, used = counted([word for word, _ in spoken])
    follow = [word for word, _ in spoken[used : used + 3]]
    if not used:
        pair = [word for word, _ in spoken[:2]]
        if len(pair) < 2 or pair[0] not in ("a", "one") or pair[1] not in (*_ALONE, "hundred"):
            return None
        return sign * _ALONE.get(pair[1], Fraction(100)), text[spoken[1][1] :]
    if follow and follow[0] in _DENOMINATORS:
        return Fraction(sign * value, _DENOMINATORS[follow[0]]), text[spoken[used][1] :]
    if follow in (["and", "a", "half"], ["and", "one", "half"]):
        return sign * (value + Fraction(1, 2)), text[spoken[used + 2][1] :]
    return Fraction(sign * value), text[spoken[used - 1][1] :]


def counted(spoken: Sequence[str], at: int = 0) -> tuple[int, int]:
    """The whole number that begins at word `at`, as `one hundred and five` or `two dozen`, and the index of the word behind it,
    which is `at` where no number begins there."""
    total = current = 0
    last = ""
    while at < len(spoken):
        word = spoken[at]
        if word in UNITS and last != "unit" and not (last == "ten" and not 0 < UNITS[word] < 10):
            current, last = current + UNITS[word], "unit"
        elif word in TENS and last not in ("unit", "ten"):
            current, last = current + TENS[word], "ten"
        elif word == "hundred" and current < 100:
            current, last = (current or 1) * 100, "scale"
        elif word in SCALES:
            total, current, last = total + (current or 1) * SCALES[word], 0, "scale"
        elif word == "dozen" and last in ("unit", "ten"):
            return 12 * (total + current), at + 1
        elif not (word == "and" and last == "scale" and at + 1 < len(spoken) and spoken[at + 1] in (UNITS | TENS)):
            break
        at += 1
    return total + current, at


def chinese(numeral: str) -> int:
    """The value of a Chinese numeral: `二十五` is 25; without signs for ten, hundred … its digits are read one by one: `二五` is
    25."""
    if not any(char in HAN_SCALES for char in numeral):
        return int("".join(str(HAN[char]) for char in numeral))
    total = section = digit = 0
    for char in numeral:
        if char in HAN:
            digit = HAN[char]
        elif (scale := HAN_SCALES[char]) < 10**4:
            section, digit = section + (digit or 1) * scale, 0
        else:
            total, section, digit = total + (section + digit or 1) * scale, 0, 0
    return total + section + digit
