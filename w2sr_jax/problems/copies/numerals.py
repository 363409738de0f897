"""Numbers as questions write them: with thousands separators, with decimal points or commas, and in words."""

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
"""Number words of several languages, without accents."""

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
    """The text with plain numbers, once for each way to read its commas and points: first as English thousands separators, then
    as commas of a list and, in languages that write so, as decimal commas and points between thousands."""
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
    """One spelling of a number, without needless zeros: `1200.00` is `1200`, `.5` is `0.5`."""
    if "." in word:
        word = word.rstrip("0").rstrip(".") or "0"
    return f"0{word}" if word.startswith(".") else word


def in_figures(text: Sequence[str]) -> list[str]:
    """The words with figures for number words: `one hundred and twenty five` as `125`, `5 million` as `5000000`."""
    figures: list[str] = []
    position = 0
    while position < len(text):
        word = text[position]
        if word not in WORDS:
            figures.append(word)
            position += 1
        elif word in _OTHERS and word not in words.UNITS:
            figures.append(str(_OTHERS[word]))
            position += 1
        elif (word in words.SCALES or word == "hundred") and figures and figures[-1][0].isdigit():
            figures[-1] = digits(f"{Decimal(figures[-1]) * words.SCALES.get(word, 100):f}")
            position += 1
        else:
            value, position = words.counted(text, position)
            figures.append(str(value))
    return figures


def han(text: str) -> str:
    """The text with figures for Chinese numerals: `二十五` as `25`."""
    return _HAN_NUMBER.sub(lambda match: str(words.chinese(match.group())), text)
