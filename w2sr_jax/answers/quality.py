"""Flags of a reasoning text that need no answer."""

from collections import Counter

SIZE = 6  # words; of the sequences of 6, 8 or 10 asked for, a longer one repeats its first six words as often
REPEATS = 4
TAIL = 200  # words
LONG = 200  # words
FEW_DISTINCT = 0.30


def loops(text: str) -> bool:
    """Whether the text runs in circles: 6, 8 or 10 words in a row come four times within its last 200 words, or fewer than 30 %
    of its words differ where it has more than 200."""
    words = text.split()
    if len(words) > LONG and len(set(words)) / len(words) < FEW_DISTINCT:
        return True
    tail = words[-TAIL:]
    grams = Counter(zip(*(tail[start:] for start in range(SIZE))))
    return max(grams.values(), default=0) >= REPEATS
