"""Of several processes each one says how it goes on, and the first one shows it."""

import time

from w2sr_jax.graph.stage import Watcher
from w2sr_jax.parallel import processes
from w2sr_jax.parallel.pace import Rate


class Reporting:
    """A `graph.stage.Watcher` that tells the first process what `watcher` is told, and adds to it what that one knows of all."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._rate, self._total = watcher, Rate(), 0.0

    def begin(self, stage: str, index: int, total: int) -> None:
        self._rate = Rate()
        processes.report({"stage": stage, "done": 0.0, "total": 0.0, "rate": 0.0, "waiting": 0.0})
        self._watcher.begin(stage, index, total)

    def progress(self, done: float, total: float, detail: str) -> None:
        if total != self._total:  # another part of the stage's work
            self._rate, self._total = Rate(), total
        words = processes.report({"done": done, "total": total, "rate": self._rate.at(done, time.monotonic())})
        self._watcher.progress(done, total, ", ".join(filter(None, (detail, words))))

    def end(self, stage: str, note: str, seconds: float | None) -> None:
        self._watcher.end(stage, note, seconds)

    def drop(self) -> None:
        self._watcher.drop()

    def say(self, message: str) -> None:
        self._watcher.say(message)

    def warn(self, message: str) -> None:
        self._watcher.warn(message)

    def beside(self) -> "Reporting":
        return Reporting(self._watcher.beside())
