"""Watching the other processes while all are at work: one that fails tells all of them, one that is killed or stopped is noticed,
and none waits for another one that will not come.

Compiled collectives wait for ever for a process that is gone, and jax's own service aborts after minutes without telling the user
why. So every process has a connection (a line, see `rendezvous`) to process 0, over which both send a heartbeat every second. A
thread watches it and ends the process where another one has failed. Named barriers use the same lines.
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
from w2sr_jax.core.process.exits import LOST
from w2sr_jax.parallel.lines import Line, Message
from w2sr_jax.parallel.pace import Pace, Report
from w2sr_jax.parallel.rendezvous import differing

BEAT = 1.0  # seconds between signs of life
SILENT = 20.0  # seconds without one after which a process counts as lost
WAY_OUT = 1.0, 2.0  # seconds for a process to leave by itself when another one is lost, and once it is interrupted
PATIENCE = 3600.0  # seconds in which all processes must come to a barrier


class Lost(Exception):
    """Another process has failed or is gone. `code` is the exit code for it."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code


class Peers:
    """The other processes, as process `index` of `count` sees them. `lines` are those of `rendezvous.connect`. `start()` begins
    to watch them."""

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
        self._saying, self._announced = threading.Lock(), False
        self._own: Message = {}  # what this process reports of its work
        self._pace = Pace(count)
        self._on_pace: Callable[[str], None] = _nobody

    def start(self, on_lost: Callable[[Lost], None] | None = None) -> None:
        """Watch the others in a thread; `on_lost` (default: end this process) is called in it once one is lost."""
        self._on_lost = on_lost or self._end
        threading.Thread(target=self._watch, daemon=True, name="peers").start()

    def barrier(self, name: str, facts: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Mapping[str, str]:
        """See `processes.barrier`. Raises `Lost` where the others cannot all come to it, or have not within `patience`
        seconds."""
        with self._state:
            self._calls += 1
            label = f"{self._calls} {name}"
        self._at({"at": label, "told": dict(facts or {})})
        end = time.monotonic() + patience
        with self._state:
            while label not in self._passed and self.lost is None:
                self._state.wait(0.2)  # a signal is handled between waits
                if self.index and 0 in self._gone and label not in self._passed and self.lost is None:
                    self.lost = Lost(f"process 0 of {self.count} has finished while this one waits for it; start all alike", 2)
                if time.monotonic() > end:
                    missing = [str(i) for i in range(self.count) if i not in self._waiting] if self.index == 0 else []
                    who = f"process {', '.join(missing)} of {self.count}" if missing else "the other processes"
                    self.lost = Lost(f"{who} did not come to {name!r} within {patience:,.0f} s", LOST)
            if label in self._passed:
                return self._passed.pop(label)
            assert self.lost is not None
            lost = self.lost
        self.fail(str(lost), lost.code)
        raise lost

    def report(self, values: Mapping[str, str | float]) -> str:
        """What this process says of its work (`pace.Report`), besides what it said before; it goes to process 0 with the next
        sign of life. At process 0: how all go, in words."""
        self._own = {**self._own, **values}
        if self.index:
            return ""
        self._pace.take(0, Report.of(self._own), time.monotonic())
        return self._pace.words()

    def observe(self, on_pace: Callable[[str], None]) -> None:
        """At process 0: whom to tell, from another thread, of processes that are silent or do not go on."""
        self._on_pace = on_pace

    def fail(self, words: str, code: int) -> None:
        """Tell the others why this process ends; they end with the same code. From then on this one does not watch them."""
        self._leaving = True
        for line in self._lines.values():
            line.send({"failed": words, "code": code})

    def finish(self) -> None:
        """Say that this process has done all that was to be done together."""
        self._leaving = True
        for line in self._lines.values():
            line.send({"bye": True})

    def cause(self, seconds: float) -> Lost | None:
        """The loss of another process that is noticed within so many seconds; None where there is none."""
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
                        self._lines[index].send({"beat": True, **({"work": self._own} if self.index and self._own else {})})
                    if self.index == 0 and not self._leaving:
                        heard = {index: self._lines[index].heard for index in self._lines.keys() - self._gone}
                        for words in self._pace.news(heard, now):
                            self._on_pace(words)

    def _take(self, index: int, message: Message) -> None:
        if "lost" in message:
            self._lose(Lost(sentences.shown(str(message["lost"]), 1200), _code(message)))
        elif "failed" in message:
            words = sentences.shown(str(message["failed"]), 1000)
            self._lose(Lost(f"process {index} of {self.count} ended: {words}", _code(message)))
        elif "at" in message:
            self._arrived(index, message)
        elif "pass" in message:
            with self._state:
                self._passed[str(message["pass"])] = message.get("told") or {}
                self._state.notify_all()
        elif isinstance(work := message.get("work"), dict):
            self._pace.take(index, Report.of(work), time.monotonic())
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
        """At process 0: one more process waits at a barrier. Once all do, they pass it, or fail where they do not agree."""
        with self._state:
            self._waiting[index] = message
            waiting = dict(self._waiting)
            if len(waiting) == self.count:
                self._waiting = {}
        if len(waiting) < self.count:
            self._unreachable()
            return
        facts = {str(name): str(value) for name, value in waiting[0]["told"].items()}
        for other in sorted(waiting):
            words = differing(_common(facts), _common(waiting[other].get("told") or {}))
            if waiting[other].get("at") != waiting[0]["at"]:
                words = f"it is at {sentences.value(waiting[other].get('at'))} while process 0 is at {waiting[0]['at']!r}"
            if words is not None:
                self._lose(
                    Lost(f"process {other} does not do the same as process 0: {words}; start all alike, with the same files", 2)
                )
                return
        passing = {"pass": waiting[0]["at"], "told": facts}
        for line in self._lines.values():
            line.send(passing)
        self._take(0, passing)

    def _unreachable(self) -> None:
        """At process 0: fail where others wait for a process that has finished. The other processes see that of process 0."""
        with self._state:
            missing = self._gone - self._waiting.keys() if self._waiting else set()
        if missing:
            self._lose(Lost(f"process {min(missing)} of {self.count} has finished while others wait for it; start all alike", 2))

    def _end(self, lost: Lost) -> None:
        """Interrupt the main thread as a signal does, so that it removes what it has begun; then end the process, whatever that
        thread is at."""
        self.say()
        time.sleep(WAY_OUT[0])
        _thread.interrupt_main(signal.SIGTERM)
        time.sleep(WAY_OUT[1])
        stopping.leave(lost.code)

    def say(self) -> None:
        """Print on the standard error, once, why this process ends, and nothing afterwards: on the way out compiled code writes
        stack traces there."""
        with self._saying:
            if self.lost is None or self._announced:
                return
            self._announced = True
            with contextlib.suppress(OSError):
                error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.write(error, f"w2sr: {self.lost}\n".encode(errors="backslashreplace"))


def _nobody(words: str) -> None: ...


def _code(message: Message) -> int:
    code = message.get("code")
    return code if isinstance(code, int) and 0 < code < 256 else LOST


def _common(facts: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(value) for name, value in facts.items() if not name.startswith("*")}


def hold_abort() -> None:
    """Let an abort of compiled code take six seconds. When process 0 dies, jax's service aborts this process at the same moment
    at which `Peers` learns of it; the delay leaves time for the sentence of `Peers`."""
    with contextlib.suppress(OSError, AttributeError, TypeError):
        library: Any = ctypes.CDLL(None)
        library.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        # The handler's argument is the signal's number, SIGABRT: 6, and that of sleep() is seconds. No Python has to run for it.
        library.signal(int(signal.SIGABRT), ctypes.cast(library.sleep, ctypes.c_void_p))
