"""How a source's batches come to the steps: read ahead in a thread of their own, or asked for between two steps."""

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from w2sr_jax.core.errors import Stopped
from w2sr_jax.training.agreement import StopRequest
from w2sr_jax.training.protocols import Source
from w2sr_jax.training.state import TrainState

T = TypeVar("T")
_POLL = 0.1  # seconds


class Stalled(Exception):
    """No batch came in time."""


class Supply:
    """Gives each of the steps `numbers` (from 1) its batch, until `request` asks to stop.

    Of a source that is read ahead, `Stalled` is raised after `stall` seconds without a batch, as `Feed` does. A source that needs
    the state takes the time that it needs: what it waits for (an engine, a grader) has limits of its own. If it takes longer than
    `stall` seconds, `on_slow` is told, once.
    """

    def __init__(
        self, source: Source, numbers: range, request: StopRequest, stall: float, on_slow: Callable[[str], None]
    ) -> None:
        self._source, self._request, self._stall, self._on_slow = source, request, stall, on_slow
        self._feed: Feed[Any] | None = None
        if not source.needs_state:
            self._feed = Feed(lambda number: source.batch_at(number - 1, None), numbers, stall, on_slow)

    def __enter__(self) -> "Supply":
        return self

    def __exit__(self, *_: object) -> None:
        if self._feed is not None:
            self._feed.__exit__()

    def next(self, number: int, state: TrainState) -> Any | None:
        """What step `number` reads, given the state before it; None where the training is to stop instead."""
        if self._request.before(number):
            return None
        if self._feed is not None:
            return self._feed.get(number, self._request.waiting)
        late = threading.Timer(self._stall, self._tell, (number,))
        late.daemon = True
        if self._stall:
            late.start()
        try:
            return self._source.batch_at(number - 1, state)
        except Stopped:
            return None
        finally:
            late.cancel()

    def _tell(self, number: int) -> None:
        self._on_slow(f"step {number} has waited {self._stall:g} s for its batch, which is drawn from the student as it is")
        self._stall = 0.0


class Feed(Generic[T]):
    """`source(number)` for each of `numbers`, in order, at most `ahead` of them read before they are asked for.

    An error of the source is raised where its batch would have come. After `stall` seconds without a batch `Stalled` is raised,
    and `on_slow` is told at half of it; 0: no limit.
    """

    def __init__(
        self, source: Callable[[int], T], numbers: range, stall: float, on_slow: Callable[[str], None], ahead: int = 2
    ) -> None:
        self._source, self._numbers, self._stall, self._on_slow = source, numbers, stall, on_slow
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(maxsize=ahead)
        self._closed = threading.Event()
        # A daemon, since a source that is stuck cannot be ended.
        self._thread = threading.Thread(target=self._read, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Feed[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join(timeout=10 * _POLL)

    def get(self, number: int, give_up: Callable[[], bool] = lambda: False) -> T | None:
        """The next batch, that of step `number`; None where `give_up` turned true while waiting."""
        started, warned = time.monotonic(), False
        while True:
            try:
                batch, error = self._ready.get(timeout=_POLL)
            except queue.Empty:
                waited = time.monotonic() - started
                if give_up():
                    return None
                if self._stall and waited >= self._stall:
                    raise Stalled(f"no batch of step {number} came within {self._stall:g} s") from None
                if self._stall and not warned and waited >= self._stall / 2:
                    warned = True
                    self._on_slow(
                        f"step {number} has waited {waited:.0f} s for its batch, and is given up after {self._stall:g} s"
                    )
                continue
            if error is not None:
                raise error
            return batch

    def _read(self) -> None:
        for number in self._numbers:
            try:
                batch, failure = self._source(number), None
            except BaseException as error:  # raised in the thread that asks
                batch, failure = None, error
            while not self._closed.is_set():
                try:
                    self._ready.put((batch, failure), timeout=_POLL)
                    break
                except queue.Full:
                    continue
            if self._closed.is_set() or failure is not None:
                return
