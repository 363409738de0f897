"""One attempt to run the ladder: a process, the signal it gets, and how it ended."""

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import check
from moments import DURING, START, Moment
from surroundings import HERE, Cache, environment

GRACE = 10.0  # seconds between SIGTERM and the end
LONGEST = 900.0  # seconds until an attempt counts as hanging


@dataclasses.dataclass(frozen=True)
class Strike:
    """One signal to deliver: `delay` seconds after the moment's call begins (from the start, where there is no moment)."""

    label: str
    delay: float
    order: float
    moment: Moment | None = None
    stage: str = START
    call: int = 0
    number: int = signal.SIGKILL


class Ended(NamedTuple):
    """`waited`: seconds from the signal to the end. `said`: what went wrong, as sentences."""

    code: int
    struck: bool
    inside: bool
    seconds: float
    waited: float
    said: list[str]


class Runs:
    """Starts the command on the configuration `ladder` of this folder, in one directory after another, always with the same
    surroundings."""

    def __init__(self, directory: Path, ladder: str = "ladder.py") -> None:
        self.directory, self.ladder = directory, ladder
        self.stages: list[str] = []
        self.attempts = 0

    def run(
        self, name: str, strike: Strike | None = None, cache: Cache = "read", calls: Path | None = None, beside: str = ""
    ) -> Ended:
        """One process on the run NAME/ladder, or on BESIDE/NAME, which has the run BESIDE/ladder beside it, to its end."""
        self.attempts += 1
        token = f"{os.getpid()}-{self.attempts}"
        read, write = os.pipe()
        order: dict[str, Any] = {"pipe": write, "stages": self.stages}
        if strike is not None and strike.moment is not None:
            order |= {"moment": strike.moment.name, "stage": strike.stage, "call": strike.call}
        if calls is not None:
            order["calls"] = str(calls)
        orders, log = self.directory / "order.json", self.directory / f"{name}.log"
        orders.write_text(json.dumps(order))
        command = [sys.executable, str(HERE / "child.py"), str(orders), "run", str(HERE / self.ladder)]
        run = self.directory / beside / name if beside else self.directory / name / "ladder"
        command += ["--root", str(run.parent), "--name", run.name, "--plain"]
        wall, started = time.time(), time.monotonic()
        with open(log, "wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment(self.directory, token, cache),
                start_new_session=True,
                pass_fds=(write,),
            )
        os.close(write)
        try:
            struck, inside, waited = _strike(process, read, strike)
        finally:
            os.close(read)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        text = log.read_text(errors="replace")
        said = [f"process {pid} outlived its parent" for pid in check.orphans(token)]
        said += [f"a traceback: {text[-2000:]}"] if "Traceback" in text else []
        said += self._judge(run, strike, process.returncode, struck, waited, wall, text)
        return Ended(process.returncode, struck, inside, time.monotonic() - started, waited, said)

    def _judge(
        self, run: Path, strike: Strike | None, code: int, struck: bool, waited: float, wall: float, text: str
    ) -> list[str]:
        if struck and strike is not None and strike.number == signal.SIGTERM:
            said = check.unsaved(run, wall) if code == 143 else []
            said += [f"SIGTERM ended with code {code}: {text[-500:]}"] if code not in (143, 0) else []
            return said + ([f"SIGTERM took {waited:.1f} s"] if waited > GRACE else [])
        if code not in (0, -signal.SIGKILL) or (code != 0 and not struck):
            return [f"ended with code {code}: {text[-2000:]}"]
        return []


def _strike(process: "subprocess.Popen[bytes]", read: int, strike: Strike | None) -> tuple[bool, bool, float]:
    """Wait for the moment, deliver the signal, wait for the end. Whether it was delivered, whether the moment's function was
    still at work, and how many seconds the end took."""
    hanging = time.monotonic() + LONGEST
    due = None
    inside, open_end, text = True, True, ""
    while process.poll() is None and time.monotonic() < hanging:
        now = time.monotonic()
        if strike is not None and due is not None and now >= due:
            alone = strike.number == signal.SIGTERM or (strike.moment is not None and strike.moment.alone)
            os.kill(process.pid, strike.number) if alone else os.killpg(process.pid, strike.number)
            process.wait(timeout=LONGEST)
            return True, inside, time.monotonic() - now
        wait = 0.2 if due is None else max(0.0, min(0.2, due - now))
        if open_end and select.select([read], [], [], wait)[0]:
            data = os.read(read, 100)
            open_end = bool(data)
            text += data.decode()
            begins = "up" if strike is not None and strike.moment is None else "in"
            if strike is not None and due is None and begins in text.split():
                due = time.monotonic() + strike.delay
            inside = "out" not in text.split()
        elif not open_end:
            time.sleep(wait)
    # A process that ends itself at the ordered place has said before that it got there.
    itself = strike is not None and strike.moment is not None and strike.moment.when != DURING and "in" in text.split()
    return itself and process.wait() == -signal.SIGKILL, True, 0.0
