"""A pool of grading workers: processes that are started when needed, watched, killed when they hang, and always shut down."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.errors import UserError

WORKER = Path(__file__).with_name("worker.py")
START_SECONDS = 120.0  # importing sympy on a busy machine is slow; an item's own limit is the caller's


class Outcome(NamedTuple):
    """`equal` is None where no comparison came out; `reason` then says why: timeout, memory, crash or the worker's own."""

    equal: bool | None
    reason: str


class _Worker:
    """One process. `item` is the index it works on, None when idle; `deadline` is on the monotonic clock."""

    def __init__(self, memory: int) -> None:
        # Run as a file, not a module: nothing of the caller's __main__ is imported, and the package need not be installed.
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self.ready = False
        self.item: int | None = None
        self.deadline = time.monotonic() + START_SECONDS
        self.buffer = b""

    def send(self, index: int, pair: tuple[str, str], seconds: float) -> None:
        assert self.process.stdin is not None
        self.item, self.deadline = index, time.monotonic() + seconds
        self.process.stdin.write(json.dumps([*pair, seconds + 1.0]).encode() + b"\n")

    def receive(self) -> list[dict[str, object]] | None:
        """Complete messages that have arrived; None when the process has closed its end."""
        data = os.read(self.output, 65536)
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self) -> int:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return self.process.wait()


def compare(
    pairs: Sequence[tuple[str, str]],
    workers: int,
    timeout: float,
    memory: int,
    on_done: Callable[[int], None] | None = None,
) -> list[Outcome]:
    """Compare (answer, gold) pairs with `math-verify`, in order of `pairs`.

    `workers` processes at most, `timeout` seconds an item, `memory` bytes of address space a process (0: no limit). A worker that
    exceeds either is killed and replaced, and its item has no result. Raises UserError where no worker can be started.
    """
    outcomes: list[Outcome | None] = [None] * len(pairs)
    waiting = deque(range(len(pairs)))
    count = max(1, min(workers, (len(pairs) + 3) // 4))
    selector = selectors.DefaultSelector()
    pool: list[_Worker] = []
    done = 0

    def start() -> None:
        worker = _Worker(memory)
        pool.append(worker)
        selector.register(worker.output, selectors.EVENT_READ, worker)

    def drop(worker: _Worker) -> int:
        pool.remove(worker)
        selector.unregister(worker.output)
        return worker.end()

    def settle(worker: _Worker, outcome: Outcome) -> None:
        nonlocal done
        assert worker.item is not None
        outcomes[worker.item], worker.item = outcome, None
        done += 1
        if on_done is not None:
            on_done(done)

    def feed(worker: _Worker) -> None:
        if waiting and worker.ready:
            index = waiting.popleft()
            with contextlib.suppress(BrokenPipeError):  # its closed end is seen next
                worker.send(index, pairs[index], timeout)

    def lose(worker: _Worker, reason: str) -> None:
        code = drop(worker)
        if not worker.ready:
            raise UserError(f"a grading worker could not be started ({reason}, exit code {code}); allow it more memory or time")
        if worker.item is not None:
            settle(worker, Outcome(None, "memory" if code == 3 else reason))
        if waiting:
            start()

    try:
        for _ in range(count if pairs else 0):
            start()
        while done < len(pairs):
            limit = min(worker.deadline for worker in pool if worker.item is not None or not worker.ready)
            for key, _ in selector.select(max(0.0, limit - time.monotonic())):
                worker = key.data
                messages = worker.receive()
                if messages is None:
                    lose(worker, "crash")
                    continue
                for message in messages:
                    if "ready" in message:
                        worker.ready = True
                    elif not worker.ready:
                        reason = message.get("failed")
                        raise UserError(
                            f"a grading worker could not be started ({reason}); install math-verify or allow it more memory"
                        )
                    elif "equal" in message:
                        settle(worker, Outcome(bool(message["equal"]), ""))
                    else:
                        settle(worker, Outcome(None, str(message.get("failed"))))
                    feed(worker)
            now = time.monotonic()
            for worker in [w for w in pool if (w.item is not None or not w.ready) and w.deadline <= now]:
                lose(worker, "timeout")
    finally:
        for worker in list(pool):
            drop(worker)
        selector.close()
    return [outcome for outcome in outcomes if outcome is not None]
