"""What a process does when it is asked to stop: SIGTERM from whoever takes the machine, SIGINT from the keyboard.

Work that can save itself polls `Stop.requested` inside `Stop.deferred()`; anything else ends at once. Whatever happens, a process
that got SIGTERM is gone within `GRACE` seconds, also where it hangs in compiled code.
"""

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

GRACE = 9.0
AGAIN = 0.05  # seconds after which a signal is sent again whose exception got lost


def until_exit() -> None:
    """From now on, outside `Stop.installed()`, SIGTERM and SIGINT end the process at once, without a word and with the exit code
    that says so, also while the interpreter shuts down. Call it before whatever registers work for that."""

    def end(number: int, _: FrameType | None) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the signal may have come amid a flush
                stream.flush()
        os._exit(128 + number)

    def last() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    atexit.register(last)


class Terminated(BaseException):
    """SIGTERM arrived while nothing could be saved."""


class Stop:
    """Whether this process was asked to stop. Without `installed()`, it never is."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._deferred = 0

    def requested(self) -> bool:
        return self.signal is not None

    @property
    def code(self) -> int:
        """The exit code that says which signal it was."""
        return 128 + (self.signal or signal.SIGTERM)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[Callable[[], bool]]:
        """Inside, a signal is noted and not acted upon (a second SIGINT is); yields what to poll."""
        self._deferred += 1
        try:
            yield self.requested
        finally:
            self._deferred -= 1

    @contextlib.contextmanager
    def installed(self, grace: float = GRACE) -> Iterator["Stop"]:
        """Handle both signals while inside; only in the main thread."""
        # The interpreter runs handlers between bytecodes, so a process deep in compiled code never sees its signal. The wake-up
        # pipe is written to at once.
        read, write = os.pipe()
        os.set_blocking(write, False)
        before: dict[int, Any] = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=_deadline, args=(read, grace), daemon=True, name="deadline").start()
        ignored = sys.unraisablehook
        sys.unraisablehook = hook = self._hook(ignored)
        try:
            yield self
        finally:
            if sys.unraisablehook is hook:
                sys.unraisablehook = ignored
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(write)

    def _hook(self, otherwise: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """What to do with exceptions that the interpreter ignores: one of ours, raised in a finalizer, is raised again."""

        def hook(unraisable: Any) -> None:
            if self.signal is not None and isinstance(unraisable.exc_value, Terminated | KeyboardInterrupt):
                threading.Timer(AGAIN, os.kill, (os.getpid(), self.signal)).start()
            else:
                otherwise(unraisable)

        return hook

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if number == signal.SIGINT and (again or not self._deferred):
            raise KeyboardInterrupt
        if not self._deferred:
            raise Terminated


def _deadline(read: int, grace: float) -> None:
    while True:
        arrived = os.read(read, 1)
        if not arrived:
            os.close(read)
            return
        if arrived[0] == signal.SIGTERM:
            time.sleep(grace)
            print("w2sr: terminated; what was not saved in time is done again by the same command", file=sys.stderr, flush=True)
            os._exit(128 + signal.SIGTERM)
