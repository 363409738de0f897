"""Scores of one problem from several sampled answers: avg@k, pass@k and maj@k, exact over all choices of k of them."""

import functools
import math

import numpy as np

from w2sr_jax.core.errors import UserError


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k samples drawn without replacement is right: 1 − C(n−c, k)/C(n, k)."""
    if not 1 <= k <= samples:
        raise UserError(f"pass@{k} needs at least {k} samples per problem; there are {samples}")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def avg_at_k(samples: int, correct: int) -> float:
    """Share of right samples."""
    return correct / samples


@functools.lru_cache(maxsize=65536)
def maj_at_k(correct: int, wrong: tuple[int, ...], abstained: int, k: int) -> float:
    """Exact chance that the majority answer of k samples drawn without replacement is right, ties broken at random.

    `correct` samples agree on the right answer, `wrong` holds how many samples agree on each wrong one (sorted, for the
    cache), `abstained` gave no answer and do not vote; where nobody votes the majority is wrong.
    """
    n = correct + sum(wrong) + abstained
    if not 1 <= k <= n:
        raise UserError(f"maj@{k} needs at least {k} samples per problem; there are {n}")
    won = sum(_ways_to_win(v, wrong, abstained, k - v) * math.comb(correct, v) for v in range(1, min(correct, k) + 1))
    return won / math.comb(n, k)


def _ways_to_win(votes: int, wrong: tuple[int, ...], abstained: int, others: int) -> float:
    """Choices of `others` samples in which no wrong answer has more than `votes`; t ties count 1/(t+1)."""
    ways = np.zeros((others + 1, others // votes + 1))  # [samples chosen, wrong answers level with the right one]
    for i in range(min(abstained, others) + 1):
        ways[i, 0] = math.comb(abstained, i)
    for size in wrong:
        spread = ways.copy()
        for i in range(1, min(size, votes - 1, others) + 1):
            spread[i:] += math.comb(size, i) * ways[:-i]
        if votes <= min(size, others):
            spread[votes:, 1:] += math.comb(size, votes) * ways[:-votes, :-1]
        ways = spread
    return float((ways[others] / np.arange(1, ways.shape[1] + 1)).sum())
