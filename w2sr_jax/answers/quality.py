"""Faults of a reasoning text that show without its answer."""

from collections import Counter

SIZE = 6  # words; a sequence of 8 or 10 repeats its first 6 as often
REPEATS = 4
TAIL = 200  # words
LONG = 200  # words
FEW_DISTINCT = 0.30


def loops(text: str) -> bool:
    """Whether a text runs in circles: the same 6 (and so any 8 or 10) words in a row occur four times within its last 200 words,
    or a text of more than 200 words has fewer than 30 % distinct ones."""
    words = text.split()
    if len(words) > LONG and len(set(words)) / len(words) < FEW_DISTINCT:
        return True
    tail = words[-TAIL:]
    grams = Counter(zip(*(tail[start:] for start in range(SIZE))))
    return max(grams.values(), default=0) >= REPEATS
