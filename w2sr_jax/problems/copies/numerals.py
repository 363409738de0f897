"""Numbers as questions write them: thousands set apart, decimals of either kind, and words."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from w2sr_jax.answers.values import words

_OTHERS = {
    word: value
    for language in (
        "deux trois quatre cinq six sept huit neuf dix onze douze",
        "zwei drei vier funf sechs sieben acht neun zehn elf zwolf",
        "dos tres cuatro cinco seis siete ocho nueve diez once doce",
    )
    for value, word in enumerate(language.split(), 2)
    if word != "once"  # a word of English, too
}
WORDS = frozenset((*words.UNITS, *words.TENS, *words.SCALES, *_OTHERS, "hundred"))
"""Words of numbers, accents aside."""

_HAN_NUMBER = re.compile(f"[{''.join(words.HAN)}{''.join(words.HAN_SCALES)}]+(?![共起样些直定般切旦])")

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


def spelt(text: Sequence[str]) -> list[str]:
    """Words with numbers in figures: `one hundred and twenty five` as `125`, `5 million` as `5000000`."""
    found: list[str] = []
    at = 0
    while at < len(text):
        word = text[at]
        if word not in WORDS:
            found.append(word)
            at += 1
        elif word in _OTHERS and word not in words.UNITS:
            found.append(str(_OTHERS[word]))
            at += 1
        elif (word in words.SCALES or word == "hundred") and found and found[-1][0].isdigit():
            found[-1] = digits(f"{Decimal(found[-1]) * words.SCALES.get(word, 100):f}")
            at += 1
        else:
            value, at = words.counted(text, at)
            found.append(str(value))
    return found


def han(text: str) -> str:
    """Chinese numerals in figures: `二十五` as `25`."""
    return _HAN_NUMBER.sub(lambda match: str(words.chinese(match.group())), text)
