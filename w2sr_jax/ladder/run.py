"""Do the tasks of a run that are not done yet, in order."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

from w2sr_jax import saved
from w2sr_jax.errors import UserError
from w2sr_jax.experiment import Experiment
from w2sr_jax.ladder import assemble
from w2sr_jax.ladder.plan import tasks
from w2sr_jax.ladder.task import Context, Kind, Task, Watcher


def climb_all(
    experiment: Experiment, run: Path, watcher: Watcher, kind: Kind | None = None, rung: int | None = None
) -> Path | None:
    """`climb` for every seed, and the pooled report of several; the report's page if there is one now.

    A run with several seeds holds a complete run for each in `seed-N`.
    """
    if rung is not None and not 0 <= rung < len(experiment.rungs):
        raise UserError(f"there is no rung {rung}: the experiment has rungs 0 to {len(experiment.rungs) - 1}")
    saved.save(run, experiment)
    if len(experiment.seeds) == 1:
        climb(experiment, run, watcher, kind, rung)
    else:
        runs = [run / f"seed-{seed}" for seed in experiment.seeds]
        for seed, directory in zip(experiment.seeds, runs, strict=True):
            own = dataclasses.replace(experiment, seeds=(seed,))
            saved.save(directory, own)
            watcher.warn(f"seed {seed}")
            climb(own, directory, watcher, kind, rung)
        if kind in (None, "report"):
            started = time.monotonic()
            made = assemble.pooled(run, experiment, runs)
            watcher.end("report of all seeds", made.note, round(time.monotonic() - started, 2))
    page = run / "report" / "index.html"
    return page if kind in (None, "report") and page.exists() else None


def climb(experiment: Experiment, run: Path, watcher: Watcher, kind: Kind | None = None, rung: int | None = None) -> None:
    """Do every unfinished task of the run; with `kind` and `rung`, only those, and only where what they need is finished.

    Raises UserError when a kind is asked for and none of its tasks could be looked at yet.
    """
    plan = tasks(experiment)
    wanted = [t for t in plan if t.kind == "prepare" or (kind in (None, t.kind) and (rung is None or t.rung in (None, rung)))]
    blocked = []
    for index, task in enumerate(wanted):
        stage = task.stage(run)
        manifest = stage.current()
        if manifest is not None:
            watcher.end(task.name, str(manifest.measures.get("note", "")), None)
            continue
        missing = [need for need in task.needs if not _by_name(plan, need).stage(run).current()]
        if missing:
            blocked.append((task, _by_name(plan, missing[0])))
            continue
        _do(task, Context(run, experiment, experiment.seeds[0], watcher), index, len(wanted))
    if kind is not None and blocked:
        message = "; ".join(f"{task.name} waits for {need.name} (w2sr {need.kind})" for task, need in blocked[:3])
        if len(blocked) == len([t for t in wanted if t.kind == kind]):
            raise UserError(f"nothing to {kind} yet: {message}")
        watcher.warn(f"not done yet: {message}")


def _do(task: Task, context: Context, index: int, total: int) -> None:
    context.watcher.begin(task.name, index, total)
    started = time.monotonic()
    made = task.work(context)
    seconds = round(time.monotonic() - started, 2)
    task.stage(context.run).commit(made.outputs, made.artifacts, {**made.measures, "seconds": seconds, "note": made.note})
    context.watcher.end(task.name, made.note, seconds)


def _by_name(plan: Sequence[Task], name: str) -> Task:
    return next(task for task in plan if task.name == name)
