"""How much of a training's time went into steps that count, and what interruptions cost.

`sittings.jsonl` holds what that is computed from. A sitting is what one command does of a training: its first line has `owner`, a
digest of all that determines the training, the step from which it goes on, and what it is computed `on`; a line is added at every
logged step and at the end. `elapsed` and `stepping` are seconds of the sitting so far: all, and those in which steps were
computed, without compiling, saving and probing.
"""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SITTINGS = "sittings.jsonl"


@dataclasses.dataclass(frozen=True)
class Goodput:
    """Of a training, over all its sittings. `wall`: seconds from the beginning of each sitting to its last sign of life, without
    the pauses between sittings. `stepping`: seconds in steps that were not computed again later. `lost_steps`, `lost_seconds`:
    steps that were, and the time in them, as far as they were logged. `sittings`: how many there were."""

    wall: float
    stepping: float
    lost_steps: int
    lost_seconds: float
    sittings: int

    @property
    def share(self) -> float:
        """Goodput: the share of the time in steps that count."""
        return self.stepping / self.wall if self.wall > 0 else 0.0


class Clock:
    """The seconds of one sitting. It began at `began` (of `time.monotonic`; None: now), and its steps begin with `start`."""

    def __init__(self, began: float | None = None) -> None:
        self._began = time.monotonic() if began is None else began
        self._started: float | None = None
        self._aside = 0.0

    def start(self) -> None:
        self._started = time.monotonic()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """What is done inside counts for no step."""
        before = time.monotonic()
        try:
            yield
        finally:
            self._aside += time.monotonic() - before

    def seconds(self) -> dict[str, float]:
        """`elapsed` and `stepping` now."""
        now = time.monotonic()
        stepping = 0.0 if self._started is None else now - self._started - self._aside
        return {"elapsed": round(now - self._began, 3), "stepping": round(max(0.0, stepping), 3)}


def goodput(lines: Sequence[Mapping[str, Any]]) -> Goodput:
    """What the lines of `sittings.jsonl` sum up to. Sittings of another owner than the last one's are another training's, and do
    not count."""
    sittings = _sittings(lines)
    wall = stepping = lost_seconds = 0.0
    lost_steps = 0
    for sitting, following in itertools.zip_longest(sittings, sittings[1:]):
        last = sitting[-1]
        goes_on = last["step"] if following is None else following[0]["step"]
        counted = last["stepping"] if goes_on >= last["step"] else _stepping_at(sitting, goes_on)
        wall += last["elapsed"]
        stepping += counted
        lost_seconds += last["stepping"] - counted
        lost_steps += max(0, last["step"] - max(goes_on, sitting[0]["step"]))
    return Goodput(round(wall, 3), round(stepping, 3), lost_steps, round(lost_seconds, 3), len(sittings))


def changes(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """After which steps a training went on elsewhere, and on what, as the lines of `sittings.jsonl` say it; what it began on
    comes first."""
    begun = [(int(sitting[0]["step"]), str(sitting[0].get("on", ""))) for sitting in _sittings(lines)]
    chosen = [each for index, each in enumerate(begun) if not index or each[1] != begun[index - 1][1]]
    return [{"after_step": step, "on": on} for step, on in chosen]


def _sittings(lines: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The lines of each sitting of the last owner, in order."""
    sittings: list[list[Mapping[str, Any]]] = []
    for line in lines:
        if "owner" in line:
            sittings.append([])
        if sittings:
            sittings[-1].append(line)
    owner = sittings[-1][0]["owner"] if sittings else None
    return [sitting for sitting in sittings if sitting[0]["owner"] == owner]


def _stepping_at(sitting: Sequence[Mapping[str, Any]], step: int) -> float:
    """Seconds of a sitting in steps up to one of them; between two lines, in proportion."""
    if step <= sitting[0]["step"]:
        return 0.0
    for before, after in itertools.pairwise(sitting):
        if after["step"] >= step:
            share = (step - before["step"]) / max(1, after["step"] - before["step"])
            return float(before["stepping"] + share * (after["stepping"] - before["stepping"]))
    return float(sitting[-1]["stepping"])
