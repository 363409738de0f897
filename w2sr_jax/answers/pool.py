"""A pool of grading workers: processes that are started when needed, watched, killed when they hang, and always shut down.

An outcome depends on the pair, on the versions, and on whether `timeout` seconds of processor time suffice, which unlike time on
the clock does not grow with the load of the machine. A pair during which a worker died is tried once more at the end, while
nothing else of this pool runs, in a process in which nothing has been compared before.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.core.errors import UserError

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 300.0  # importing sympy on a busy machine is slow; an item's own limit is the caller's
QUICK = 0.5  # processor seconds of the first try, so that no pair keeps others waiting for long
WALL = 30.0, 20.0  # seconds on the clock: 30 and 20 for each processor second, for a process that neither works nor ends
TIMEOUT = 5.0  # processor seconds for a pair, by default …
MEMORY = 2 << 30  # … and bytes of address space for a process
LINE = 1 << 16  # bytes; no reply is as long
SPARE = 5.0  # seconds in which a worker may report that its own limit was met
TRIES = 5  # workers in a row that may die while they start, as where the system kills for memory


class Outcome(NamedTuple):
    """`equal` is None where there is no result; `reason` is then timeout, memory, recursion, crash or the name of an error."""

    equal: bool | None
    reason: str


class _Broken(Exception):
    """A worker did not keep to the protocol."""


class _Worker:
    """One process. It is starting (not `started`), replacing its child (not `ready`), busy (`item` is the index of a pair) or
    idle (`deadline` is None). `deadline` is in seconds of the monotonic clock; its present child has compared `served` pairs."""

    def __init__(self, memory: int, relations_as_sets: bool) -> None:
        # Run as a file, not a module: nothing of the caller's __main__ is imported, and the package need not be installed.
        # One hash seed for all: the order of sets steers which rule sympy tries first.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(memory), *(["relations_as_sets"] if relations_as_sets else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            process_group=0,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.started = False
        self.ready = False
        self.served = 0
        self.item: int | None = None
        self.deadline: float | None = time.monotonic() + START_SECONDS
        self.buffer = b""
        assert self.process.stdin is not None
        os.set_blocking(self.process.stdin.fileno(), False)

    def send(self, index: int, pair: tuple[str, str], seconds: float) -> None:
        wall = WALL[0] + WALL[1] * seconds
        self.item, self.deadline = index, time.monotonic() + wall + SPARE
        self.served += 1
        self._write([index, *pair, seconds, wall])

    def renew(self) -> None:
        self.ready, self.deadline = False, time.monotonic() + START_SECONDS
        self._write(None)

    def _write(self, value: object) -> None:
        assert self.process.stdin is not None
        line = json.dumps(value).encode() + b"\n"
        try:
            written = self.process.stdin.write(line)
        except BrokenPipeError:
            return  # its closed end is seen next
        if written != len(line):  # it does not read
            raise _Broken

    def receive(self) -> list[dict[str, Any]] | None:
        """Complete messages that have arrived; None when the process has closed its end. Raises _Broken where they are none."""
        data = os.read(self.output, LINE)
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        if len(self.buffer) > LINE:
            raise _Broken
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            raise _Broken from None
        if not all(isinstance(message, dict) for message in messages):
            raise _Broken
        return messages

    def end(self, leaving: bool = False) -> int:
        """End the process and return its exit code. An idle one, and one that is `leaving`, ends by itself; any other is killed
        with its child."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            return self.process.wait(timeout=2.0 if leaving or (self.ready and self.item is None) else 0.0)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


