"""How alike texts are, by their words: distinct-n and the Jaccard index of n-grams.

Words are what spaces separate, in lower case. A text of fewer than n words counts as one n-gram, so that two short texts are
alike where they are equal.
"""

import itertools
import math
from collections.abc import Sequence, Set

import numpy as np
from numpy.typing import NDArray

SIZE = 3  # words of the n-grams that are compared
PAIRS = 16  # compared of one problem, at most
LONGEST = 4000  # words of a text that are looked at

Ids = NDArray[np.int64]


class Words:
    """Numbers for words, from 1, in the order in which they are met; 0 stands for no word."""

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}

    def read(self, text: str) -> Ids:
        ids = self._ids
        words = text.lower().split()[:LONGEST]
        return np.fromiter((ids.setdefault(word, len(ids) + 1) for word in words), np.int64, len(words))


def grams(words: Ids, n: int) -> Ids:
    """One number per n-gram of a text (n ≤ 3), equal for equal n-grams: the ids of its words as digits of base 2²¹."""
    if len(words) < n:
        words = np.concatenate([words, np.zeros(n - len(words), np.int64)])
    ids = words[: len(words) - n + 1]
    for start in range(1, n):
        ids = (ids << 21) + words[start : len(words) - n + 1 + start]
    return ids


def distinct(texts: Sequence[Ids], n: int) -> float | None:
    """Distinct n-grams / n-grams over all texts; None without any. It falls as texts grow in number and length."""
    every = np.concatenate([grams(words, n) for words in texts]) if texts else np.empty(0, np.int64)
    return len(np.unique(every)) / len(every) if len(every) else None


def jaccard(left: Set[int], right: Set[int]) -> float:
    """Shared n-grams / n-grams of either."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def pairs(left: int, right: int) -> list[tuple[int, int]]:
    """At most `PAIRS` pairs of one of `left` and one of `right` texts, every text used about as often as any other."""
    turn = math.lcm(left, right)  # after which both begin again
    return [(i % left, (i + i // turn) % right) for i in range(min(PAIRS, left * right))]


def own_pairs(count: int) -> list[tuple[int, int]]:
    """At most `PAIRS` pairs of two of `count` texts."""
    every = ((i, i + step) for step in range(1, count) for i in range(count - step))
    return list(itertools.islice(every, PAIRS))
