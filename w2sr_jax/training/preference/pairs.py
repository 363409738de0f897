"""Pairs of examples as packed rows: the two sides of a pair lie side by side in one row, the chosen before the rejected one."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from w2sr_jax.batches.batch import Batch
from w2sr_jax.batches.encode import Encoded, each
from w2sr_jax.batches.packing import TOGETHER, Packed, positions, release
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Pair
from w2sr_jax.text.render import Renderer

PAIR_OVER_LENGTH = "pair_over_length"
"""Why a pair is left out of which each side alone would fit into a row."""
SIDES = 2

_APART = "the tables of an arm's pairs and of their examples do not belong together; curate anew"
_MANY = 512  # pairs that are encoded together


class Sides(NamedTuple):
    """The examples of a pair."""

    chosen: Example
    rejected: Example


def joined(pairs: Iterable[Pair], chosen: Iterable[Example], rejected: Iterable[Example]) -> Iterator[Sides]:
    """The examples of each pair, from the tables that curation wrote: all three hold the problems in one order. `UserError` where
    they do not belong together."""
    by_problem = attrgetter("problem_id")
    some = itertools.groupby(pairs, by_problem)
    sides = zip(itertools.groupby(chosen, by_problem), itertools.groupby(rejected, by_problem), strict=True)
    try:
        for (problem, of_problem), ((one, own), (other, others)) in zip(some, sides, strict=True):
            if len({problem, one, other}) != 1:
                raise UserError(_APART)
            by_id = {example.id: example for example in (*own, *others)}
            for pair in of_problem:
                if pair.chosen not in by_id or pair.rejected not in by_id:
                    raise UserError(_APART)
                yield Sides(by_id[pair.chosen], by_id[pair.rejected])
    except ValueError:  # of zip: they do not have as many problems
        raise UserError(_APART) from None


def encoded_pairs(pairs: Iterable[Sides], renderer: Renderer, length: int, left_out: Counter[str]) -> Iterator[Encoded]:
    """The chosen and the rejected example of each pair, one after the other; pairs that do not fit into a row of `length`
    positions are left out and counted in `left_out`, and so are those of which a side is (see `batches.encode.encoded`). A pair
    has the weight of its chosen example. Raises as `encoded` does."""
    every = iter(pairs)
    while some := list(itertools.islice(every, _MANY)):
        flat = [side for pair in some for side in (pair.chosen, dataclasses.replace(pair.rejected, weight=pair.chosen.weight))]
        sides = list(each(flat, renderer, length))
        for chosen, rejected in zip(sides[0::2], sides[1::2], strict=True):
            if isinstance(chosen, str) or isinstance(rejected, str):
                left_out[chosen if isinstance(chosen, str) else str(rejected)] += 1
            elif positions(chosen) + positions(rejected) > length:
                left_out[PAIR_OVER_LENGTH] += 1
            else:
                yield from (chosen, rejected)


def most_sequences(packed: Packed) -> int:
    """The most sequences of a row."""
    return int(packed.segments.max())


def weights(batch: Batch, count: int) -> Float[np.ndarray, "R S"]:
    """The weight of each of up to `count` sequences of the rows: that of its supervised tokens, which are all alike."""
    own = [np.max(np.where(batch.segments == number, batch.weight, 0), axis=1) for number in range(1, count + 1)]
    return np.stack(own, axis=1).astype(np.float32)


class Counts(NamedTuple):
    """How many pairs there are, and how many of them have a weight and a supervised token on each side."""

    pairs: int
    learned: int


def counted(packed: Packed) -> Counts:
    """Looked at some rows at a time."""
    count, pairs, learned = most_sequences(packed), 0, 0
    for start in range(0, len(packed.segments), TOGETHER):
        part = slice(start, start + TOGETHER)
        segments, weighted = packed.segments[part], packed.weight[part] > 0
        sides = [np.any((segments == number) & weighted, axis=1) for number in range(1, count + 1)]
        learned += sum(int(np.count_nonzero(a & b)) for a, b in zip(sides[0::2], sides[1::2], strict=True))
        pairs += int(segments.max(axis=1).sum()) // SIDES
        release(packed)
    return Counts(pairs, learned)
