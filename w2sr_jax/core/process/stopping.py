"""Signals that ask the process to stop: SIGTERM from a scheduler, SIGINT from the keyboard, SIGHUP from a terminal that is closed
(unless `nohup` has it ignored).

Work that can save its state polls `Stop.requested` inside `Stop.deferred()`; anything else ends at once. A process that got a
signal ends within `Stop.grace` seconds in any case, also where it hangs in compiled code; only work that has polled after Ctrl-C
may take `SAVING` seconds to save its state. A second Ctrl-C ends it at once.
"""

import atexit
import contextlib
import os
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

GRACE = 9.0  # seconds, unless the user says otherwise: the shortest notice of those that are common is 10
TOLD = 1.0  # seconds in which others must have been told of a late end
SAVING = 60.0  # after Ctrl-C, for work that has polled: the user may press it again; after SIGTERM comes SIGKILL
AT_ONCE = 0.5  # after a second Ctrl-C, for the way out
AGAIN = 0.05  # seconds after which a signal is sent again whose exception got lost
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def until_exit() -> None:
    """Let the signals, outside `Stop.installed()`, end the process at once, silently and with their exit code, also while the
    interpreter shuts down. Call it before anything registers exit handlers."""

    def end(number: int, _: FrameType | None) -> None:
        leave(128 + number)

    def last() -> None:
        for number in _heeded():
            signal.signal(number, signal.SIG_IGN)

    for number in _heeded():
        signal.signal(number, end)
    atexit.register(last)


def leave(code: int, words: str = "") -> NoReturn:
    """End the process now, from any thread: nothing is cleaned up and no exit handler runs. Printed text is flushed, and `words`
    are written to the standard error, unless that would block."""
    flushing = threading.Thread(target=_flush, daemon=True)
    with contextlib.suppress(RuntimeError):  # a process at its limit starts no thread
        flushing.start()
        flushing.join(0.5)
    if words:
        with contextlib.suppress(OSError):
            poll = select.poll()
            poll.register(2, select.POLLOUT)
            if poll.poll(0):
                os.write(2, f"w2sr: {words}\n".encode(errors="backslashreplace"))
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the signal may have come amid a flush
            stream.flush()


def reinstall() -> None:
    """Install Python's signal handlers again after compiled code has set its own, as `jax.distributed.initialize` does for
    SIGTERM. Does nothing outside the main thread, and for signals without a handler of Python's."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if callable(handler):
                signal.signal(number, handler)


class Terminated(SystemExit):
    """A signal other than that of Ctrl-C arrived outside of `Stop.deferred()`. A `SystemExit`, since event loops (Orbax restores
    in one) keep every other exception that a handler raises between two of their tasks, and go on."""


class Stop:
    """Whether this process was asked to stop. Without `installed()`, it never is."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.grace = GRACE
        """Seconds from a signal to the end of the process, as they are when it comes."""
        self._late: Callable[[str, int], None] | None = None
        self._deferred = 0
        self._seen = False
        self._checks: list[Callable[[], None]] = []

    def requested(self) -> bool:
        """Whether the process was asked to stop; raises what `check` raises."""
        self.check()
        self._seen = self._seen or self.signal is not None
        return self.signal is not None

    def check(self) -> None:
        """Call the checks that are `watching`."""
        for check in self._checks:
            check()

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
    def watching(self, check: Callable[[], None]) -> Iterator[None]:
        """Inside, work that polls also calls `check`, which raises where going on makes no sense (the directory was removed)."""
        self._checks.append(check)
        try:
            yield
        finally:
            self._checks.remove(check)

    def on_late(self, tell: Callable[[str, int], None]) -> None:
        """Call `tell` from another thread, with why and the exit code, before the process ends amid work that did not end in
        time."""
        self._late = tell

    @contextlib.contextmanager
    def installed(self, grace: float | None = None, saving: float = SAVING) -> Iterator["Stop"]:
        """Handle the signals while inside; only in the main thread."""
        self.grace = self.grace if grace is None else grace
        # Python runs handlers between bytecodes, never inside compiled code; the wake-up pipe is written to at once.
        read, write = os.pipe()
        os.set_blocking(write, False)
        before: dict[int, Any] = {number: signal.signal(number, self._handle) for number in _heeded()}
        wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._watch, args=(read, saving), daemon=True, name="deadline").start()
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
        """The hook for exceptions that the interpreter ignores: where a handler raised in a finalizer, the signal is sent
        again."""

        def hook(unraisable: Any) -> None:
            if self.signal is not None and isinstance(unraisable.exc_value, Terminated | KeyboardInterrupt):
                threading.Timer(AGAIN, os.kill, (os.getpid(), self.signal)).start()
            else:
                otherwise(unraisable)

        return hook

    def _handle(self, number: int, _: FrameType | None) -> None:
        again, self.signal = self.signal is not None, number
        if number == signal.SIGHUP:
            _forget_terminal()
        if number == signal.SIGINT and (again or not self._deferred):
            raise KeyboardInterrupt
        if not self._deferred:
            raise Terminated

    def _watch(self, read: int, saving: float) -> None:
        """Ends the process that does not end by itself. Its own thread: the main one may never come back."""
        poll = select.poll()
        poll.register(read, select.POLLIN)
        first, end, patient = 0, 0.0, True
        while True:
            if not poll.poll(max(0.0, end - time.monotonic()) * 1000 if first else None):
                if not (first == signal.SIGINT and patient and self._seen):
                    self._leave_late(128 + first, _LATE if patient else "")
                patient, end = False, end - self.grace + saving
                continue
            arrived = os.read(read, 1)
            if not arrived:
                os.close(read)
                return
            number, now = arrived[0], time.monotonic()
            if number not in SIGNALS:
                continue
            if not first:
                first, end = number, now + self.grace
            elif number == signal.SIGINT:
                end, patient = min(end, now + AT_ONCE), False
                first = number if first == signal.SIGINT else first
            else:
                first, end = number, min(end, now + self.grace)

    def _leave_late(self, code: int, words: str) -> None:
        if self._late is not None:
            telling = threading.Thread(target=self._late, args=(words or _LATE, code), daemon=True)
            with contextlib.suppress(RuntimeError):
                telling.start()
                telling.join(TOLD)
        leave(code, words)


_LATE = "ended by a signal amid work that cannot be interrupted; what was not saved in time is done again by the same command"


def _heeded() -> list[signal.Signals]:
    """The signals to handle: SIGHUP is left alone where whoever started this process has it ignored."""
    return [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


def _forget_terminal() -> None:
    """Send further output to the null device: writing to a terminal that is gone would raise in the work that saves itself."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for handle in (1, 2):
            if stat.S_ISCHR(os.fstat(handle).st_mode):
                os.dup2(nowhere, handle)
        os.close(nowhere)
