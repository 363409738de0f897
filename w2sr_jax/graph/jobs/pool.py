"""Worker processes of this machine, each on cores of its own. They start with SIGINT blocked.

A worker ends once nobody can give it orders any more, also where the pool's process was killed: it is then asked to stop, as by a
scheduler. The locks that were passed on are held until the last worker has ended.
"""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.failures import cause_of_failure
from w2sr_jax.core.process.stopping import GRACE, Stop, Terminated
from w2sr_jax.graph.jobs.messages import Event, Order

Cores = frozenset[int] | None
"""Cores that a process may use; None where this system does not say."""
_IDLE = 1.0
"""Seconds that a worker without work has to end."""


class Ended(NamedTuple):
    """A worker has ended by itself, with this exit code; below 0: by a signal."""

    code: int

    @property
    def words(self) -> str:
        """Why, as far as it is known."""
        if self.code == -signal.SIGKILL:
            return "its process was killed, as the system does where memory runs out"
        how = f"by signal {-self.code}" if self.code < 0 else f"with exit code {self.code}"
        return f"its process ended {how}"


def check_jobs(jobs: int) -> None:
    """`UserError` where there is no job at all."""
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; it must be at least 1")


def split_cores(jobs: int) -> list[Cores]:
    """Equal parts of the cores that this process may use, one for each of `jobs` workers; what is left over is not used.
    `UserError` where there are fewer cores than jobs, or no job at all."""
    check_jobs(jobs)
    if not hasattr(os, "sched_getaffinity"):
        return [None] * jobs
    cores = sorted(os.sched_getaffinity(0))
    if jobs > len(cores):
        raise UserError(f"--jobs is {jobs}, and this process may use {len(cores)} cores; each job takes at least one of its own")
    each = len(cores) // jobs
    return [frozenset(cores[start : start + each]) for start in range(0, jobs * each, each)]


def pin(cores: Cores) -> None:
    """Let this thread, and what it starts from now on, use these cores alone."""
    if cores is not None:
        os.sched_setaffinity(0, cores)


class Workers(Protocol):
    """Who does stages, numbered from 0."""

    def __len__(self) -> int: ...

    def deferred(self, stop: Stop) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        """Inside, a signal is passed on by `stop` where others do the work; yields whether there was one."""

    def give(self, number: int, order: Order) -> None:
        """Let a worker that has nothing to do begin."""

    def next(self, patience: float) -> tuple[int, Event | Ended] | None:
        """What a worker says next, with its number; None where none says anything within `patience` seconds."""

    def stop(self, number: int) -> Iterator[tuple[int, Event | Ended]]:
        """Pass a signal on to all workers and wait until they have ended. What they still say."""


class Inline:
    """One worker, which is this process: where stages compute on devices that one process takes as a whole. `do` does what is
    ordered, and tells whoever watches itself; what it raises is why the stage failed, unless it ends the command."""

    def __init__(self, do: Callable[[Order], None]) -> None:
        self._do, self._order, self._stop = do, list[Order](), Stop()

    def __len__(self) -> int:
        return 1

    def deferred(self, stop: Stop) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        self._stop = stop
        return contextlib.nullcontext(stop.requested)  # the stage itself says what may interrupt it

    def give(self, number: int, order: Order) -> None:
        self._order.append(order)

    def next(self, patience: float) -> tuple[int, Event | Ended] | None:
        try:
            self._do(self._order.pop())
        except (Stopped, Terminated, KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException as error:
            if self._stop.signal is not None and not isinstance(error, UserError):
                raise  # compiled code may hide the exception of a signal behind one of its own
            self._stop.check()  # which may be why it failed
            return 0, Event("failed", cause_of_failure(error, None))
        return 0, Event("done")

    def stop(self, number: int) -> Iterator[tuple[int, Event | Ended]]:
        return iter(())


class Pool:
    """Worker processes that are numbered from 0. `command` starts one; it inherits the files `handles`. As a context manager it
    ends them on the way out."""

    def __init__(self, command: Sequence[str], cores: Sequence[Cores], handles: Sequence[int] = ()) -> None:
        self._command, self._cores, self._handles = list(command), list(cores), tuple(handles)
        self._events: queue.Queue[tuple[int, subprocess.Popen[str], Event | Ended]] = queue.Queue()
        self._processes: list[subprocess.Popen[str]] = []
        self._busy: set[int] = set()

    def __len__(self) -> int:
        return len(self._cores)

    def __enter__(self) -> "Pool":
        for number in range(len(self)):
            self._processes.append(self._start(number))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for process in self._processes:
            _close(process)
        now = time.monotonic()
        impatient = kind is not None and issubclass(kind, KeyboardInterrupt)
        for number, process in enumerate(self._processes):
            saving = number in self._busy and not impatient  # a worker at a stage saves its state, and ends itself in any case
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, now + (GRACE + _IDLE if saving else _IDLE) - time.monotonic()))
            process.kill()
            process.wait()

    def deferred(self, stop: Stop) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        return stop.deferred()

    def give(self, number: int, order: Order) -> None:
        """Let a worker that has nothing to do begin. One that is gone is started anew."""
        if self._processes[number].poll() is not None:
            self._processes[number] = self._start(number)
        stream = self._processes[number].stdin
        assert stream is not None
        self._busy.add(number)
        with contextlib.suppress(BrokenPipeError):  # its end is an event
            stream.write(order.line())
            stream.flush()

    def next(self, patience: float) -> tuple[int, Event | Ended] | None:
        """What a worker says next, with its number; None where none says anything within `patience` seconds. What one had said
        that was replaced since is left out."""
        until = time.monotonic() + patience
        with contextlib.suppress(queue.Empty):
            while True:
                number, process, said = self._events.get(timeout=max(0.0, until - time.monotonic()))
                if process is self._processes[number]:
                    if isinstance(said, Ended) or said.kind in ("done", "failed"):
                        self._busy.discard(number)
                    return number, said
        return None

    def stop(self, number: int) -> Iterator[tuple[int, Event | Ended]]:
        """Pass a signal on to all workers and wait until they have ended, which they do within the time that a run has for it.
        What they still say."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)
        while any(process.poll() is None for process in self._processes) or not self._events.empty():
            said = self.next(0.1)
            if said is not None:
                yield said

    def _start(self, number: int) -> "subprocess.Popen[str]":
        package = str(Path(__file__).resolve().parents[3])
        paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        before = os.sched_getaffinity(0) if self._cores[number] is not None else None
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until the worker can end without a traceback
        try:
            pin(self._cores[number])  # which the process inherits before any library counts its cores
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "PYTHONPATH": paths},
                pass_fds=self._handles,
                start_new_session=True,  # Ctrl-C reaches it through `stop` alone
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            pin(None if before is None else frozenset(before))
        threading.Thread(target=self._read, args=(number, process), daemon=True, name=f"worker {number}").start()
        return process

    def _read(self, number: int, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(ValueError, TypeError):  # of a line that a dying worker left unfinished
                self._events.put((number, process, Event.read(line)))
        self._events.put((number, process, Ended(process.wait())))


def worker_command(module: str, *arguments: str) -> list[str]:
    """How a worker is started whose `main` is in a module of this package."""
    return [sys.executable, "-m", module, *arguments]


def _close(process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
