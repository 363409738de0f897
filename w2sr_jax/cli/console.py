"""What a person sees while a run goes on: a line per stage, a bar for the one at work, plain lines without a terminal."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console as Rich
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from w2sr_jax.core import sentences
from w2sr_jax.core.process import terminal

if TYPE_CHECKING:
    from w2sr_jax.graph.planner import StageStatus
    from w2sr_jax.report.requirements.judging import Finding

QUIET = 15.0  # seconds between lines of progress where there is no terminal


class Line:
    """A `graph.stage.Watcher` that draws the stage at work on a console. What it is told may quote strangers: names and notes
    come on one line, and nothing in them steers the terminal."""

    def __init__(self, console: "Console") -> None:
        self._console = console
        self._bar: Any = None
        self._name, self._started, self._spoke = "", 0.0, 0.0

    def begin(self, stage: str, index: int, total: int) -> None:
        self._name, self._started, self._spoke = sentences.printable(stage), time.monotonic(), time.monotonic()
        self._remove_bar()
        if self._console.live:
            self._bar = self._console.bar.add_task(escape(f"[{index + 1}/{total}] {self._name}"), total=None, detail="")

    def progress(self, done: float, total: float, detail: str) -> None:
        detail = sentences.printable(detail)
        if self._bar is not None:
            self._console.bar.update(self._bar, completed=done, total=total, detail=escape(detail))
        elif time.monotonic() - self._spoke > QUIET and done:
            self._spoke = time.monotonic()
            left = (self._spoke - self._started) / done * (total - done)
            eta = "" if detail.endswith("left") else f", ETA {left:,.0f} s"
            self._console.line(f"    {self._name}: {done / total:.0%}, {detail}{eta}")

    def end(self, stage: str, note: str, seconds: float | None) -> None:
        if sentences.printable(stage) == self._name:  # of several side by side, another one may have taken no work
            self._remove_bar()
        spent = "   done  " if seconds is None else f"{seconds:7.1f} s"
        self._console.line(f"{spent}  {sentences.printable(stage):<34}  {sentences.printable(note)}")

    def drop(self) -> None:
        self._remove_bar()

    def say(self, message: str) -> None:
        self._console.line(f"    {sentences.printable(message)}")

    def warn(self, message: str) -> None:
        self._console.line(f"w2sr: {sentences.printable(message)}", "yellow")

    def beside(self) -> "Line":
        return Line(self._console)

    def _remove_bar(self) -> None:
        if self._bar is not None:
            self._console.bar.remove_task(self._bar)
            self._bar = None


class Console(Line):
    """Where all of it is drawn."""

    def __init__(self, plain: bool = False) -> None:
        super().__init__(self)
        self.rich = Rich(highlight=False, soft_wrap=True, file=terminal.unguarded(sys.stdout))
        self.live = self.rich.is_terminal and not plain
        self.bar = Progress(
            TextColumn("  [bold]{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.rich,
            transient=True,
        )

    def __enter__(self) -> "Console":
        if self.live:
            self.bar.start()
            terminal.guard()  # over what the bar puts in the streams' place, and takes away again
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bar.stop()

    def line(self, text: str, style: str | None = None) -> None:
        """A line, or several, as they are but for what steers a terminal."""
        self.rich.print(terminal.escaped(text), markup=False, highlight=False, soft_wrap=True, style=style)

    def rehearsal(self) -> None:
        """Before anything is done: that this is only a rehearsal."""
        from w2sr_jax.report.headline import REHEARSAL

        self.warn(REHEARSAL)

    def finding(self, finding: "Finding") -> None:
        """Whether a requirement is met; what is not met goes to the standard error."""
        for line in finding.lines:
            if finding.met:
                self.line(f"required {line}")
            else:
                print(terminal.escaped(f"w2sr: required {line}"), file=sys.stderr)

    def summary(self, page: Path) -> None:
        """What happened on every rung, the answer, and where the report is."""
        from w2sr_jax.report.headline import headline
        from w2sr_jax.report.notes import skipped
        from w2sr_jax.report.write import read, read_timings

        results = read(page.parent)
        lines = [*headline(results, read_timings(page.parent)).lines(), *(f"Note: {note}" for note in skipped(results))]
        self.line("\n" + "\n".join(lines) + f"\n\nReport: {page}")


_STATES = {"stands": "stands", "shared": "shared", "due": "to do", "waits": "waits"}


def statuses(planned: "Sequence[StageStatus]", prefix: str = "") -> list[str]:
    """What would be done about every stage, a line each, and how many stand."""
    width = max((len(prefix + status.stage.name) for status in planned), default=0)
    lines = [f"{_STATES[status.state]:<7} {prefix + status.stage.name:<{width}}  {status.why}" for status in planned]
    counts = {state: sum(status.state == state for status in planned) for state in _STATES}
    summary = ", ".join(f"{count} {_STATES[state]}" for state, count in counts.items() if count)
    return [*map(sentences.printable, lines), f"{summary}. Nothing was written."]
