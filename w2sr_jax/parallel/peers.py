"""The other processes while all are at work: who fails says so to all, who is killed or stopped is missed, and nobody waits for
those who will not come.

Compiled collectives wait for ever for a process that is gone, and jax's own service aborts after minutes without a word to the
user. So every process keeps a line (see `rendezvous`) with process 0, over which each says every second that it lives; a thread
of its own watches it and ends the process where another one has failed. Over the same lines processes wait for each other by
name.
"""

import _thread
import contextlib
import ctypes
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.process import stopping
from w2sr_jax.parallel.lines import Line, Message
from w2sr_jax.parallel.rendezvous import differing

BEAT = 1.0  # seconds between signs of life
SILENT = 20.0  # seconds without one after which a process counts as lost
WAY_OUT = 1.0, 2.0  # seconds for a process to leave by itself when another one is lost, and once it is told to
LOST = 75  # exit code where another process is gone without a word; the same command may work another time
PATIENCE = 3600.0  # seconds in which all must come to where they wait for each other


class Lost(Exception):
    """Another process has failed or is gone. `code` is the exit code for it."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class Peers:
    """This process among `count`. `lines` are those of `rendezvous.gather`. `start()` begins to watch."""

    def __init__(self, index: int, count: int, lines: Mapping[int, Line]) -> None:
        self.index, self.count = index, count
        self.lost: Lost | None = None
        self._lines = dict(lines)
        self._gone: set[int] = set()  # those that have finished
        self._state = threading.Condition()
        self._waiting: dict[int, Message] = {}  # at process 0: where each process waits
        self._passed: dict[str, Mapping[str, str]] = {}
        self._calls = 0
        self._leaving = False
        self._saying, self._said = threading.Lock(), False

    def start(self, on_lost: Callable[[Lost], None] | None = None) -> None:
        """Watch the others in a thread; `on_lost` (default: end this process) is called in it once one is lost."""
        self._on_lost = on_lost or self._end
        threading.Thread(target=self._watch, daemon=True, name="peers").start()

    def barrier(self, where: str, told: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Mapping[str, str]:
        """Returns when all processes have called it with the same words and told the same by the same names; what process 0
        told. Names that begin with `*` are process 0's alone. `Lost` where that can not be any more."""
        with self._state:
            self._calls += 1
            name = f"{self._calls} {where}"
        self._at({"at": name, "told": dict(told or {})})
        end = time.monotonic() + patience
        with self._state:
            while name not in self._passed and self.lost is None:
                self._state.wait(0.2)  # a signal is handled between waits
                if self.index and 0 in self._gone and name not in self._passed and self.lost is None:
                    self.lost = Lost(f"process 0 of {self.count} has finished while this one waits for it; start all alike", 2)
                if time.monotonic() > end:
                    missing = [str(i) for i in range(self.count) if i not in self._waiting] if self.index == 0 else []
                    who = f"process {', '.join(missing)} of {self.count}" if missing else "the other processes"
                    self.lost = Lost(f"{who} did not come to {where!r} within {patience:,.0f} s", LOST)
            if name in self._passed:
                return self._passed.pop(name)
            assert self.lost is not None
            lost = self.lost
        self.fail(str(lost), lost.code)
        raise lost

    def fail(self, words: str, code: int) -> None:
        """Tell the others why this process ends; they end with the same code. What comes after it is not watched any more."""
        self._leaving = True
        for line in self._lines.values():
            line.send({"failed": words, "code": code})

    def finish(self) -> None:
        """Say that this process has done all that was to be done together."""
        self._leaving = True
        for line in self._lines.values():
            line.send({"bye": True})

    def cause(self, seconds: float) -> Lost | None:
        """Whether another process is lost, as far as is known within some seconds."""
        end = time.monotonic() + seconds
        with self._state:
            while self.lost is None and time.monotonic() < end:
                self._state.wait(0.1)
            return self.lost

    def _at(self, message: Message) -> None:
        if self.index == 0:
            self._arrived(0, message)
        else:
            self._lines[0].send(message)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for index, line in self._lines.items():
                selector.register(line.fileno(), selectors.EVENT_READ, index)
            for index, line in self._lines.items():
                for message in (line.receive() if line.unread else None) or ():
                    self._take(index, message)
            beat = 0.0
            while self._lines.keys() - self._gone:
                for key, _ in selector.select(BEAT / 4):
                    messages = self._lines[key.data].receive()
                    for message in messages or ():
                        self._take(key.data, message)
                    if messages is None:
                        selector.unregister(key.fileobj)
                        self._miss(key.data, "is gone without a word (killed, or its machine is)")
                        self._gone.add(key.data)
                now = time.monotonic()
                for index in self._lines.keys() - self._gone:
                    # Read before it is judged: after a time in which this process was stopped, all is in the buffers.
                    if now - self._lines[index].heard > SILENT:
                        self._miss(
                            index, f"has not been heard of for {SILENT:.0f} s (stopped, or its machine or network is gone)"
                        )
                        self._gone.add(index)
                if now - beat >= BEAT:
                    beat = now
                    for index in self._lines.keys() - self._gone:
                        self._lines[index].send({"beat": True})

    def _take(self, index: int, message: Message) -> None:
        if "lost" in message:
            self._lose(Lost(sentences.shown(str(message["lost"]), 1200), _code(message)))
        elif "failed" in message:
            said = sentences.shown(str(message["failed"]), 1000)
            self._lose(Lost(f"process {index} of {self.count} ended: {said}", _code(message)))
        elif "at" in message:
            self._arrived(index, message)
        elif "pass" in message:
            with self._state:
                self._passed[str(message["pass"])] = message.get("told") or {}
                self._state.notify_all()
        elif "bye" in message:
            self._gone.add(index)
            self._unreachable()

    def _miss(self, index: int, words: str) -> None:
        if index not in self._gone:
            self._lose(Lost(f"process {index} of {self.count} {words}; start all again", LOST))

    def _lose(self, lost: Lost) -> None:
        with self._state:
            if self.lost is not None or self._leaving:
                return
            self.lost = lost
            self._state.notify_all()
        if self.index == 0:  # the others have a line with this process alone
            for line in self._lines.values():
                line.send({"lost": str(lost), "code": lost.code})
        threading.Thread(target=self._on_lost, args=(lost,), daemon=True, name="lost").start()

    def _arrived(self, index: int, message: Message) -> None:
        """At process 0: one more process waits; once all do, they go on together or fail."""
        with self._state:
            self._waiting[index] = message
            waiting = dict(self._waiting)
            if len(waiting) == self.count:
                self._waiting = {}
        if len(waiting) < self.count:
            self._unreachable()
            return
        told = {str(name): str(value) for name, value in waiting[0]["told"].items()}
        for other in sorted(waiting):
            words = differing(_common(told), _common(waiting[other].get("told") or {}))
            if waiting[other].get("at") != waiting[0]["at"]:
                words = f"it is at {sentences.value(waiting[other].get('at'))} while process 0 is at {waiting[0]['at']!r}"
            if words is not None:
                self._lose(
                    Lost(f"process {other} does not do the same as process 0: {words}; start all alike, with the same files", 2)
                )
                return
        passing = {"pass": waiting[0]["at"], "told": told}
        for line in self._lines.values():
            line.send(passing)
        self._take(0, passing)

    def _unreachable(self) -> None:
        """Process 0 fails where one that has finished is waited for; the others do where process 0 has."""
        with self._state:
            missing = self._gone - self._waiting.keys() if self._waiting else set()
        if missing:
            self._lose(Lost(f"process {min(missing)} of {self.count} has finished while others wait for it; start all alike", 2))

    def _end(self, lost: Lost) -> None:
        """The main thread is told like by a signal, unless it has noticed, so that it removes what it has begun; then the process
        ends, whatever that thread is at."""
        self.say()
        time.sleep(WAY_OUT[0])
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(WAY_OUT[1])
        stopping.leave(lost.code)

    def say(self) -> None:
        """Say on the standard error why this process ends, once, and let nothing else reach it: on the way out compiled code
        writes stack traces."""
        with self._saying:
            if self.lost is None or self._said:
                return
            self._said = True
            with contextlib.suppress(OSError):
                error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.write(error, f"w2sr: {self.lost}\n".encode(errors="backslashreplace"))


def _code(message: Message) -> int:
    code = message.get("code")
    return code if isinstance(code, int) and 0 < code < 256 else LOST


def _common(told: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(value) for name, value in told.items() if not name.startswith("*")}


def hold_abort() -> None:
    """Let an abort of compiled code take six seconds. jax's service ends the process in compiled code when process 0 dies, at the
    same moment at which `Peers` learns of it, which has something better to say."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library: Any = ctypes.CDLL(None)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        # The handler's argument is the signal's number, SIGABRT: 6, and that of sleep() is seconds. No Python has to run for it.
        library.signal(int(signal.SIGABRT), ctypes.cast(library.sleep, ctypes.c_void_p))
