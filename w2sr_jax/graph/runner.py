"""Do the tasks of a run that are not done yet, in order."""

import contextlib
import dataclasses
import datetime
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.process.lock import locked
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import manifest, verified
from w2sr_jax.graph.environment import environment
from w2sr_jax.graph.manifest import Standing
from w2sr_jax.graph.stage import Context, Kind, Task, Watcher
from w2sr_jax.parallel import compiling
from w2sr_jax.preflight import checks
from w2sr_jax.preflight.rehearsal import ready
from w2sr_jax.stages import skips
from w2sr_jax.stages.plan import tasks
from w2sr_jax.stages.report import assemble
from w2sr_jax.stages.skips import Skip


def climb_all(
    experiment: Experiment,
    run: Path,
    watcher: Watcher,
    kind: Kind | None = None,
    rung: int | None = None,
    stop: Stop | None = None,
) -> Path | None:
    """`climb` for every seed, and the pooled report of several; the report's page if there is one now. All that is cheap to know
    is checked before.

    A run with several seeds holds a complete run for each in `seed-N`. `UserError` where another process works on the run.
    """
    if rung is not None and not 0 <= rung < len(experiment.rungs):
        raise UserError(f"there is no rung {rung}: the experiment has rungs 0 to {len(experiment.rungs) - 1}")
    ready(experiment)
    stop = stop or Stop()
    if kind != "report":
        with compiling.announced(watcher.say):
            checks.before(experiment, run, watcher, kind, rung)
    with _owned(run, stop):
        saved.save(run, experiment)
        if not any((run / "lineage").rglob("*.json")) and not any(run.glob("seed-*/lineage")):
            saved.check_read_back(run)
        if len(experiment.seeds) == 1:
            climb(experiment, run, watcher, kind, rung, stop)
        else:
            runs = [run / f"seed-{seed}" for seed in experiment.seeds]
            for seed, directory in zip(experiment.seeds, runs, strict=True):
                own = dataclasses.replace(experiment, seeds=(seed,))
                with _owned(directory, stop):
                    saved.save(directory, own)
                    watcher.warn(f"seed {seed}")
                    climb(own, directory, watcher, kind, rung, stop)
            if kind in (None, "report"):
                started = time.monotonic()
                made = assemble.pooled(run, experiment, runs)
                assemble.commit_pooled(run, experiment, runs, made, _now())
                watcher.end("report of all seeds", made.note, round(time.monotonic() - started, 2))
    return _page(run) if kind in (None, "report") else None


def climb(
    experiment: Experiment,
    run: Path,
    watcher: Watcher,
    kind: Kind | None = None,
    rung: int | None = None,
    stop: Stop | None = None,
) -> None:
    """Do every unfinished task of the run; with `kind` and `rung`, only those, and only where what they need is finished.

    Finished work that was damaged since is named and done again. Raises UserError when a kind is asked for and none of its tasks
    could be looked at yet.
    """
    _set_aside(run, watcher)
    plan = tasks(experiment)
    wanted = [task for task in plan if task.wanted(kind, rung)]
    blocked = []
    for index, task in enumerate(wanted):
        standing = task.stage(run).standing()
        if standing.manifest is not None:
            watcher.end(task.name, str(standing.manifest.measures.get("note", "")), None)
            skips.check_rung(run, plan, task)
            continue
        missing = [need for need in task.needs if not _by_name(plan, need).stage(run).current()]
        if missing:
            blocked.append((task, _by_name(plan, missing[0])))
            continue
        _discard(task, standing, watcher)
        do(task, Context(run, experiment, experiment.seeds[0], watcher, stop or Stop()), index, len(wanted))
        _tell_skip(run, experiment, plan, task, watcher)
        skips.check_rung(run, plan, task)
    if kind is not None and blocked:
        message = "; ".join(f"{task.name} waits for {need.name} (w2sr {need.kind})" for task, need in blocked[:3])
        if len(blocked) == len([t for t in wanted if t.kind == kind]):
            raise UserError(f"nothing to {kind} yet: {message}")
        watcher.warn(f"not done yet: {message}")


def do(task: Task, context: Context, index: int, total: int) -> None:
    """One task's work, and its manifest. A student with nothing to learn from is skipped, and so is what needs it."""
    context.watcher.begin(task.name, index, total)
    started = time.monotonic()
    skip = skips.inherited(context.run, task)
    if skip is None:
        try:
            with compiling.announced(context.watcher.say):
                made = task.work(context)
        except NothingToTrain as nothing:
            if not task.may_skip:
                raise
            skip = Skip(str(nothing), task.name)
    if skip is not None:
        made = skip.made(task)
    context.stop.check()
    seconds = round(time.monotonic() - started, 2)
    measures = {**made.measures, "seconds": seconds, "finished": _now(), "note": made.note}
    where = environment(context.experiment)
    task.stage(context.run).commit(made.outputs, made.artifacts, measures, made.seals, where)
    context.watcher.end(task.name, made.note, seconds)


@contextlib.contextmanager
def _owned(run: Path, stop: Stop) -> Iterator[None]:
    """The run's lock; what a killed process left half-written is removed first. `UserError` where a link leads out of the run,
    and once the run is not where it was, which whoever polls `stop` learns at once."""
    files.check_tree(run)
    with locked(run) as check, stop.watching(check):
        files.sweep(run)
        yield


def _page(run: Path) -> Path | None:
    """The report's page, if it is what the present stages make."""
    try:
        return verified.optional(run, "report/index.html")
    except UserError:  # what is not done yet was said
        return None


def _set_aside(run: Path, watcher: Watcher) -> None:
    """Rename manifests that are damaged, so that nothing else is kept from being read by what they may have said."""
    for path in verified.damaged(run):
        watcher.warn(
            f"{path} is damaged or of another version: it is renamed to {path.name}.damaged, and its stage is done again"
        )
        path.rename(path.with_name(f"{path.name}.damaged"))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _discard(task: Task, standing: Standing, watcher: Watcher) -> None:
    """Remove damaged work, so that it is made anew and not taken for a part of what an interrupted task left."""
    if not standing.damaged:
        return
    watcher.warn(f"{task.name} is done again, since {standing.words}")
    for path in standing.damaged:
        files.remove(path)


def _tell_skip(run: Path, experiment: Experiment, plan: Sequence[Task], task: Task, watcher: Watcher) -> None:
    """Warn where a student was skipped, and of the rungs that cannot be climbed for it."""
    skip = skips.of(manifest.load(run, task.name))
    if skip is None or skip.origin != task.name:
        return
    watcher.warn(f"{skips.student(task.name)} is skipped: {skip.reason}")
    for rung in skips.blocked(plan, task):
        watcher.warn(f"rung {rung} ({experiment.rungs[rung].name}) will be skipped too, since it needs that student")


def _by_name(plan: Sequence[Task], name: str) -> Task:
    return next(task for task in plan if task.name == name)
