"""Do the stages of a run that do not stand, in order."""

import contextlib
import datetime
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from w2sr_jax.core import files, lease
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.process.lock import Lock, locked
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.graph import hosts, results, skips, standing
from w2sr_jax.graph import manifest as manifests
from w2sr_jax.graph.environment import conditions, environment
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.planner import Plan, StageStatus, input_digests
from w2sr_jax.graph.root import CELLS, STUDY, Store
from w2sr_jax.graph.stage import Context, Stage, StageResult, Watcher, settings, stages_of
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel import compiling

Wanted = Callable[[Stage], bool]


def wanted(kind: str | None, rung: int | None) -> Wanted:
    """Whether a stage is among those of a kind and a rung (None: any); what all rungs rest on always is."""
    return lambda stage: (
        stage.kind == "prepare" or (kind in (None, stage.kind) and (rung is None or stage.serves in (None, rung)))
    )


def run(
    plan: Plan, context: Context, kind: str | None = None, rung: int | None = None, share: Store | None = None
) -> list[StageStatus]:
    """Do every stage that does not stand; with `kind` and `rung`, only those, and only where what they read is finished. What was
    done, and why.

    Finished work that was damaged since is named and done again. A stage of the same identity that another run of `share` has
    finished is taken from there. Raises `UserError` when a kind is asked for and none of its stages could be looked at yet.

    With several processes all call this alike; what was done is known to the first one.
    """
    if not context.first:
        hosts.follow(plan, context)
        return []
    done = run_alone(plan, context, kind, rung, share)
    hosts.dismiss()
    return done


def run_alone(
    plan: Plan, context: Context, kind: str | None = None, rung: int | None = None, share: Store | None = None
) -> list[StageStatus]:
    """`run` without a word to the other processes once all is done."""
    store, watcher = context.store, context.watcher
    standing.set_damaged_aside(context)
    digests = standing.digests(plan, store)
    asked = [stage for stage in plan if wanted(kind, rung)(stage)]
    done: list[StageStatus] = []
    waiting: list[tuple[Stage, Stage]] = []
    for index, stage in enumerate(asked):
        missing = next((need for need in stages_of(stage) if digests.get(need.name) is None), None)
        if missing is not None:
            waiting.append((stage, missing))
            continue
        status = plan.status(stage, store, digests, share, conditions)
        done.append(status)
        if status.state == "stands":
            assert status.manifest is not None
            watcher.end(stage.name, str(status.manifest.measures.get("note", "")), None)
        elif status.candidate is None or not standing.take(context, plan, status, status.candidate):
            standing.clear(context, status)
            do(stage, context, plan, index, len(asked))
            standing.tell_skip(context, plan, stage)
        manifest = store.peek(stage.name)
        digests[stage.name] = manifest.digest() if manifest else None
        skips.check_rung(store, plan, stage)
    say_waiting(kind, waiting, asked, watcher)
    return done


def say_waiting(kind: str | None, waiting: Sequence[tuple[Stage, Stage]], asked: Sequence[Stage], watcher: Watcher) -> None:
    """Of stages of one kind, which cannot be done yet and what each waits for. `UserError` where that is so of all of them."""
    if kind is not None and waiting:
        message = "; ".join(f"{stage.name} waits for {need.name} (w2sr {need.kind})" for stage, need in waiting[:3])
        if len(waiting) == len([stage for stage in asked if stage.kind == kind]):
            raise UserError(f"nothing to {kind} yet: {message}")
        watcher.warn(f"not done yet: {message}")


def do(stage: Stage, context: Context, plan: Plan, index: int, total: int) -> Manifest:
    """One stage's work, and its manifest. A student with nothing to learn from is skipped, and so is what needs it."""
    context.watcher.begin(stage.name, index, total)
    started = time.monotonic()
    skip = skips.inherited(context.store, stage)
    result, called = None, skip is None
    if skip is None:
        hosts.call(stage)
        try:
            with compiling.announced(context.watcher.say), usercode.guarded(stage):
                result = results.sound(stage.run(context), context.store, stage, "run")
                results.check_owners(result, context.store, stage, plan.by_name)
        except NothingToTrain as nothing:
            if not stage.may_skip:
                raise
            skip = skips.Skip(str(nothing), stage.name)
    if result is None:
        assert skip is not None
        result = skip.result(stage)
    context.stop.check()
    seconds = round(time.monotonic() - started, 2)
    manifest = _commit(stage, context.store, plan, result, seconds)
    if called:
        hosts.finished(stage)
    context.watcher.end(stage.name, result.note, seconds)
    return manifest


class Held(NamedTuple):
    """The locks of a run that is held. A child process to which the files `handles` are passed on holds all of them, too."""

    locks: tuple[Lock, ...]

    @property
    def handles(self) -> tuple[int, ...]:
        return tuple(lock.handle for lock in self.locks)


@contextlib.contextmanager
def owned(store: RunStore, stop: Stop) -> Iterator[Held]:
    """Yields the run's locks; what a killed process left half-written is removed first. `UserError` where a link leads out of the
    run, and once the run is not where it was, which whoever polls `stop` learns at once. A run that is a cell of a study is held
    together with the study."""
    files.check_tree(store.directory)
    with contextlib.ExitStack() as stack:
        locks = []
        cells = store.directory.resolve().parent
        if cells.name == CELLS and (cells.parent / STUDY).is_file():
            locks.append(stack.enter_context(locked(cells.parent)))
        locks.append(stack.enter_context(locked(store.directory)))
        stack.enter_context(stop.watching(locks[-1].check))
        files.sweep(store.directory)
        yield Held(tuple(locks))


@contextlib.contextmanager
def leased(store: RunStore, stop: Stop, say: Callable[[str], None], patience: float = 0.0) -> Iterator[None]:
    """The lease on a run that lies in a bucket, and its manifests as they are there; a command that holds it is waited for as
    long as `patience`, in seconds. Whoever polls `stop` learns at once where it is lost. A run on a disk has none: its lock
    suffices."""
    if (mirror := store.mirror) is None:
        yield
        return
    with lease.held(mirror.bucket, say, patience=patience) as check, stop.watching(check):
        store.refresh()
        yield


def check_format(store: RunStore) -> None:
    """`UserError` where a run was written by a version whose manifests this one cannot read."""
    another = manifests.of_another_format(store.directory)
    if another is not None:
        raise UserError(another)


def _commit(stage: Stage, store: RunStore, plan: Plan, result: StageResult, seconds: float) -> Manifest:
    lists = [store.path(name) / files.SEAL for name in result.artifacts if files.sealed(store.path(name))]
    manifest = Manifest(
        stage=stage.name,
        kind=stage.kind,
        identity=plan.identity(stage, store),
        settings=settings(stage),
        inputs=input_digests(stage, store, standing.digests(plan, store, stages_of(stage))),
        outputs=store.digests(list(result.outputs)),
        artifacts=dict(result.artifacts),
        seals=store.digests([*result.seals, *lists]),
        measures={**result.measures, "seconds": seconds, "finished": now(), "note": result.note},
        versions=manifests.versions(),
        environment=environment(stage),
        needs=[need.name for need in stages_of(stage)],
    )
    store.commit(manifest)
    return manifest


def now() -> str:
    """The time, ISO, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
