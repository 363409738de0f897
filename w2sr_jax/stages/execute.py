"""An experiment from its first stage to its report: one run, or one for every seed and the report of them all."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph import runner
from w2sr_jax.graph.jobs import run as side_by_side
from w2sr_jax.graph.jobs.board import Work
from w2sr_jax.graph.jobs.pool import check_jobs
from w2sr_jax.graph.planner import Plan, StageStatus
from w2sr_jax.graph.root import Store
from w2sr_jax.graph.runner import Held
from w2sr_jax.graph.stage import Context, Watcher
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel import processes, shared_disk
from w2sr_jax.stages import layout, workers
from w2sr_jax.stages.plan import plan
from w2sr_jax.stages.report.stage import NAME, pooled_report
from w2sr_jax.trackers.following import tracked

_BEGUN = "the run has begun"
_MARKER = ".processes"


@dataclasses.dataclass(frozen=True)
class SeedRun:
    """The run of one seed: its experiment (with that seed alone), its store, its plan. `prefix` is what its stages are called by
    in sentences about several seeds."""

    seed: int
    experiment: Experiment
    store: RunStore
    plan: Plan
    prefix: str


def seed_runs(experiment: Experiment, directory: Path) -> list[SeedRun]:
    """The run of every seed. A run with several seeds holds a complete run for each in `seed-N`."""
    runs = []
    for seed, store in zip(experiment.seeds, seed_stores(experiment, directory), strict=True):
        own = dataclasses.replace(experiment, seeds=(seed,))
        prefix = "" if store.directory == directory else f"{store.name}/"
        runs.append(SeedRun(seed, own, store, plan(own), prefix))
    return runs


def seed_stores(experiment: Experiment, directory: Path) -> list[RunStore]:
    """Where the run of every seed lies."""
    if len(experiment.seeds) == 1:
        return [RunStore(directory)]
    return [RunStore(directory / layout.seed(seed)) for seed in experiment.seeds]


def pooled(experiment: Experiment, directory: Path, runs: list[SeedRun]) -> Plan:
    """The plan of what stands on all seeds: their report."""
    stores = {run.store.name: run.store for run in runs}
    return Plan([pooled_report(experiment, RunStore(directory), stores)])


def statuses(experiment: Experiment, directory: Path, share: Store | None) -> Iterator[tuple[str, list[StageStatus]]]:
    """What would be done about every stage of an experiment, seed by seed, each with its prefix. Nothing is computed or
    written. `Unsavable` where a run could not begin since its settings cannot be saved."""
    from w2sr_jax.graph.environment import conditions

    encode(experiment)
    runs = seed_runs(experiment, directory)
    standing = True
    for run in runs:
        runner.check_format(run.store)
        statuses_of = run.plan.statuses(run.store, share, conditions)
        standing &= all(status.state == "stands" for status in statuses_of)
        yield run.prefix, statuses_of
    if len(runs) > 1:
        plan = pooled(experiment, directory, runs)
        if standing:
            yield "", plan.statuses(RunStore(directory))
        else:
            yield "", [StageStatus(stage, "", "due", "reports of seeds are made anew") for stage in plan]


def execute(
    experiment: Experiment,
    directory: Path,
    watcher: Watcher,
    kind: str | None = None,
    rung: int | None = None,
    stop: Stop | None = None,
    share: Store | None = None,
    patience: float = 0.0,
    jobs: int = 1,
) -> Path | None:
    """Do what of an experiment is not done yet; with `kind` or `rung`, only those stages. The report's page, if there is one now.

    With several `jobs`, independent stages are done side by side in as many processes, each on its own cores. Stages that other
    runs of `share` have finished are taken from there. `UserError` where another process works on the run; in
    a bucket only once it has done so for `patience` seconds.
    """
    if rung is not None and not 0 <= rung < len(experiment.rungs):
        raise UserError(f"there is no rung {rung}: the experiment has rungs 0 to {len(experiment.rungs) - 1}")
    check_jobs(jobs)
    stop, store = stop or Stop(), RunStore(directory)
    if jobs > 1 and store.mirror is not None:
        raise UserError("--jobs is for runs on a disk; in a bucket, start several processes (--processes), or leave it out")
    runs = seed_runs(experiment, directory)
    if not processes.is_first():
        _follow(runs, store, watcher, stop)
        return None
    with runner.owned(store, stop) as held, runner.leased(store, stop, watcher.warn, patience):
        for run in runs:
            run.store.refresh()
            runner.check_format(run.store)
        if share is not None:
            share.refresh()
        if edited := saved.edited(directory, experiment):
            were = "was" if len(edited) == 1 else "were"
            watcher.warn(f"{', '.join(edited)} {were} edited since; what was made with it is done again")
        saved.save(directory, experiment)
        store.send_saved()
        if not any(run.store.begun() for run in runs):
            saved.check_read_back(directory)
        processes.barrier(_BEGUN)
        if store.mirror is None:
            shared_disk.check(directory / _MARKER, directory)
        if jobs > 1:
            _side_by_side(runs, experiment, Context(store, watcher, stop), held, jobs, kind, rung, share)
        else:
            _in_turn(runs, experiment, Context(store, watcher, stop), kind, rung, share)
        if len(runs) > 1 and kind in (None, NAME):  # which the first process does alone
            runner.run_alone(pooled(experiment, directory, runs), Context(store, watcher, stop))
    return page(store) if kind in (None, NAME) else None


def _in_turn(
    runs: Sequence[SeedRun],
    experiment: Experiment,
    context: Context,
    kind: str | None,
    rung: int | None,
    share: Store | None,
) -> None:
    """Stage after stage, by this process and those that it calls. `context` is that of the whole run."""
    trackers_of = () if experiment.rehearsal else experiment.trackers
    with tracked(trackers_of, context.watcher.warn) as trackers:
        for run in runs:
            with _began(run, context):
                if run.store.directory != context.store.directory:
                    context.watcher.warn(f"seed {run.seed}")
                own = dataclasses.replace(context, store=run.store, run=_tracked_name(experiment, run), trackers=trackers)
                runner.run(run.plan, own, kind, rung, share)


def _side_by_side(
    runs: Sequence[SeedRun],
    experiment: Experiment,
    context: Context,
    held: Held,
    jobs: int,
    kind: str | None,
    rung: int | None,
    share: Store | None,
) -> None:
    """Independent stages at the same time, those of all seeds together. `context` is that of the whole run."""
    with contextlib.ExitStack() as stack:
        handles = [*held.handles, *(handle for run in runs for handle in stack.enter_context(_began(run, context)))]
        works = [
            Work(run.plan, dataclasses.replace(context, store=run.store, run=_tracked_name(experiment, run)), run.prefix)
            for run in runs
        ]
        with workers.pool(jobs, handles) as pool:
            outcome = side_by_side.run(works, pool, context.watcher, runner.wanted(kind, rung), share)
        side_by_side.check(outcome, works, kind, context.watcher)


@contextlib.contextmanager
def _began(run: SeedRun, context: Context) -> Iterator[Sequence[int]]:
    """The files of the locks of a seed's own run, which is saved; none where it is the whole run."""
    if run.store.directory == context.store.directory:
        yield ()
        return
    with runner.owned(run.store, context.stop) as held:
        saved.save(run.store.directory, run.experiment)
        run.store.send_saved()
        yield held.handles


def _tracked_name(experiment: Experiment, run: SeedRun) -> str:
    return f"{experiment.name}/{run.prefix}".rstrip("/")


def _follow(runs: Sequence[SeedRun], store: RunStore, watcher: Watcher, stop: Stop) -> None:
    """Do what the first process calls for, on the disk that it writes to."""
    processes.barrier(_BEGUN, patience=math.inf)
    if store.mirror is None:
        shared_disk.check(store.path(_MARKER), store.directory)
    for run in runs:
        runner.run(run.plan, Context(run.store, watcher, stop, first=False))


def page(store: RunStore) -> Path | None:
    """The report's page, if it is what the present stages make."""
    try:
        if store.mirror is not None:
            store.below(f"{layout.REPORT}/")  # what the page leads to
        return store.optional(layout.PAGE)
    except UserError:  # what is not done yet was said
        return None
