"""Words that stand beside a number or for one: number words, multipliers, currencies, hedges."""

import re
from fractions import Fraction

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen"),
    *("fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_ONES = (
    {word: value for value, word in enumerate(_SMALL)} | {word: 10 * tens for tens, word in enumerate(_TENS, 2)} | {"fourty": 40}
)
_SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
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
"""What `a` or `one` may stand before, besides the hundred."""

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
"""Words before a number that do not change it."""

_NEGATIVE = re.compile(r"(?:negative|minus|menos|moins|минус|负|負|マイナス|음의)\s*(?=[\d.$\\a-z¥€£₹])", re.I)
_MULTIPLIER = re.compile(
    r"\s*(" + "|".join(sorted(map(re.escape, _MULTIPLIERS), key=len, reverse=True)) + r")(?![^\W\d_\u2e80-\ud7af])\.?", re.I
)
_ABBREVIATED = re.compile(r"\s?(k|m|bn|b)(?![a-z0-9])", re.I)
_WORD = re.compile(r"[a-z]+", re.I)
_SPELT = re.compile(r"(?:(?:minus|negative)[ -]+)?[a-z]+(?:[ ,-]+[a-z]+){0,14}", re.I)
_CHINESE = re.compile(r"[零〇一二两三四五六七八九十百千万亿]{1,15}")
_HAN = {"零": 0, "〇": 0, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7, "八": 8, "九": 9}


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
        numeral = _chinese(han.group())
        return None if numeral is None else (Fraction(numeral), text[han.end() :])
    span = _SPELT.match(text)
    if span is None:
        return None
    spoken = [(match.group().casefold(), match.end()) for match in _WORD.finditer(text, 0, span.end())]
    sign = -1 if spoken[0][0] in ("minus", "negative") else 1
    spoken = spoken[1:] if sign < 0 else spoken
    value, used = _counted(spoken)
    follow = [word for word, _ in spoken[used : used + 3]]
    if not used:
        pair = [word for word, _ in spoken[:2]]
        if len(pair) < 2 or pair[0] not in ("a", "one") or pair[1] not in (*_ALONE, "hundred"):
            return None
        return sign * _ALONE.get(pair[1], Fraction(100)), text[spoken[1][1] :]
    if follow and follow[0] in _DENOMINATORS and value.denominator == 1:
        return sign * value / _DENOMINATORS[follow[0]], text[spoken[used][1] :]
    if follow in (["and", "a", "half"], ["and", "one", "half"]):
        return sign * (value + Fraction(1, 2)), text[spoken[used + 2][1] :]
    return sign * value, text[spoken[used - 1][1] :]


def _counted(words: list[tuple[str, int]]) -> tuple[Fraction, int]:
    """The value of the number words at the beginning, and how many they are (0 for none)."""
    total = group = used = 0
    last = 10**18  # what may follow is smaller than this: "seven eight" is two numbers
    for position, (word, _) in enumerate(words):
        if word == "and" and used == position and used and position + 1 < len(words) and words[position + 1][0] in _ONES:
            if last > 10 and words[position - 1][0] in _SCALES:
                continue
            break
        if word in _ONES and _ONES[word] < last and not (last < 100 and _ONES[word] > 9):
            group, last = group + _ONES[word], (10 if _ONES[word] >= 20 else 1)
        elif word == "hundred" and 0 < group < 100 and position:
            group, last = group * 100, 100
        elif word in _SCALES and group and position:
            total, group, last = total + group * _SCALES[word], 0, _SCALES[word]
        elif word == "dozen" and group and used == position:
            return Fraction(12 * (total + group)), position + 1
        else:
            break
        used = position + 1
    return Fraction(total + group), used


def _chinese(text: str) -> int | None:
    total = section = digit = 0
    if all(char in _HAN for char in text):
        return int("".join(str(_HAN[char]) for char in text)) if len(text) == 1 else None
    for char in text:
        if char in _HAN:
            digit = _HAN[char]
        elif char in "十百千":
            section, digit = section + (digit or 1) * {"十": 10, "百": 100, "千": 1000}[char], 0
        else:
            total, section, digit = total + (section + digit) * {"万": 10**4, "亿": 10**8}[char], 0, 0
    return total + section + digit
