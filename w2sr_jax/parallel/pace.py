"""How fast each process of a run goes on, as the first one learns it from the signs of life of the others (`peers`): who is slow,
and who is silent."""

import dataclasses
import statistics
import threading
from collections.abc import Mapping
from typing import Any

SLOW = 1.5  # times slower than the median: then a process is named
WAITS = 0.25  # more of its time than the median that a process waits for batches: then it is named
QUIET = 5.0  # seconds without a sign of life after which a process is named; `peers.SILENT` ends the run
STUCK = 60.0  # seconds without progress after which a process that is behind others is named


@dataclasses.dataclass(frozen=True)
class Report:
    """What a process says of the work of a stage: `done` of `total` (steps, problems, traces) at `rate` per second. `waiting` is
    the share of its time in which it waits for batches; steps that all take together have one rate, and this tells who delays
    them."""

    stage: str = ""
    done: float = 0.0
    total: float = 0.0
    rate: float = 0.0
    waiting: float = 0.0

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Report":
        """From what another process sent: what is no number counts as 0."""
        numbers = {name: _number(message.get(name)) for name in ("done", "total", "rate", "waiting")}
        return cls(str(message.get("stage", ""))[:200], **numbers)


class Pace:
    """The last report of every process, and when it moved on. Times are of one clock that only goes forward."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._reports: dict[int, Report] = {}
        self._moved: dict[int, float] = {}
        self._named: set[tuple[str, int]] = set()
        self._lock = threading.Lock()  # one thread reports, another one listens

    def take(self, index: int, report: Report, now: float) -> None:
        with self._lock:
            before = self._reports.get(index)
            if before is None or (before.stage, before.done) != (report.stage, report.done):
                self._moved[index] = now
            self._reports[index] = report

    def words(self) -> str:
        """How the processes that are at work on the first one's stage go, in words: their rates, where each has one, and who is
        slow. Empty where there is nothing to compare."""
        at = self._at_work()
        rates = {index: report.rate for index, report in at.items() if report.rate > 0 and report.done < report.total}
        if len(rates) < 2:
            return ""
        median, slowest = statistics.median(rates.values()), min(rates, key=lambda index: rates[index])
        if rates[slowest] * SLOW < median:
            return f"process {slowest} is slow: {_rate(rates[slowest])}, median {_rate(median)}"
        waits = {index: report.waiting for index, report in at.items()}
        longest = max(waits, key=lambda index: waits[index])
        if waits[longest] > statistics.median(waits.values()) + WAITS:
            return f"process {longest} delays the others: it waits for its batches {waits[longest]:.0%} of the time"
        return f"{len(rates)} processes at {_rate(rates[slowest])} to {_rate(max(rates.values()))}"

    def news(self, heard: Mapping[int, float], now: float) -> list[str]:
        """What is to be said once, in sentences: a process whose last sign of life, in `heard`, is long ago; one that does not
        go on while others do; and when it does again."""
        at = self._at_work()
        ahead = max((report.done for report in at.values()), default=0.0)
        said = []
        for index in sorted({*heard, *at}):
            silence = now - heard.get(index, now)
            words = f"process {index} of {self._count} has not been heard of for {silence:.0f} s"
            said += self._once(("quiet", index), silence > QUIET, words, f"process {index} is heard of again")
            report = at.get(index)
            if report is None:
                continue
            still = now - self._moved[index]
            behind = report.done < ahead and report.done < report.total
            words = (
                f"process {index} of {self._count} has not gone on for {still:.0f} s, at {report.done:,.0f} of "
                f"{report.total:,.0f} of {report.stage}"
            )
            said += self._once(("stuck", index), still > STUCK and behind, words, f"process {index} goes on")
        return said

    def _once(self, key: tuple[str, int], true: bool, begins: str, ends: str) -> list[str]:
        if true == (key in self._named):
            return []
        (self._named.add if true else self._named.discard)(key)
        return [begins if true else ends]

    def _at_work(self) -> dict[int, Report]:
        """The reports of the processes that are at the first one's stage."""
        with self._lock:
            first = self._reports.get(0, Report())
            return {index: report for index, report in self._reports.items() if report.stage == first.stage != ""}


class Rate:
    """The rate of something that is done bit by bit, over the last `window` seconds of it."""

    def __init__(self, window: float = 30.0) -> None:
        self._window = window
        self._seen: list[tuple[float, float]] = []

    def at(self, done: float, now: float) -> float:
        """Per second; 0 where there is nothing to compare with. Where less is done than before, it began anew."""
        if self._seen and done < self._seen[-1][1]:
            self._seen = []
        self._seen = [*(seen for seen in self._seen if now - seen[0] <= self._window or seen is self._seen[-1]), (now, done)]
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return (after - before) / (last - first) if last > first else 0.0


def _number(value: Any) -> float:
    sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15  # and no NaN
    return float(value) if sound else 0.0


def _rate(rate: float) -> str:
    return f"{rate:,.3g}/s"
