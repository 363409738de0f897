"""One attempt to run a ladder in several processes: one of them gets a signal, and all must end."""

import dataclasses
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import check
from moments import DURING, START, Moment
from surroundings import HERE, environment

from w2sr_jax.core.bucket import Bucket

BOUND = 120.0
"""Seconds from the loss of a process to the end of all others."""
NOTICE = 15.0
"""Seconds from SIGTERM to the end of all."""
LONGEST = 900.0  # seconds until an attempt counts as hanging
RESTARTED = 75  # the exit code, besides those from 128 on, after which a cluster starts again


@dataclasses.dataclass(frozen=True)
class Strike:
    """One signal to one process: `delay` seconds after a call of the moment begins in process `watched` (from its start, where
    there is no moment). `order` says when in a ladder it is due."""

    label: str
    kind: str
    process: int
    watched: int
    number: int
    delay: float
    order: float
    moment: Moment | None = None
    stage: str = START
    call: int = 0


class Ended(NamedTuple):
    """`codes` are those of all processes, `stage` where process 0 was when the signal came, `waited` the seconds from it until
    the others had ended. `said`: what went wrong, as sentences."""

    codes: list[int]
    struck: bool
    stage: str
    seconds: float
    waited: float
    said: list[str]

    @property
    def finished(self) -> bool:
        return self.codes[0] == 0


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port: int = free.getsockname()[1]
        return port


def fetched(place: str, copy: Path) -> Path:
    """What lies at a place as a directory that can be looked at: itself, or of a bucket all objects in `copy`."""
    if "://" not in place:
        return Path(place)
    shutil.rmtree(copy, ignore_errors=True)
    bucket = Bucket(place)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: bucket.fetch(name, copy / name), bucket.listing()))
    return copy


class Shared:
    """Starts the command in `count` processes, again and again, on the configuration `ladder` of this folder with `settings` on
    the command line; each process has `devices`. `root` is a directory, or a place in a bucket: each process then has a directory
    of its own besides."""

    def __init__(
        self,
        directory: Path,
        count: int,
        root: str,
        ladder: str = "hosts_ladder.py",
        settings: Sequence[str] = (),
        devices: int = 1,
    ) -> None:
        self.directory, self.count, self.root = directory, count, root
        self.ladder, self.settings, self.devices = ladder, settings, devices
        self.stages: list[str] = []
        self.attempts = 0

    def place(self, name: str) -> list[str]:
        """The arguments that say where a ladder lies."""
        return ["--root", f"{self.root.rstrip('/')}/{name}"]

    def fetched(self, name: str) -> Path:
        """A finished ladder as a directory that can be looked at."""
        return fetched(f"{self.root.rstrip('/')}/{name}", self.directory / "fetched" / name) / "ladder"

    def run(
        self,
        name: str,
        strike: Strike | None = None,
        calls: bool = False,
        count: int = 0,
        overrides: Sequence[str] = (),
    ) -> Ended:
        """All processes (or another `count`) on the run NAME/ladder, to their end. With `calls`, each notes its calls in
        `calls-INDEX.json`."""
        self.attempts += 1
        count, token = count or self.count, f"{os.getpid()}-{self.attempts}"
        port = free_port()
        pipes, processes, logs = [], [], []
        started = time.monotonic()
        for index in range(count):
            read, write = os.pipe()
            order: dict[str, Any] = {"pipe": write, "stages": self.stages, "tell": index == 0}
            if strike is not None and strike.moment is not None and strike.watched == index:
                order |= {"moment": strike.moment.name, "stage": strike.stage, "call": strike.call}
            if calls:
                order["calls"] = str(self.directory / f"calls-{index}.json")
            orders, log = self.directory / f"order-{index}.json", self.directory / f"{name}-{index}.log"
            orders.write_text(json.dumps(order))
            command = [sys.executable, str(HERE / "child.py"), str(orders), "run", str(HERE / self.ladder), "--plain"]
            command += [*self.place(name), *self.settings, *overrides]
            command += ["--scratch", str(self.directory / f"scratch-{index}" / name)] if "://" in self.root else []
            if count > 1:
                command += ["--coordinator", f"localhost:{port}", "--processes", str(count), "--process", str(index)]
                command += ["--wait", "120"]
            with open(log, "wb") as output:
                processes.append(
                    subprocess.Popen(
                        command,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        env=environment(self.directory, token, "write" if calls else "read", self.devices),
                        start_new_session=True,
                        pass_fds=(write,),
                    )
                )
            os.close(write)
            pipes.append(read)
            logs.append(log)
        attempt = _Attempt(processes, pipes, strike)
        try:
            struck, waited = attempt.follow()
        finally:
            for read in pipes:
                os.close(read)
            for process in processes:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        texts = [log.read_text(errors="replace") for log in logs]
        codes = [process.returncode if process.returncode >= 0 else 128 - process.returncode for process in processes]
        said = attempt.said + [f"process {pid} outlived its parent" for pid in check.orphans(token)]
        said += [f"a traceback of process {index}: {text[-3000:]}" for index, text in enumerate(texts) if "Traceback" in text]
        said += _judged(codes, texts, strike if struck else None, waited)
        return Ended(codes, struck, attempt.stage, time.monotonic() - started, waited, said)


