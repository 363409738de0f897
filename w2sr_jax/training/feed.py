"""Batches made ahead of the step in a thread of their own, so that a slow or stuck source of data is noticed."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
_POLL = 0.1  # seconds


class Stalled(Exception):
    """No batch came in time."""


class Feed(Generic[T]):
    """`source(number)` for each of `numbers`, in order, at most `ahead` of them made before they are asked for.

    An error of the source is raised where its batch would have come. After `stall` seconds without a batch `Stalled` is raised,
    and `on_slow` is told at half of it; 0: no limit.
    """

    def __init__(
        self, source: Callable[[int], T], numbers: range, stall: float, on_slow: Callable[[str], None], ahead: int = 2
    ) -> None:
        self._source, self._numbers, self._stall, self._on_slow = source, numbers, stall, on_slow
        self._made: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        # A daemon, since a source that is stuck cannot be ended.
        self._thread = threading.Thread(target=self._make, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Feed[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(timeout=10 * _POLL)

    def get(self, number: int, give_up: Callable[[], bool] = lambda: False) -> T | None:
        """The next batch, that of step `number`; None where `give_up` turned true while waiting."""
        started, told = time.monotonic(), False
        while True:
            try:
                batch, error = self._made.get(timeout=_POLL)
            except queue.Empty:
                waited = time.monotonic() - started
                if give_up():
                    return None
                if self._stall and waited >= self._stall:
                    raise Stalled(f"no batch of step {number} came within {self._stall:g} s") from None
                if self._stall and not told and waited >= self._stall / 2:
                    told = True
                    self._on_slow(
                        f"step {number} has waited {waited:.0f} s for its batch, and is given up after {self._stall:g} s"
                    )
                continue
            if error is not None:
                raise error
            return batch

    def _make(self) -> None:
        for number in self._numbers:
            try:
                made: tuple[T | None, BaseException | None] = (self._source(number), None)
            except BaseException as error:  # raised in the thread that asks
                made = (None, error)
            while not self._closed.is_set():
                try:
                    self._made.put(made, timeout=_POLL)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or made[1] is not None:
                return
