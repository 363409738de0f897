"""All cells of a study: the runs of every seed of each, done together, what is the same in several once."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.experiment import check
from w2sr_jax.experiment.study import Cell, Study
from w2sr_jax.graph import runner
from w2sr_jax.graph.jobs import run as side_by_side
from w2sr_jax.graph.jobs.board import Work
from w2sr_jax.graph.jobs.messages import Order
from w2sr_jax.graph.manifest import FOLDER
from w2sr_jax.graph.root import CELLS, STUDY, KnownStore
from w2sr_jax.graph.stage import Context, Stage, Watcher
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import execute, workers
from w2sr_jax.studies.declared import Declaration, declare
from w2sr_jax.trackers.following import tracked


@dataclasses.dataclass(frozen=True)
class CellRuns:
    """A cell and the runs of its seeds."""

    cell: Cell
    directory: Path
    seeds: Sequence[execute.SeedRun]


def cell_runs(cells: Sequence[Cell], directory: Path) -> list[CellRuns]:
    """The runs of all cells of a study in `directory`. `UserError` naming the cell whose experiment is not sound."""
    runs = []
    for cell in cells:
        place = directory / CELLS / cell.name
        try:
            check(cell.experiment)
            runs.append(CellRuns(cell, place, execute.seed_runs(cell.experiment, place)))
        except UserError as error:
            raise UserError(f"the cell {cell.name}: {error}") from None
    return runs


def wanted(stage: Stage) -> bool:
    """A study makes one page of all cells; that of a cell is made by `w2sr report CELL` where it is asked for."""
    return stage.kind != "report"


def check_place(directory: Path) -> None:
    """`UserError` where a study cannot lie in a directory: a run lies there, or a link leads out of it."""
    if (directory / saved.EXPERIMENT).is_file() and not (directory / STUDY).is_file():
        raise UserError(f"{directory} is a run, and no study can lie there; give the study another name")
    files.check_tree(directory)


def run(study: Study, cells: Sequence[Cell], directory: Path, watcher: Watcher, stop: Stop, jobs: int) -> None:
    """Do what of a study is not done yet, in `jobs` worker processes. `UserError` where another process works on it, and at the
    end where stages failed: what does not need them is done."""
    if jobs < 1:
        raise UserError(f"--jobs is {jobs}; give 1 or more")
    check_place(directory)
    runs = cell_runs(cells, directory)
    store = RunStore(directory)
    if store.mirror is not None:
        raise UserError("a study is made on a disk; give a directory as --root")
    with runner.owned(store, stop) as lock:  # which holds the cells' runs, too
        finished = _finished(directory)
        for each in runs:
            saved.check_format(each.directory)
            for seed in each.seeds:
                runner.check_format(seed.store)
        for each in runs:
            saved.save(each.directory, each.cell.experiment)
        if not finished:
            saved.check_read_back(runs[0].directory)
        declare(directory, study, cells, finished)
        works = []
        for each in runs:
            for seed in each.seeds:
                saved.save(seed.store.directory, seed.experiment)
                prefix = f"{each.cell.name}/{seed.prefix}"
                works.append(
                    Work(seed.plan, Context(seed.store, watcher, stop, run=f"{study.name}/{prefix}".rstrip("/")), prefix)
                )
        share = KnownStore.of(directory / CELLS)
        with workers.pool(jobs, lock.handles, _alone(runs, works)) as pool:
            outcome = side_by_side.run(works, pool, watcher, wanted, share)
        side_by_side.check(outcome, works, None, watcher)


def _alone(runs: Sequence[CellRuns], works: Sequence[Work]) -> Callable[[Order], None]:
    """What does a stage in this process."""
    seeds = [seed for each in runs for seed in each.seeds]
    by_directory = {str(work.context.store.directory): (work, seed) for work, seed in zip(works, seeds, strict=True)}

    def do(order: Order) -> None:
        work, seed = by_directory[order.directory]
        trackers_of = () if seed.experiment.rehearsal else seed.experiment.trackers
        work.context.watcher.say(f"{work.prefix}{order.stage}")
        with tracked(trackers_of, work.context.watcher.warn) as trackers:
            context = dataclasses.replace(work.context, trackers=trackers)
            runner.do(work.plan.by_name[order.stage], context, work.plan, 0, 1)

    return do


def _finished(directory: Path) -> int:
    """Stages that any cell of the study has finished, also one that it has no more."""
    cells = directory / CELLS
    folders = [*cells.glob(f"*/{FOLDER}"), *cells.glob(f"*/seed-*/{FOLDER}")]
    return sum(1 for folder in folders for _ in folder.rglob("*.json"))


def opened(directory: Path, declaration: Declaration) -> list[CellRuns]:
    """The runs of a study as they were saved, those that have begun. Nothing of the user's is executed."""
    runs = []
    for each in declaration.cells:
        place = directory / CELLS / each.name
        if (place / saved.EXPERIMENT).is_file():
            experiment = saved.load(place)
            runs.append(CellRuns(Cell(dict(each.values), experiment), place, execute.seed_runs(experiment, place)))
    return runs
