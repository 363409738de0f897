"""Flags that need no answer: loops, and what makes two traces or two answers the same."""

from collections import Counter

from w2sr_jax.answers.numbers import number

_SIZE = 6  # a repeated longer sequence repeats its first six words as often
_REPEATS = 4
_TAIL = 200
_LONG = 200
_FEW_DISTINCT = 0.30


def loops(text: str) -> bool:
    """Some sequence of 6 words or more four times within the last 200 words, or over 200 words with under 30 % distinct."""
    words = text.lower().split()
    if len(words) > _LONG and len(set(words)) < _FEW_DISTINCT * len(words):
        return True
    tail = words[-_TAIL:]
    grams = Counter(zip(*(tail[start:] for start in range(_SIZE))))
    return bool(grams) and max(grams.values()) >= _REPEATS


def text_key(text: str) -> str:
    """Equal for texts that differ in case and whitespace alone."""
    return " ".join(text.lower().split())


def answer_key(answer: str) -> str:
    """Equal for answers that are the same exact number (`24`, `24.0`, `$24`), else for the same text."""
    if len(answer) < 100 and answer.isascii() and answer.isdigit():
        return str(int(answer))
    value = number(answer)
    return text_key(answer) if value is None else f"{value.value}{'%' if value.percent else ''}"
