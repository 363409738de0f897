"""Variants that are measured in turn, round by round, each in a process that stays: what it compiles, it compiles once.

The parent starts the workers one after the other; a worker sets itself up, says so on its standard output, and does one round for
each line that it reads. All that was measured is written after every round, in the form of `tools/bench/harness.py`.
"""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_MARK = "BENCH-WORKER "
PACKAGES = ("jax", "jaxlib", "jax-cuda13-plugin", "flax", "optax", "numpy", "torch", "triton", "transformers")

Metrics = dict[str, Any]
"""Numbers by name; facts may stand beside them."""
Round = Callable[[], Metrics]


@dataclasses.dataclass(frozen=True)
class Variant:
    """A worker: `script --worker JSON`, the JSON being `work` and `options`."""

    name: str
    work: str
    options: Mapping[str, Any]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Part:
    """What a script of this folder measures; `lines` are the `Line`s of the harness, as dictionaries."""

    name: str
    title: str
    about: tuple[str, ...]
    lines: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]


class Failed(Exception):
    """A worker ended, or took too long; the message says why."""


class Results:
    """Runs of one part, written to a file as they come."""

    def __init__(self, part: Part, path: Path | None) -> None:
        self.part, self.path = part, path
        self.runs: list[dict[str, Any]] = []
        self.device: Mapping[str, Any] = {}

    def add(self, variant: str, number: int, case: str, found: Metrics, error: str | None, seconds: float) -> None:
        found = dict(found)
        run = {"key": variant, "variant": variant, "round": number, "found": {case: found} if found else {}, "error": error}
        self.runs.append({**run, "seconds": round(seconds, 2), "load": os.getloadavg()[0]})
        words = error or ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()
        )
        print(f"  {self.part.name} {number + 1}  {variant:<32} {seconds:6.1f} s  {words[-600:]}", flush=True)
        self.write()

    def write(self) -> None:
        if self.path is None:
            return
        found = {
            "schema": 1,
            "subject": self.part.name,
            "title": self.part.title,
            "about": list(self.part.about),
            "date": datetime.date.today().isoformat(),
            "machine": {**machine(), **self.device},
            "versions": versions(),
            "settings": dict(self.part.settings),
            "lines": list(self.part.lines),
            "runs": self.runs,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        temporary.replace(self.path)


def line(name: str, case: str, metric: str, unit: str, **more: Any) -> dict[str, Any]:
    """A `Line` of the harness."""
    plain: dict[str, Any] = {"better": "higher", "ours": "w2sr_jax", "peers": [], "target": None, "limit": ""}
    return {"name": name, "case": case, "metric": metric, "unit": unit, **plain, **more}


def interleave(
    results: Results,
    script: str,
    variants: Sequence[Variant],
    rounds: int,
    deadline: float,
    case: str,
    add: Callable[[Metrics], Metrics] = lambda found: found,
) -> None:
    """Starts the variants, then measures them in turn until all rounds are done or `deadline` (of `time.monotonic`) has come.

    `add` gives what a round has measured with what follows from it. A variant that fails is left out from there on."""
    workers: dict[str, _Worker] = {}
    setups: dict[str, Metrics] = {}
    try:
        for variant in variants:
            started = time.monotonic()
            try:
                workers[variant.name] = _Worker(script, variant)
                ready = workers[variant.name].answer(deadline - started)
                results.device = ready.pop("device", results.device)
                setups[variant.name] = {**ready, "setup_s": time.monotonic() - started}
                print(f"  {results.part.name} 0  {variant.name:<32} {time.monotonic() - started:6.1f} s  ready", flush=True)
            except Failed as error:
                results.add(variant.name, 0, case, {}, str(error), time.monotonic() - started)
                workers.pop(variant.name).close()
        for number in range(rounds):
            for name in list(workers):
                started = time.monotonic()
                try:
                    found = workers[name].round(deadline - started)
                    results.add(name, number, case, add({**found, **setups[name]}), None, time.monotonic() - started)
                except Failed as error:
                    results.add(name, number, case, {}, str(error), time.monotonic() - started)
                    workers.pop(name).close()
    finally:
        for worker in workers.values():
            worker.close()


def serve(text: str, works: Mapping[str, Callable[..., tuple[Round, dict[str, Any]]]]) -> None:
    """The worker's side: sets up what `text` names, then does a round for each line of standard input.

    A work returns its round and what its set-up found (numbers, and `device`: facts of the machine)."""
    job = json.loads(text)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is not an answer
    once, found = works[job["work"]](**job["options"])
    print(_MARK + json.dumps(found), file=out, flush=True)
    for _ in sys.stdin:
        print(_MARK + json.dumps(once()), file=out, flush=True)
    os._exit(0)  # torch and XLA take seconds to let go of a device


def machine() -> dict[str, Any]:
    """The host."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    host = {"processor": names[0] if names else platform.machine(), "cores": os.cpu_count(), "memory_gib": round(memory, 1)}
    return {**host, "system": f"{platform.system()} {platform.machine()}", "python": platform.python_version()}


def versions() -> dict[str, str]:
    """Versions of the packages that are compared, those that are here."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


class _Worker:
    def __init__(self, script: str, variant: Variant) -> None:
        text = json.dumps({"work": variant.work, "options": dict(variant.options)})
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, script, "--worker", text],
            env={**os.environ, **variant.environment, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def round(self, timeout: float) -> Metrics:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("round\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise Failed(self._why()) from None
        return self.answer(timeout)

    def answer(self, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout
        while True:
            try:
                text = self._lines.get(timeout=max(0.1, until - time.monotonic()))
            except queue.Empty:
                raise Failed("not done in time") from None
            if text is None:
                raise Failed(self._why())
            if text.startswith(_MARK):
                answer: dict[str, Any] = json.loads(text[len(_MARK) :])
                return answer

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text)
        self._lines.put(None)

    def _why(self) -> str:
        code = self._process.wait()
        self._log.seek(0)
        return f"ended with {code}: {self._log.read()[-1500:].strip()}"
