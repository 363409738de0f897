"""What a training run writes down as it goes: metrics.jsonl, probe.jsonl, timings.jsonl, sittings.jsonl and TensorBoard scalars.

`metrics.jsonl` holds one JSON object per logged step, `probe.jsonl` one per step at which the student was looked at, and nothing
that depends on the clock: after an interruption and a resume they have the same bytes as without. Times are in `timings.jsonl`
and `sittings.jsonl`; the latter also keeps those of steps that were lost (see `goodput`).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

from w2sr_jax.core import files
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process.stopping import Terminated
from w2sr_jax.training.goodput import SITTINGS, Clock
from w2sr_jax.training.scalars import Scalars, State, Values

METRICS, PROBE, TIMINGS, BOARD = "metrics.jsonl", "probe.jsonl", "timings.jsonl", "tensorboard"
_BOARD_SECONDS = 30.0  # a reader of TensorBoard's events waits no longer for them


class Journal:
    """Appends to the files of one run, from `step` on (None: from nothing): lines of later steps, left by an interrupted run, are
    dropped. `owner` is a digest of all that determines the training, `on` says what it is computed on; `others` get its scalars,
    too."""

    def __init__(
        self,
        directory: Path,
        step: int | None,
        owner: str = "",
        clock: Clock | None = None,
        others: Scalars | None = None,
        on: str = "",
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name in (METRICS, PROBE, TIMINGS):
            _keep_until(directory / name, -1 if step is None else step)
        self._directory = directory
        self._sinks: dict[str, IO[str]] = {}
        self._board = _Board(directory / BOARD, 0 if step is None else step + 1)
        self._clock, self._step, self._others = clock or Clock(), step or 0, others
        _keep_until(directory / SITTINGS, sys.maxsize)
        self._append(SITTINGS, self._step, {"owner": owner, "on": on, **self._clock.seconds()})
        if others is not None:
            others.begin(owner, _earlier(directory))

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        failed = None
        if self._others is not None:
            self._others.end(_state(kind))
        last = partial(self._append, SITTINGS, self._step, self._clock.seconds())
        closing: list[Callable[[], None]] = [last, *(sink.close for sink in self._sinks.values()), self._board.close]
        for close in closing:
            try:
                close()
            except OSError as error:  # what could not be written before cannot be written now
                failed = error
        if failed is not None and kind is None:
            raise failed

    def write(self, step: int, metrics: Mapping[str, float | None], timings: Mapping[str, float]) -> None:
        """One line each; on disk (as far as a killed process is concerned) when this returns, TensorBoard's events later."""
        self._append(METRICS, step, metrics)
        self._append(TIMINGS, step, timings)
        self._append(SITTINGS, step, self._clock.seconds())
        self._step = step
        rate = timings["tokens"] / max(timings["seconds"], 1e-9)
        self._show("train", step, {**metrics, "tokens_per_second": rate})

    def probe(self, step: int, values: Values) -> None:
        """One line of what was seen at a step, as durable as those of `write`."""
        self._append(PROBE, step, values)
        self._show("probe", step, values)

    def sync(self) -> None:
        """Return when all lines would survive a loss of power: a checkpoint must not be newer than what was written before it."""
        for sink in self._sinks.values():
            os.fsync(sink.fileno())

    def _show(self, group: str, step: int, values: Values) -> None:
        self._board.scalars(step, {f"{group}/{name}": value for name, value in values.items()})
        if self._others is not None:
            self._others.scalars(group, step, values)

    def _append(self, name: str, step: int, values: Mapping[str, float | int | str | None]) -> None:
        if name not in self._sinks:
            self._sinks[name] = open(self._directory / name, "a", encoding="utf-8")  # noqa: SIM115 (closed in __exit__)
        self._sinks[name].write(files.canonical_json({"step": step, **values}) + "\n")
        self._sinks[name].flush()


class _Board:
    """TensorBoard's event file, opened at the first scalar. tensorboardX's own writer has a thread, which a full disk
    ends in silence, and training would wait for it for ever."""

    def __init__(self, directory: Path, first: int) -> None:
        self._directory, self._first, self._flushed = directory, first, time.monotonic()
        self._writer: Any = None

    def scalars(self, step: int, values: Values) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items() if value is not None]
        self._open().write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        if time.monotonic() - self._flushed > _BOARD_SECONDS:
            self._flushed = time.monotonic()
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _open(self) -> Any:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        if self._writer is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            # Sittings that begin in the same second have files of their own.
            self._writer = EventsWriter(str(self._directory / "events"), f".{self._first}")
            # Hides the scalars of this step and later ones that an interrupted run left.
            self._writer.write_event(Event(step=self._first, session_log=SessionLog(status=SessionLog.START)))
        return self._writer


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of one of the files, oldest first; a last line that was cut off by a kill is left out; no file, no lines.
    `UserError` names a line that is damaged."""
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        if line is None:
            raise UserError(f"{path}, line {number} is damaged: it is not a JSON object with a step")
    return [line for line in lines if line is not None]


def lacks(path: Path, steps: Iterable[int]) -> str | None:
    """What keeps the file from being continued after these steps, in words: a damaged line, or the first step without one."""
    try:
        written = {line["step"] for line in read(path)}
    except UserError as error:
        return str(error)
    missing = next((step for step in steps if step not in written), None)
    return None if missing is None else f"{path} has no line of step {missing}"


def _state(kind: type[BaseException] | None) -> State:
    """How a training ends that is left with an exception of this type."""
    if kind is None:
        return "finished"
    return "stopped" if issubclass(kind, Stopped | Terminated | KeyboardInterrupt) else "failed"


def _earlier(directory: Path) -> list[tuple[str, int, Values]]:
    """What was written of the steps so far."""
    groups = (("train", METRICS), ("probe", PROBE))
    whole = [(group, line) for group, name in groups for line in _lines(directory / name) if line is not None]
    return [(group, line["step"], {key: value for key, value in line.items() if key != "step"}) for group, line in whole]


def _lines(path: Path) -> list[dict[str, Any] | None]:
    return [_line(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.is_file() else []


def _line(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and isinstance(value.get("step"), int) else None


def _keep_until(path: Path, step: int) -> None:
    if path.is_file():
        kept = "".join(files.canonical_json(line) + "\n" for line in _lines(path) if line is not None and line["step"] <= step)
        if kept.encode() != path.read_bytes():
            files.write_text(path, kept)
