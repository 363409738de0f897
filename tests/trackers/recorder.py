"""A tracker that remembers all it is told."""

import dataclasses
import threading
from collections.abc import Mapping

from w2sr_jax.trackers.tracker import Recording, State, TrackedTraining


@dataclasses.dataclass
class Recorder:
    """Called as a tracker. `fails` names what raises; `waits` is waited for before anything is taken; `reached` is the last step
    that it holds of a training that is continued."""

    fails: str = ""
    waits: threading.Event | None = None
    reached: int | None = None
    error: BaseException = dataclasses.field(default_factory=lambda: RuntimeError("no network"))
    trainings: list[TrackedTraining] = dataclasses.field(default_factory=list)
    steps: list[tuple[int, dict[str, float]]] = dataclasses.field(default_factory=list)
    ends: list[State] = dataclasses.field(default_factory=list)

    def __call__(self, training: TrackedTraining) -> Recording:
        if self.waits is not None:
            self.waits.wait(60)
        self.trainings.append(training)
        self._fail("call")
        return self

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._fail("log")
        self.steps.append((step, dict(values)))

    def end(self, state: State) -> None:
        self._fail("end")
        self.ends.append(state)

    def of(self, name: str) -> list[tuple[int, float]]:
        """Steps and values of one scalar."""
        return [(step, values[name]) for step, values in self.steps if name in values]

    def _fail(self, at: str) -> None:
        if self.fails == at:
            raise self.error
