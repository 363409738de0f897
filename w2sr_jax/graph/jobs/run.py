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
_BETWEEN = 16
"""Stages that are looked at or taken from other runs before workers are heard again."""


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
        while desk.board or desk.at_work:
            more = desk.hand_out()
            desk.hear(pool.next(0.0 if more else _PATIENCE) if desk.at_work else None)
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
        self._died, self._lost = set[str](), dict[str, str]()
        self._lost_rungs = set[tuple[int, int | None]]()
        self._begun = 0

    def hand_out(self) -> bool:
        """Give tasks to free workers first, then finish what needs none; whether more can be done at once. Of many stages only
        some are looked at and taken, so that workers and signals do not wait for all of them."""
        looked, more, taken = 0, False, list[Task]()
        for task in self.board.ready():
            if task in self.at_work.values() or not self.board.open(task):
                continue
            status = self._due.get(task)
            if status is None:
                if looked == _BETWEEN:
                    if len(self.at_work) < len(self._pool):
                        return True  # there may be work for a free worker among the rest
                    more = True
                    break
                looked, status = looked + 1, self._status(task)
            if status is None:
                more = True  # it may have made others ready
            elif status.candidate is not None:
                taken.append(task)
            elif len(self.at_work) < len(self._pool) and not self._done_elsewhere(status):
                self._give(task, status)
        for task in taken[: max(_BETWEEN - looked, 1)]:
            more = True
            if self.board.open(task) and task in self._due:
                self._take(task)
        return more or bool(taken)

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
            self._died_at(number, task, event.words)
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
        try:
            status = work.plan.status(stage, work.context.store, self.board.digests[task.work], self._share, conditions)
        except UserError as error:
            self._fail(task, str(error))
            return None
        if status.state == "stands":
            assert status.manifest is not None
            self._watchers[0].end(work.prefix + stage.name, str(status.manifest.measures.get("note", "")), None)
            self._finish(task)
            return None
        if status.candidate is None and status.identity in self._lost:
            self._fail(task, self._lost[status.identity])
            return None
        self._due[task] = status
        return status

    def _take(self, task: Task) -> None:
        """Take a task's work from another run. Where that turns out not to be possible, a worker is to do it."""
        work, status = self.board.works[task.work], self._due.pop(task)
        assert status.candidate is not None
        try:
            taken = standing.take(work.context, work.plan, status, status.candidate)
        except UserError as error:
            self._fail(task, str(error))
            return
        if taken:
            self._finish(task)
        else:
            self._due[task] = dataclasses.replace(status, candidate=None)

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
            self._watchers[number].drop()
            self._fail_all(task, done.identity, failed)
            return
        work = self.board.works[task.work]
        standing.tell_skip(work.context, work.plan, self.board.stage(task))
        for other in self._due_of(done.identity):
            del self._due[other]  # it can be taken now
        self._finish(task)

    def _died_at(self, number: int, task: Task, words: str) -> None:
        """A worker has ended amid a task. Where others may wait for the same work, it is tried a second time: what killed it need
        not be the work's own doing."""
        identity = self._due[task].identity
        if self._share is None or identity in self._died:
            self._ended(number, task, words)
            return
        self._died.add(identity)
        work = self.board.works[task.work]
        self._watchers[number].drop()
        self._watchers[number].warn(f"{work.prefix}{task.stage} is begun again: {words}")
        del self.at_work[number], self._due[task]

    def _due_of(self, identity: str) -> list[Task]:
        """The tasks that are known to wait for work of an identity, and that no worker is at."""
        busy = set(self.at_work.values())
        due = [task for task, status in self._due.items() if status.identity == identity]
        return [task for task in due if self.board.open(task) and task not in busy]

    def _finish(self, task: Task) -> None:
        work, stage = self.board.works[task.work], self.board.stage(task)
        manifest = work.context.store.peek(stage.name)
        if manifest is not None and self._share is not None:
            self._share.learn(work.context.store, manifest)
        self.board.finish(task, manifest.digest() if manifest else None)
        rung = (task.work, stage.serves)
        if rung in self._lost_rungs:  # each of its students would find that anew
            return
        try:
            skips.check_rung(work.context.store, work.plan, stage)
        except NothingToTrain as nothing:
            self._lost_rungs.add(rung)
            self._fail(task, str(nothing))
            self.board.fail_rung(*rung)

    def _fail_all(self, task: Task, identity: str, words: str) -> None:
        """A task has failed, and so have those of other runs that would do the same work."""
        others = []
        if self._share is not None:
            self._lost[identity] = words
            others = self._due_of(identity)
        for each in (task, *others):
            self._due.pop(each, None)
            self._fail(each, words)

    def _fail(self, task: Task, words: str) -> None:
        work = self.board.works[task.work]
        self.failures.append(Failure(task.work, task.stage, words))
        self._watchers[0].warn(f"{work.prefix}{task.stage} failed: {words}")
        self.board.fail(task)
