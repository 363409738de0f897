"""Numbers as questions write them: thousands set apart, decimals of either kind, and words."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

_COUNTED = """
    zero one two three four five six seven eight nine
    ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen
"""
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: value for value, word in enumerate(_COUNTED.split())}
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), 2)}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_OTHERS = {
    word: value
    for words in (
        "deux trois quatre cinq six sept huit neuf dix onze douze",
        "zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
        "dos tres cuatro cinco seis siete ocho nueve diez once doce",
    )
    for value, word in enumerate(words.split(), 2)
    if word != "once"  # a word of English, too
}
WORDS = frozenset((*_UNITS, *_TENS, *_SCALES, *_OTHERS, "hundred"))
"""Words of numbers, accents aside."""

_HAN = {char: value for value, char in enumerate("零一二三四五六七八九")} | {"〇": 0, "两": 2}
_HAN_SCALES = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
_HAN_NUMBER = re.compile(f"[{''.join(_HAN)}{''.join(_HAN_SCALES)}]+(?![共起样些直定般切旦])")

_LEADING = r"(?<![\d.,])\d{1,3}"
_ANGLO = re.compile(_LEADING + r"(?:,\d{3})+(?![\d,])")
_SPACED = re.compile(_LEADING + r"(?:[ '\u00a0]\d{3})+(?![\d,]|[ ']\d)")
_POINTED = re.compile(_LEADING + r"(?:\.\d{3})+(?![\d.])")
_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d+)(?![\d,])")
_BETWEEN = re.compile(r"(?<=\d),(?=\d)")
_CONTINENTAL = re.compile(
    r"\b(?:der|die|das|und|ist|wie|viele|ein|eine|le|la|les|des|est|une|combien|el|los|las|una|cuantos|cuantas|il|di|che|quanti"
    r"|quante|um|uma|os|quantos|quantas|het|een|hoeveel)\b|[а-я]{3}"
)


def readings(text: str) -> Iterator[str]:
    """A text with plain numbers, in each way that its commas and points can be read: as between thousands (this one comes first),
    as between the numbers of a list and, in languages that write so, as decimal commas and as points between thousands."""
    spaced = _SPACED.sub(lambda match: re.sub(r"\D", "", match.group()), text)
    if "," not in spaced and "." not in spaced:
        yield spaced
        return
    first = _ANGLO.sub(lambda match: match.group().replace(",", ""), spaced)
    yield first
    listed = _BETWEEN.sub(", ", text)
    if listed != first and "," in text:
        yield listed
    if len(set(_CONTINENTAL.findall(text.lower()))) >= 2:
        pointed = _POINTED.sub(lambda match: match.group().replace(".", ""), spaced)
        other = _COMMA.sub(r"\1.\2", pointed)
        if other not in (first, listed):
            yield other


def digits(word: str) -> str:
    """A number's digits without zeros that say nothing: `1200.00` is `1200`, `.5` is `0.5`."""
    if "." in word:
        word = word.rstrip("0").rstrip(".") or "0"
    return f"0{word}" if word.startswith(".") else word


def spelt(words: Sequence[str]) -> list[str]:
    """Words with numbers in figures: `one hundred and twenty five` as `125`, `5 million` as `5000000`."""
    found: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        if word not in WORDS:
            found.append(word)
            at += 1
        elif word in _OTHERS and word not in _UNITS:
            found.append(str(_OTHERS[word]))
            at += 1
        elif (word in _SCALES or word == "hundred") and found and found[-1][0].isdigit():
            found[-1] = digits(f"{Decimal(found[-1]) * _SCALES.get(word, 100):f}")
            at += 1
        else:
            value, at = _english(words, at)
            found.append(str(value))
    return found


def _english(words: Sequence[str], at: int) -> tuple[int, int]:
    """The number that begins at a word of a number, and the place behind it."""
    total = current = 0
    last = ""
    while at < len(words):
        word = words[at]
        if word in _UNITS and last != "unit" and not (last == "ten" and not 0 < _UNITS[word] < 10):
            current, last = current + _UNITS[word], "unit"
        elif word in _TENS and last not in ("unit", "ten"):
            current, last = current + _TENS[word], "ten"
        elif word == "hundred" and current < 100:
            current, last = (current or 1) * 100, "scale"
        elif word in _SCALES:
            total, current, last = total + (current or 1) * _SCALES[word], 0, "scale"
        elif not (word == "and" and last == "scale" and at + 1 < len(words) and words[at + 1] in {**_UNITS, **_TENS}):
            break
        at += 1
    return total + current, at


def han(text: str) -> str:
    """Chinese numerals in figures: `二十五` as `25`."""

    def value(match: re.Match[str]) -> str:
        chars = match.group()
        if not any(char in _HAN_SCALES for char in chars):
            return "".join(str(_HAN[char]) for char in chars)
        total = section = number = 0
        for char in chars:
            if char in _HAN:
                number = _HAN[char]
            elif (scale := _HAN_SCALES[char]) < 10**4:
                section, number = section + (number or 1) * scale, 0
            else:
                total, section, number = total + (section + number or 1) * scale, 0, 0
        return str(total + section + number)

    return _HAN_NUMBER.sub(value, text)
