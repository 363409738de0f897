"""Watch the grading workers from outside, by /proc: memory and processor time of each child, time of each item, what remains."""

import os
import threading
import time
from pathlib import Path
from typing import Any

from w2sr_jax.answers import pool

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pid: int | str = "self") -> int:
    """Bytes of memory a process has now; 0 for none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def processor(pid: int) -> float:
    """Processor seconds of a process so far."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK
    except (OSError, IndexError):
        return 0.0


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class Watch:
    """While entered: `memory` is the most bytes a worker's process had, `processor` the most processor seconds of one try of an
    item, `wall` the most seconds of one, `seconds[index]` those of all tries of a pair, `settled[index]` when its last try ended.
    Afterwards `remaining` holds the workers' processes that outlived the pool."""

    def __init__(self) -> None:
        self.memory = 0
        self.processor = self.wall = 0.0
        self.seconds: dict[int, float] = {}
        self.settled: dict[int, float] = {}
        self.remaining: list[int] = []
        self._began: dict[int, tuple[float, int, float]] = {}  # by worker: when, child, its processor seconds then
        self._seen: set[int] = set()
        self._stop = threading.Event()

    def __enter__(self) -> "Watch":
        self._start = time.monotonic()
        self._send, self._settle = pool._Worker.send, pool._Pool.settle
        watch = self

        def send(worker: pool._Worker, index: int, *arguments: Any) -> None:
            child = next(iter(children(worker.process.pid)), 0)
            watch._began[worker.process.pid] = (time.monotonic(), child, processor(child))
            watch._send(worker, index, *arguments)

        def settle(state: pool._Pool, worker: pool._Worker, *arguments: Any, **named: Any) -> None:
            index = worker.item
            began, _, _ = watch._began.pop(worker.process.pid)
            took = time.monotonic() - began
            watch.wall = max(watch.wall, took)
            if index is not None:
                watch.seconds[index] = watch.seconds.get(index, 0.0) + took
                watch.settled[index] = time.monotonic() - watch._start
            watch._settle(state, worker, *arguments, **named)

        pool._Worker.send, pool._Pool.settle = send, settle  # type: ignore[method-assign, assignment]
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        pool._Worker.send, pool._Pool.settle = self._send, self._settle  # type: ignore[method-assign]
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(map(_lives, self._seen)):
            time.sleep(0.05)
        self.remaining = sorted(filter(_lives, self._seen))

    def _sample(self) -> None:
        own = os.getpid()
        while not self._stop.wait(0.02):
            for worker in children(own):
                if b"worker.py" not in _command(worker):
                    continue
                for pid in (worker, *children(worker)):
                    self._seen.add(pid)
                    self.memory = max(self.memory, resident(pid))
            for _, child, before in list(self._began.values()):
                self.processor = max(self.processor, processor(child) - before)


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _lives(pid: int) -> bool:
    """Whether the process is there, is a worker and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z" and b"worker.py" in _command(pid)
