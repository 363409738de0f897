"""A worker process of a pool (`graph.jobs.pool`): does the stages that it is told to, one at a time.

    python -m w2sr_jax.stages.worker DEVICES

Orders come on the standard input and events go to the standard output; what else is printed goes to the standard error.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from w2sr_jax.core.errors import Stopped
from w2sr_jax.core.failures import cause_of_failure
from w2sr_jax.core.process import exits, stopping, streams, terminal
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import runner
from w2sr_jax.graph.jobs.messages import Event, Order
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.stage import Context
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel import compiling

_EVERY = 0.2
"""Seconds between events of progress."""
_KEPT = 8
"""Runs that are kept open for further orders."""

Say = Callable[[Event], None]


class Telling:
    """A `graph.stage.Watcher` that tells the pool."""

    def __init__(self, say: Say) -> None:
        self._say, self._spoke = say, 0.0

    def begin(self, stage: str, index: int, total: int) -> None:
        self._say(Event("begin", stage))

    def progress(self, done: float, total: float, detail: str) -> None:
        if time.monotonic() - self._spoke > _EVERY:
            self._spoke = time.monotonic()
            self._say(Event("progress", detail, float(done), float(total)))

    def end(self, stage: str, note: str, seconds: float | None) -> None:
        self._say(Event("end", note, seconds=seconds))

    def drop(self) -> None:
        """Nothing: that the stage failed is said otherwise."""

    def say(self, message: str) -> None:
        self._say(Event("say", message))

    def warn(self, message: str) -> None:
        self._say(Event("warn", message))

    def beside(self) -> "Telling":
        return Telling(self._say)


def main() -> None:
    """Entry point of the process."""
    orders, events = _channels()
    streams.prepare()
    terminal.guard()
    stopping.until_exit()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    compiling.remember()
    _see_devices(int(sys.argv[1]))
    lock = threading.Lock()

    def say(event: Event) -> None:
        with lock:  # trackers speak from threads of their own
            events.write(event.line())
            events.flush()

    stop = Stop()
    try:
        with stop.installed():
            _serve(orders, say, stop)
    except (Stopped, Terminated, KeyboardInterrupt):
        stopping.leave(stop.code)
    except BrokenPipeError:  # the pool's process is gone
        stopping.leave(exits.PIPE)


def _channels() -> tuple[IO[str], IO[str]]:
    """Where orders come from and events go to, out of reach of other people's code, which finds an empty input and the standard
    error in their places."""
    orders, events = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    return orders, events


def _see_devices(count: int) -> None:
    """As many virtual devices as the pool's process has."""
    import jax

    if count > 1 and "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        jax.config.update("jax_num_cpu_devices", count)  # type: ignore[no-untyped-call]
    compiling.tidy()


def _serve(orders: IO[str], say: Say, stop: Stop) -> None:
    busy, runs = threading.Event(), _Runs()
    for order in _orders(orders, busy):
        said = Event("done")
        try:
            _do(order, say, stop, runs)
        except (Stopped, Terminated, KeyboardInterrupt, BrokenPipeError):
            raise
        except BaseException as error:
            said = Event("failed", cause_of_failure(error, stop.signal))
        busy.clear()  # before the next order can come
        say(said)


def _orders(stream: IO[str], busy: threading.Event) -> Iterator[Order]:
    """Orders as they come; `busy` is set with each. Once nobody can give any, a stage at work is asked to stop."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in stream:
            busy.set()
            lines.put(line)
        lines.put(None)
        if busy.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True, name="orders").start()
    while (line := lines.get()) is not None:
        yield Order.read(line)


def _do(order: Order, say: Say, stop: Stop, runs: "_Runs") -> None:
    from w2sr_jax.trackers.following import tracked

    experiment, plan = runs.of(order.directory)
    watcher, stage = Telling(say), plan.by_name[order.stage]
    following = experiment.trackers if stage.kind == "train" and not experiment.rehearsal else ()
    with tracked(following, watcher.warn) as trackers:
        context = Context(RunStore(Path(order.directory)), watcher, stop, run=order.name, trackers=trackers)
        runner.do(stage, context, plan, 0, 1)


class _Runs:
    """The runs that orders were for, opened. Of those with code of the user's own only the last one is kept: its modules take the
    place of the others', whose objects belong to no module any more then."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Experiment, Plan]] = {}
        self._own = ""

    def of(self, directory: str) -> tuple[Experiment, Plan]:
        if directory not in self._open:
            self._add(directory)
        return self._open[directory]

    def _add(self, directory: str) -> None:
        from w2sr_jax.configuration import saved
        from w2sr_jax.stages.plan import plan

        if len(self._open) >= _KEPT:
            self._open.pop(next(iter(self._open)))
        if saved.has_code(Path(directory)):
            self._open.pop(self._own, None)
            self._own = directory
        # The pool's process has just executed this very code and saved it; where nothing can be remembered for the account, it
        # could not be known as trusted here.
        experiment = saved.load_trusted(Path(directory), trusted=True)
        self._open[directory] = experiment, plan(experiment)


if __name__ == "__main__":
    main()