class _Pool:
    """The state of one `compare`: pairs that wait, pairs that are to be tried again, and the workers."""

    def __init__(self, timeout: float, memory: int, on_done: Callable[[int], None], relations_as_sets: bool = False) -> None:
        self.timeout, self.memory, self.on_done = timeout, memory, on_done
        self.pairs: Sequence[tuple[str, str]] = ()
        self.relations_as_sets = relations_as_sets
        self.outcomes: list[Outcome | None] = []
        self.waiting: deque[int] = deque()
        self.again: list[int] = []
        self.alone = False
        self.done = 0
        self.died = 0  # while they started, since one has started
        self.workers: list[_Worker] = []
        self.selector = selectors.DefaultSelector()

    def compare(self, pairs: Sequence[tuple[str, str]], count: int) -> list[Outcome]:
        """Outcomes of pairs, in order, by `count` workers; pairs during which a worker died are tried again alone at the end."""
        self.pairs, self.outcomes, self.done = pairs, [None] * len(pairs), 0
        self.waiting, self.again, self.alone = deque(range(len(pairs))), [], False
        self.run(count)
        self.alone = True
        self.waiting.extend(sorted(self.again))
        self.run(1)
        return [outcome for outcome in self.outcomes if outcome is not None]

    def start(self) -> bool:
        """Start another worker, if the system allows it; whether it did. Raises UserError where there is no worker at all
        then."""
        try:
            worker = _Worker(self.memory, self.relations_as_sets)
        except OSError as error:  # no more processes, memory or files; the others go on
            if self.workers:
                return False
            raise UserError(
                f"a grading worker could not be started: {error.strerror}; raise the limits of this process"
            ) from None
        self.workers.append(worker)
        self.selector.register(worker.output, selectors.EVENT_READ, worker)
        return True

    def stumbled(self, reason: str, slow: bool = False) -> None:
        """Count a worker that died while it started. Raises UserError where it was `slow`, or `TRIES` have died in a row."""
        self.died += 1
        if slow or self.died >= TRIES:
            raise UserError(
                f"a grading worker could not be started ({reason}, {self.died} in a row); allow it more memory or time"
            )

    def drop(self, worker: _Worker, leaving: bool = False) -> int:
        self.workers.remove(worker)
        self.selector.unregister(worker.output)
        return worker.end(leaving)

    def run(self, count: int) -> None:
        """Compare all pairs that wait with `count` workers."""
        for worker in self.workers[count:]:
            self.drop(worker)
        for worker in list(self.workers):
            self.guard(worker, self.feed)
        while len(self.workers) < min(count, len(self.waiting)) and self.start():
            pass
        while any(worker.item is not None for worker in self.workers) or self.waiting:
            deadlines = [worker.deadline for worker in self.workers if worker.deadline is not None]
            for key, _ in self.selector.select(max(0.0, min(deadlines) - time.monotonic())):
                self.guard(key.data, self.hear)
            now = time.monotonic()
            for worker in [w for w in self.workers if w.deadline is not None and w.deadline <= now]:
                self.lose(worker, "timeout")

    def guard(self, worker: _Worker, action: Callable[[_Worker], None]) -> None:
        """Call `action`; a worker that breaks the protocol in it is dropped and its pair tried again."""
        try:
            action(worker)
        except _Broken:
            self.lose(worker, "crash")

    def hear(self, worker: _Worker) -> None:
        messages = worker.receive()
        if messages is None:
            self.lose(worker, "crash", leaving=True)
        for message in messages or ():
            self.take(worker, message)

    def take(self, worker: _Worker, message: dict[str, Any]) -> None:
        if message.get("ready") is True and worker.item is None and not worker.ready:
            worker.started = worker.ready = True
            worker.deadline, worker.served, self.died = None, 0, 0
            self.feed(worker)
        elif "lost" in message and worker.item is None:  # it has another child start
            self.stumbled(str(message["lost"])[:100])
            worker.ready, worker.deadline = False, time.monotonic() + START_SECONDS
        elif not worker.started:
            reason = message.get("failed")
            raise UserError(f"a grading worker could not be started ({reason}); install math-verify or allow it more memory")
        elif worker.item is None:
            raise _Broken
        elif "lost" in message:
            worker.ready = False
            self.settle(worker, Outcome(None, str(message["lost"])[:100]), lost=True)
            worker.deadline = time.monotonic() + START_SECONDS
        elif message.get("id") != worker.item:
            raise _Broken
        else:
            equal = message.get("equal")
            compared = isinstance(equal, bool)
            self.settle(worker, Outcome(equal if compared else None, "" if compared else str(message.get("failed"))[:100]))
            self.feed(worker)

    def feed(self, worker: _Worker) -> None:
        if not self.waiting or not worker.ready:
            return
        if self.alone and worker.served:
            worker.renew()
        else:
            index = self.waiting.popleft()
            worker.send(index, self.pairs[index], self.timeout if self.alone else min(QUICK, self.timeout))

    def settle(self, worker: _Worker, outcome: Outcome, lost: bool = False) -> None:
        assert worker.item is not None
        index, worker.item, worker.deadline = worker.item, None, None
        if lost and not self.alone:
            self.again.append(index)
            return
        self.outcomes[index] = outcome
        self.done += 1
        self.on_done(self.done)

    def lose(self, worker: _Worker, reason: str, leaving: bool = False) -> None:
        code = self.drop(worker, leaving)
        if not worker.started:
            self.stumbled(f"{reason}, exit code {code}", reason == "timeout")
        if worker.item is not None:
            self.settle(worker, Outcome(None, reason), lost=True)
        if self.waiting:
            self.start()

    def close(self) -> None:
        for worker in list(self.workers):
            self.drop(worker)
        self.selector.close()


class Comparer:
    """Compares a few pairs at a time with one worker that stays in between, for answers that come problem by problem. Its
    outcomes are those of `compare`. The worker is started when it is first needed, and `close` ends it."""

    def __init__(self, timeout: float = TIMEOUT, memory: int = MEMORY) -> None:
        self._timeout, self._memory = timeout, memory
        self._pool: _Pool | None = None

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Outcome]:
        """Outcomes of (answer, gold) pairs, in order."""
        if self._pool is None:
            self._pool = _Pool(self._timeout, self._memory, lambda done: None)
        try:
            return self._pool.compare(pairs, 1)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None


def compare(
    pairs: Sequence[tuple[str, str]],
    workers: int,
    timeout: float,
    memory: int,
    on_done: Callable[[int], None] | None = None,
    relations_as_sets: bool = False,
) -> list[Outcome]:
    """Compare (answer, gold) pairs with `math-verify`, in order of `pairs`.

    `workers`: most processes; `memory`: bytes of address space for each (0: no limit); `timeout`: processor seconds for a pair. A
    pair that takes more than half a second of processor time, or during which a worker dies, waits until all others are done and
    is then tried alone in a process of its own; a pair that fails there has no result. `on_done` is called with the number of
    finished pairs. `relations_as_sets`: whether an inequality may equal a gold interval. Raises UserError where no worker can be
    started.
    """
    pool = _Pool(timeout, memory, on_done or (lambda done: None), relations_as_sets)
    try:
        return pool.compare(pairs, max(1, min(workers, (len(pairs) + 3) // 4)))
    finally:
        pool.close()
