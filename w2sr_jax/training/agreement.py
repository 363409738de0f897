"""Decisions that all processes must take alike, or one would wait for ever for the others."""

import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

APART = 2.0
"""Seconds between two questions: of the notice that a platform gives before it kills, no more is lost."""


def any_process(flag: bool) -> bool:
    """Whether any process says so; the same answer on all, which must all ask. One process alone: no cost."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


class StopRequest:
    """Whether a training is asked to stop, which several processes must see at the same step: they ask together, before every
    `every`-th step from step `start` + 1 on, and about every `APART` seconds by process 0's clock where these take longer."""

    def __init__(
        self, stop: Callable[[], bool] | None, start: int, every: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stop, self._start, self._every, self._clock = stop, start, every, clock
        self._alone = jax.process_count() == 1
        self._due, self._last = 0, (0, 0.0)

    def before(self, number: int) -> bool:
        """Whether to stop before step `number` (from 1)."""
        if self._stop is None:
            return False
        if self._alone:
            return self._stop()
        if number < self._due and (number - 1 - self._start) % self._every:
            return False
        flags, steps = multihost_utils.process_allgather((np.asarray(self._stop()), np.asarray(self._steps(number), np.int32)))
        self._due = number + int(steps[0])
        return bool(np.any(flags))

    def waiting(self) -> bool:
        """Whether to stop waiting for a batch; of several processes none may do so alone."""
        return self._alone and self._stop is not None and self._stop()

    def _steps(self, number: int) -> int:
        """How many steps fit between two questions, from those since the last one. Asking waits for all of them to be done."""
        now, (before, then) = self._clock(), self._last
        self._last = number, now
        if not before or number == before:
            return 1
        return max(1, min(self._every, int(APART * (number - before) / max(now - then, 1e-6))))
