"""In which packed rows of a training an example lies: looked up by its content, without encoding the other examples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from w2sr_jax.batches.encode import Encoded
from w2sr_jax.batches.packing import TOGETHER, Packed, plan, positions, release


class Spot(NamedTuple):
    """A row, the example's number in it (from 1) of `of`, and its first position there."""

    row: int
    number: int
    of: int
    start: int


def find(packed: Packed, example: Encoded) -> list[Spot]:
    """All spots whose tokens, spans, verdict, weights and log-probabilities are those of the example, by row and start."""
    spots = []
    for first in range(0, len(packed.tokens), TOGETHER):
        part = slice(first, first + TOGETHER)
        segments = packed.segments[part]
        for row, start in np.argwhere(_candidates(segments, packed.tokens[part], packed.target[part], example)).tolist():
            if _same(packed, first + row, start, example):
                spots.append(Spot(first + row, int(segments[row, start]), int(segments[row].max()), start))
        release(packed)
    return spots


def in_order(packed: Packed, spots: Sequence[Spot], share: bool) -> list[Spot]:
    """Spots of examples of one length in the order of these examples; `share` is how they were packed."""
    if not share:
        return sorted(spots)
    lengths = [np.bincount(row)[1:] for row in packed.segments]
    release(packed)
    every = np.concatenate(lengths)
    # Packing again, with the lengths alone, longest first as it goes: an example's rank among them is its number here.
    rows = plan((-np.sort(-every)).tolist(), packed.segments.shape[1])
    return sorted(spots, key=lambda spot: rows[spot.row][spot.number - 1])


def same(one: Encoded, other: Encoded) -> bool:
    """Whether two examples cannot be told apart once they are packed."""
    return (
        one.verdict == other.verdict
        and np.float32(one.weight) == np.float32(other.weight)
        and all(np.array_equal(a, b) for a, b in ((one.tokens, other.tokens), (one.span[1:], other.span[1:])))
        and np.array_equal(one.supervised[1:], other.supervised[1:])
        and np.array_equal(one.teacher_logprob[1:], other.teacher_logprob[1:], equal_nan=True)
    )


def _candidates(
    segments: Int[np.ndarray, "R L"], tokens: Int[np.ndarray, "R L"], target: Int[np.ndarray, "R L"], example: Encoded
) -> Bool[np.ndarray, "R L"]:
    """Where an example of the same length begins that has the same last token, and the same one in the middle."""
    length, size = positions(example), segments.shape[1]
    padded = np.pad(segments, ((0, 0), (1, 1)))
    begins = (padded[:, 1:-1] > 0) & (padded[:, 1:-1] != padded[:, :-2])
    ends = (padded[:, 1:-1] > 0) & (padded[:, 1:-1] != padded[:, 2:])
    starts = np.zeros(segments.shape, bool)
    last = size - length + 1
    starts[:, :last] = begins[:, :last] & ends[:, length - 1 :] & (segments[:, :last] == segments[:, length - 1 :])
    starts[:, :last] &= target[:, length - 1 :] == example.tokens[-1]
    middle = length // 2
    starts[:, :last] &= tokens[:, middle : middle + last] == example.tokens[middle]
    return starts


def _same(packed: Packed, row: int, start: int, example: Encoded) -> bool:
    at = slice(start, start + positions(example))
    weight = np.where(example.supervised[1:], np.float32(example.weight), np.float32(0))
    return bool(
        np.array_equal(packed.tokens[row, at], example.tokens[:-1])
        and np.array_equal(packed.target[row, at], example.tokens[1:])
        and np.array_equal(packed.span[row, at], example.span[1:])
        and (packed.verdict[row, at] == example.verdict).all()
        and np.array_equal(packed.weight[row, at], weight)
        and np.array_equal(packed.teacher_logprob[row, at], example.teacher_logprob[1:], equal_nan=True)
    )
