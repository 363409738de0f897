"""Decisions that all processes must take alike, or one would wait for ever for the others."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils


def any_process(flag: bool) -> bool:
    """Whether any process says so; the same answer on all, which must all ask. One process alone: no cost."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


class StopRequest:
    """Whether a training is asked to stop, which several processes must see at the same step: they ask together, before every
    `every`-th step from step `start` + 1 on."""

    def __init__(self, stop: Callable[[], bool] | None, start: int, every: int) -> None:
        self._stop, self._start, self._every = stop, start, every
        self._alone = jax.process_count() == 1

    def before(self, number: int) -> bool:
        """Whether to stop before step `number` (from 1)."""
        if self._stop is None:
            return False
        if self._alone:
            return self._stop()
        return (number - 1 - self._start) % self._every == 0 and any_process(self._stop())

    def waiting(self) -> bool:
        """Whether to stop waiting for a batch; of several processes none may do so alone."""
        return self._alone and self._stop is not None and self._stop()
