"""Do the stages of several runs in worker processes, independent ones side by side.

The process that calls this decides what stands and what is taken from another run, as `graph.runner` does; workers do the rest.
Runs whose stages have one identity wait for the first of them and take it from there.
"""

import dataclasses
import signal
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.core.errors import NothingToTrain, Stopped, UserError
from w2sr_jax.graph import skips, standing
from w2sr_jax.graph.environment import conditions
from w2sr_jax.graph.jobs.board import Board, Task, Work
from w2sr_jax.graph.jobs.messages import Event, Order
from w2sr_jax.graph.jobs.pool import Ended, Workers
from w2sr_jax.graph.planner import StageStatus
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.runner import Wanted, say_waiting
from w2sr_jax.graph.stage import Watcher

_PATIENCE = 0.2
"""Seconds after which it is looked whether the command is asked to stop."""


class Failure(NamedTuple):
    """A stage that could not be done, and why."""

    work: int
    stage: str
    words: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of all works: what was asked for, the stages that failed, and those that wait for stages which were not asked
    for, each with one."""

    asked: Sequence[Task]
    failures: Sequence[Failure]
    waiting: Mapping[Task, str]


def run(works: Sequence[Work], pool: Workers, watcher: Watcher, wanted: Wanted, share: Store | None = None) -> Outcome:
    """Do every stage of the works that is wanted and does not stand. A stage that fails is named at once; what does not need it
    is done all the same. `Stopped` where the command is asked to stop: the workers have saved what they were at."""
    for work in works:
        standing.set_damaged_aside(work.context)
    desk = _Desk(Board(works, wanted), pool, [watcher, *(watcher.beside() for _ in range(1, len(pool)))], share)
    with pool.deferred(works[0].context.stop) as asked_to_stop:
        while desk.board:
            desk.hand_out()
            desk.hear(pool.next(_PATIENCE) if desk.at_work else None)
            if asked_to_stop():
                desk.stop(works[0].context.stop.signal or signal.SIGTERM)
    return Outcome(desk.board.asked, desk.failures, desk.board.waiting)


def check(outcome: Outcome, works: Sequence[Work], kind: str | None, watcher: Watcher) -> None:
    """`UserError` where stages failed, naming them, or where none of a `kind` that was asked for can be done yet."""
    if outcome.failures:
        names = [f"{works[each.work].prefix}{each.stage} ({each.words})" for each in outcome.failures]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(
            f"{len(names)} {'stage' if len(names) == 1 else 'stages'} failed: {'; '.join(names[:3])}{more}. What does not need "
            f"{'it' if len(names) == 1 else 'them'} is done; the same command tries again"
        )
    for number, work in enumerate(works):
        waiting = [
            (work.plan.by_name[task.stage], work.plan.by_name[need])
            for task, need in outcome.waiting.items()
            if task.work == number
        ]
        say_waiting(kind, waiting, [work.plan.by_name[task.stage] for task in outcome.asked if task.work == number], watcher)


class _Desk:
    """Who does what. A worker does one task at a time."""

    def __init__(self, board: Board, pool: Workers, watchers: Sequence[Watcher], share: Store | None) -> None:
        self.board, self.failures = board, list[Failure]()
        self.at_work: dict[int, Task] = {}
        self._pool, self._watchers, self._share = pool, watchers, share
        self._due: dict[Task, StageStatus] = {}
        self._begun = 0

    def hand_out(self) -> None:
        """Finish what needs no work, and give the rest to workers as long as one is free."""
        held = True
        while held:
            held = False
            for task in self.board.ready():
                if task in self.at_work.values():
                    continue
                status = self._due.get(task) or self._status(task)
                if status is None:
                    held = True  # which may have made others ready
                elif len(self.at_work) < len(self._pool) and not self._done_elsewhere(status):
                    self._give(task, status)

    def hear(self, said: tuple[int, Event | Ended] | None) -> None:
        """What a worker says."""
        if said is None:
            return
        number, event = said
        task, watcher = self.at_work.get(number), self._watchers[number]
        if isinstance(event, Event) and event.kind in ("say", "warn"):
            (watcher.say if event.kind == "say" else watcher.warn)(event.text)
            return
        if task is None:  # a worker that was idle has ended; it is started anew for its next task
            return
        name = self.board.works[task.work].prefix + task.stage
        if isinstance(event, Ended):
            self._ended(number, task, event.words)
        elif event.kind == "begin":
            self._begun += 1
            watcher.begin(name, self._begun - 1, len(self.board.asked))
        elif event.kind == "end":
            watcher.end(name, event.text, event.seconds)
        elif event.kind == "progress":
            watcher.progress(event.done, event.total, event.text)
        elif event.kind == "failed":
            self._ended(number, task, event.text)
        elif event.kind == "done":
            self._ended(number, task, None)

    def stop(self, number: int) -> None:
        """Pass a signal on, wait for the workers, and raise `Stopped`."""
        names = [self.board.works[task.work].prefix + task.stage for task in self.at_work.values()]
        for said in self._pool.stop(number):
            if isinstance(said[1], Event):
                self.hear(said)
        raise Stopped(
            f"stopped while {' and '.join(names)} {'was' if len(names) == 1 else 'were'} at work" if names else "stopped"
        )

    def _status(self, task: Task) -> StageStatus | None:
        """What is to be done about a task that is ready; None where that was nothing, and it is finished, or cannot be known."""
        work, stage = self.board.works[task.work], self.board.stage(task)
        context = work.context
        try:
            status = work.plan.status(stage, context.store, self.board.digests[task.work], self._share, conditions)
            if status.state == "stands":
                assert status.manifest is not None
                self._watchers[0].end(work.prefix + stage.name, str(status.manifest.measures.get("note", "")), None)
            elif status.candidate is None or not standing.take(context, work.plan, status, status.candidate):
                self._due[task] = status
                return status
        except UserError as error:
            self._fail(task, str(error))
            return None
        self._finish(task)
        return None

    def _done_elsewhere(self, status: StageStatus) -> bool:
        """Whether a worker does a stage of this identity for another run, from which it can be taken then."""
        own = [self._due[task].identity for task in self.at_work.values()]
        return self._share is not None and status.identity in own

    def _give(self, task: Task, status: StageStatus) -> None:
        work = self.board.works[task.work]
        number = next(number for number in range(len(self._pool)) if number not in self.at_work)
        standing.clear(work.context, status)
        self.at_work[number] = task
        self._pool.give(number, Order(str(work.context.store.directory), task.stage, work.context.run))

    def _ended(self, number: int, task: Task, failed: str | None) -> None:
        """A worker has nothing to do any more."""
        del self.at_work[number]
        done = self._due.pop(task)
        if failed is not None:
            self._fail(task, failed)
            return
        work = self.board.works[task.work]
        standing.tell_skip(work.context, work.plan, self.board.stage(task))
        busy = set(self.at_work.values())
        for other in [other for other, status in self._due.items() if status.identity == done.identity and other not in busy]:
            del self._due[other]  # it can be taken now
        self._finish(task)

    def _finish(self, task: Task) -> None:
        work, stage = self.board.works[task.work], self.board.stage(task)
        manifest = work.context.store.peek(stage.name)
        if manifest is not None and self._share is not None:
            self._share.learn(work.context.store, manifest)
        self.board.finish(task, manifest.digest() if manifest else None)
        try:
            skips.check_rung(work.context.store, work.plan, stage)
        except NothingToTrain as nothing:
            self._fail(task, str(nothing))
            self.board.fail_rest(task.work)

    def _fail(self, task: Task, words: str) -> None:
        work = self.board.works[task.work]
        self.failures.append(Failure(task.work, task.stage, words))
        self._watchers[0].warn(f"{work.prefix}{task.stage} failed: {words}")
        self.board.fail(task)
