"""Which stages of several runs may be done next. Nothing is computed here."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.graph import standing
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.runner import Wanted
from w2sr_jax.graph.stage import Context, Stage, stages_of

_LONG = {"train": 3.0, "sample": 2.0}
"""About how long stages of a kind take, in those of other kinds."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A run whose stages are to be done. `prefix` is what they are called by in sentences about several runs."""

    plan: Plan
    context: Context
    prefix: str = ""


class Task(NamedTuple):
    """A stage of one of several works."""

    work: int
    stage: str


class Board:
    """The stages of several works that are asked for, as they become ready, are finished or fail."""

    def __init__(self, works: Sequence[Work], wanted: Wanted) -> None:
        self.works = works
        self.digests: list[dict[str, str | None]] = [
            standing.digests(work.plan, work.context.store, lenient=True) for work in works
        ]
        """For each work, the digests of what its stages wrote; None for those that are not finished."""
        self.asked = [Task(number, stage.name) for number, work in enumerate(works) for stage in work.plan if wanted(stage)]
        self._open = set(self.asked)
        self._needs = {task: self._needed(task) for task in self.asked}
        self._then: dict[Task, list[Task]] = {}
        for task, needs in self._needs.items():
            for need in needs:
                self._then.setdefault(need, []).append(task)
        self._length: dict[Task, float] = {}
        for task in reversed(self.asked):
            self._length[task] = self._measure(task)
        self.waiting = {task: missing for task in self.asked if (missing := self._never(task)) is not None}
        """Tasks that cannot be done by this command, and a stage each that it does not do and that they read."""
        self._ready = {task for task in self.asked if not self._needs[task]}
        for task in self.waiting:
            self._drop(task)

    def __bool__(self) -> bool:
        """Whether anything is left to be done."""
        return bool(self._open)

    def stage(self, task: Task) -> Stage:
        return self.works[task.work].plan.by_name[task.stage]

    def open(self, task: Task) -> bool:
        """Whether a task is neither finished nor given up."""
        return task in self._open

    def ready(self) -> list[Task]:
        """The tasks whose needs are finished, those on which the most is waiting first."""
        return sorted(self._ready, key=lambda task: (-self._length[task], task))

    def finish(self, task: Task, digest: str | None) -> None:
        """A task is done; `digest` is that of what it wrote."""
        self._close(task)
        self.digests[task.work][task.stage] = digest
        for then in self._then.get(task, ()):
            self._needs[then].discard(task)
            if not self._needs[then] and then in self._open:
                self._ready.add(then)

    def fail(self, task: Task) -> None:
        """A task cannot be done, and so cannot what needs it."""
        self._drop(task)

    def fail_rung(self, work: int, rung: int | None) -> None:
        """Of a rung of a work, and of what needs it, nothing is begun any more."""
        lost = {task for task in self.asked if task.work == work and self.stage(task).serves == rung}
        waiting = list(lost)
        while waiting:
            for then in self._then.get(waiting.pop(), ()):
                if then not in lost:
                    lost.add(then)
                    waiting.append(then)
        for task in lost:
            self._close(task)

    def _needed(self, task: Task) -> set[Task]:
        stage = self.stage(task)
        needs = {Task(task.work, need.name) for need in (*stages_of(stage), *stage.after)}
        return {need for need in needs if need in self._open}

    def _never(self, task: Task) -> str | None:
        digests: Mapping[str, str | None] = self.digests[task.work]
        needs = (need.name for need in stages_of(self.stage(task)))
        return next((name for name in needs if digests.get(name) is None and Task(task.work, name) not in self._open), None)

    def _measure(self, task: Task) -> float:
        own = _LONG.get(self.stage(task).kind, 1.0)
        return own + max((self._length[then] for then in self._then.get(task, ())), default=0.0)

    def _drop(self, task: Task) -> None:
        waiting = [task]
        while waiting:
            one = waiting.pop()
            if one in self._open:
                self._close(one)
                waiting.extend(self._then.get(one, ()))

    def _close(self, task: Task) -> None:
        self._open.discard(task)
        self._ready.discard(task)
