"""The `w2sr` command in a process that can be killed at a chosen moment, with shards so small that a small ladder has several.

    python tools/kill/child.py ORDER.json run tools/kill/ladder.py --root DIRECTORY

ORDER.json holds `pipe` (a file descriptor, told `up` at the start), `stages` (their names in order), and may hold `moment`,
`stage` and `call`: this call of the moment in this stage, or the first one after it, is told to the pipe (`in`, `out`), and the
process kills itself there where the moment says so. With `tell`, the pipe is told of stages (`stage NAME`). With `calls` (a
file), all calls are noted with stage and seconds.
"""

import contextlib
import fnmatch
import functools
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from moments import AFTER, BEFORE, EVERY, START, Moment

from w2sr_jax.cli import main as cli
from w2sr_jax.core.process import stopping

SHARD = 64  # traces of a file


class Watch:
    """Counts a process's calls of the moments by stage, and acts on the one that was ordered."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.stage = START
        self.counts: dict[tuple[str, str], int] = {}
        self.calls: list[dict[str, Any]] = []
        self.began = time.monotonic()
        self.done = False
        self.lock = threading.Lock()  # Orbax saves in threads

    def enter(self, stage: str) -> None:
        """A stage begins."""
        self.stage = stage
        if self.order.get("tell"):
            self._tell(f"stage {stage}")

    def enters(self, moment: Moment) -> bool:
        """Whether this call is the ordered one; it is counted."""
        with self.lock:
            number = self.counts.get((moment.name, self.stage), 0)
            self.counts[moment.name, self.stage] = number + 1
            if self.done or moment.name != self.order.get("moment"):
                return False
            ordered = [START, *self.order["stages"]]
            here, wanted = ordered.index(self.stage), ordered.index(self.order["stage"])
            self.done = here > wanted or (here == wanted and number >= self.order["call"])
            return self.done

    @contextlib.contextmanager
    def around(self, moment: Moment) -> Iterator[None]:
        """What surrounds each call."""
        stage, number, started = self.stage, self.counts.get((moment.name, self.stage), 0), time.monotonic()
        ordered = self.enters(moment)
        if ordered:
            self._tell("in")
            if moment.when == BEFORE:
                os.killpg(0, signal.SIGKILL)
        yield
        if ordered and moment.when == AFTER:
            os.killpg(0, signal.SIGKILL)
        if ordered and not moment.linger:
            self._tell("out")
        seconds = time.monotonic() - started + moment.linger
        begins = started - self.began
        self.calls.append({"moment": moment.name, "stage": stage, "call": number, "seconds": seconds, "begins": begins})

    def _tell(self, word: str) -> None:
        os.write(self.order["pipe"], f"{word}\n".encode())


def install(watch: Watch, moments: Sequence[Moment]) -> None:
    """Surround the moments' functions, and note which stage is at work."""
    for moment in moments:
        module_name, _, path = moment.target.partition(":")
        holder: Any = importlib.import_module(module_name)
        *parents, name = path.split(".")
        for parent in parents:
            holder = getattr(holder, parent)
        setattr(holder, name, _surrounded(getattr(holder, name), watch, moment))

    from w2sr_jax.graph import hosts, runner
    from w2sr_jax.sampling import shards

    original: Callable[..., Any] = runner.do

    def do(stage: Any, *arguments: Any) -> Any:
        watch.enter(stage.name)
        return original(stage, *arguments)

    called = hosts._called

    def calls(plan: Any) -> Iterator[Any]:
        for stage in called(plan):
            watch.enter(stage.name)
            yield stage

    runner.do, hosts._called = do, calls
    shards.draw_shards = functools.partial(shards.draw_shards, shard=SHARD)


def _surrounded(function: Callable[..., Any], watch: Watch, moment: Moment) -> Callable[..., Any]:
    @functools.wraps(function)
    def surrounded(*arguments: Any, **named: Any) -> Any:
        if moment.file and not any(_names(argument, moment.file) for argument in arguments):
            return function(*arguments, **named)
        with watch.around(moment):
            return function(*arguments, **named)

    return surrounded


def _names(argument: Any, ending: str) -> bool:
    return isinstance(argument, str | Path) and fnmatch.fnmatch(str(argument), f"*{ending}")


def main() -> None:
    stopping.until_exit()
    order = json.loads(Path(sys.argv[1]).read_text())
    watch = Watch(order)
    wanted = [moment for moment in EVERY if "calls" in order or moment.name == order.get("moment")]
    install(watch, wanted)
    if "pipe" in order:
        watch._tell("up")
    code = cli.run(sys.argv[2:])
    if "calls" in order:
        Path(order["calls"]).write_text(json.dumps(watch.calls))
    sys.exit(code)


if __name__ == "__main__":
    main()
