"""Looking at a student while it learns: `Probing` says when and how, `probe.jsonl` holds what was seen."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training import journal


class Probing(NamedTuple):
    """`look` is called with a step and the parameters after it (on the mesh; the next step may overwrite them) before the first
    step, every `every` steps and after the last; what it returns becomes a line of `probe.jsonl`. It must depend on its arguments
    alone. It may raise `UserError` to end the training. With several processes, all call it."""

    every: int
    look: Callable[[int, Any], Mapping[str, float | int | None]]


class Prober:
    """Does the looking of one sitting, each step once over all sittings."""

    def __init__(self, probing: Probing | None, total: int) -> None:
        self._probing, self._total = probing, total
        self._seen: set[int] = set()

    def due(self, step: int) -> bool:
        if self._probing is None or step in self._seen:
            return False
        return step in (0, self._total) or (self._probing.every > 0 and step % self._probing.every == 0)

    def resume(self, directory: Path, step: int | None) -> None:
        """What was written up to the step at which this sitting goes on is not looked at again; None: it starts from nothing."""
        if self._probing is not None and step is not None:
            self._seen = {line["step"] for line in journal.read(directory / journal.PROBE) if line["step"] <= step}
            barrier(f"read {directory.name}/{journal.PROBE}")  # no process reads what another one adds

    def look(self, step: int, params: Any, writer: journal.Journal | None) -> None:
        assert self._probing is not None
        values = self._probing.look(step, params)
        self._seen.add(step)
        if writer is not None:
            writer.probe(step, {name: None if value is None else _plain(value) for name, value in values.items()})


def _plain(value: float | int) -> float | int | None:
    if isinstance(value, int):
        return value
    return float(value) if math.isfinite(value) else None