class _Attempt:
    """Processes that are at work, what they tell over their pipes, and the signal that one of them is to get."""

    def __init__(self, processes: "Sequence[subprocess.Popen[bytes]]", pipes: Sequence[int], strike: Strike | None) -> None:
        self.processes, self.strike = processes, strike
        self.open = dict(zip(pipes, range(len(pipes)), strict=True))
        self.told: list[list[str]] = [[] for _ in pipes]
        self.rest = ["" for _ in pipes]
        self.stage = START
        self.said: list[str] = []

    def follow(self) -> tuple[bool, float]:
        """Whether the signal was delivered, and how many seconds later the others had ended."""
        hanging, due, strike = time.monotonic() + LONGEST, None, self.strike
        while any(process.poll() is None for process in self.processes):
            now = time.monotonic()
            if now > hanging:
                self.said.append(f"hung for {LONGEST:.0f} s")
                return False, 0.0
            if strike is not None:
                begins = "up" if strike.moment is None else "in"
                if due is None and begins in self.told[strike.watched]:
                    due = now + strike.delay
                itself = strike.moment is not None and strike.moment.when != DURING and due is not None
                if itself or (due is not None and now >= due):
                    victim = self.processes[strike.process]
                    if itself:
                        victim.wait(timeout=BOUND)
                    elif victim.poll() is not None:
                        strike = None
                        continue
                    else:
                        os.kill(victim.pid, strike.number)
                    return True, self._ends(strike)
            self._listen(0.1 if due is None else max(0.0, min(0.1, due - now)))
        return False, 0.0

    def _ends(self, strike: Strike) -> float:
        """Wait until all have ended; the seconds until those had that were not struck."""
        began = time.monotonic()
        others = [process for index, process in enumerate(self.processes) if index != strike.process]
        everyone = self.processes if strike.number == signal.SIGTERM else others
        while any(process.poll() is None for process in everyone) and time.monotonic() - began < 2 * BOUND:
            self._listen(0.1)
        waited = time.monotonic() - began
        victim = self.processes[strike.process]
        if strike.number == signal.SIGSTOP:  # it comes back, and must see that the others have gone
            os.kill(victim.pid, signal.SIGCONT)
        try:
            victim.wait(timeout=BOUND)
        except subprocess.TimeoutExpired:
            self.said.append(f"process {strike.process} did not end within {BOUND:.0f} s")
        return waited

    def _listen(self, seconds: float) -> None:
        if not self.open:
            time.sleep(seconds)
            return
        for read in select.select(list(self.open), [], [], seconds)[0]:
            index, data = self.open[read], os.read(read, 4096)
            if not data:
                del self.open[read]
                continue
            *lines, self.rest[index] = (self.rest[index] + data.decode()).split("\n")
            for line in lines:
                if line.startswith("stage "):
                    self.stage = line.removeprefix("stage ")
                else:
                    self.told[index].append(line)


def _judged(codes: Sequence[int], texts: Sequence[str], strike: Strike | None, waited: float) -> list[str]:
    ends = "; ".join(f"{index}: {text[-400:].strip()!r}" for index, text in enumerate(texts))
    if strike is None:
        return [] if set(codes) == {0} else [f"ended with codes {codes}, undisturbed: {ends}"]
    if codes[0] == 0:
        return []  # all was done before
    if strike.number == signal.SIGTERM:
        said = [] if set(codes) == {143} else [f"SIGTERM ended with codes {codes}: {ends}"]
        return said + ([f"SIGTERM took {waited:.1f} s"] if waited > NOTICE else [])
    others = [code for index, code in enumerate(codes) if index != strike.process]
    said = [f"ended with codes {codes}: {ends}"] if any(code != RESTARTED and code < 128 for code in others) else []
    if not any(f"process {strike.process} of" in text for index, text in enumerate(texts) if index != strike.process):
        said.append(f"nobody names process {strike.process}: {ends}")
    return said + ([f"the others needed {waited:.1f} s"] if waited > BOUND else [])
