"""`w2sr study`: many runs that share what is the same in them, and the page that says what they show together."""

import argparse
from pathlib import Path

from w2sr_jax.cli.arguments import add_plain, add_root, root_of
from w2sr_jax.core.bucket import is_address
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="w2sr study", description=about)
    parser.add_argument("target", metavar="STUDY.py", help="a file that defines study()")
    add_root(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="stages side by side in N processes")
    parser.add_argument("--dry-run", action="store_true", help="only say how many stages are shared and due, and what they take")
    parser.add_argument("--page", action="store_true", help="only make the page of what is finished")
    parser.add_argument("--price", type=float, default=None, help="of an hour of one job, for --dry-run")
    parser.add_argument("--currency", default="", help="in which the price is, any text")
    add_plain(parser)
    return parser


def run(argv: list[str], about: str, stop: Stop) -> int:
    options = _parser(about).parse_args(argv)
    if is_address(options.root):
        raise UserError("a study is made on a disk; give a directory as --root")
    if options.jobs < 1:
        raise UserError(f"--jobs is {options.jobs}; give 1 or more")
    from w2sr_jax.configuration import saved
    from w2sr_jax.experiment.study import cells
    from w2sr_jax.studies import run as runs_of

    study = saved.load_study(Path(options.target))
    found, directory = cells(study), root_of(options) / study.name
    runs_of.check_place(directory)
    runs = runs_of.cell_runs(found, directory)
    if options.dry_run:
        from w2sr_jax.studies.forecast import forecast

        for line in forecast(runs).lines(options.jobs, options.price, options.currency):
            terminal.say(line)
        return 0
    from w2sr_jax.cli.console import Console
    from w2sr_jax.parallel import compiling
    from w2sr_jax.studies import page, results
    from w2sr_jax.studies.declared import declarations

    compiling.tidy()
    failed: UserError | None = None
    with Console(plain=options.plain) as console:
        if not options.page:
            try:
                runs_of.run(study, found, directory, console, stop, options.jobs)
            except UserError as error:
                if not declarations(directory):
                    raise
                failed = error
        said = declarations(directory)
        if not said:
            raise UserError(f"the study {study.name} has not begun in {directory}; w2sr study {options.target} begins it")
        try:
            made = results.gathered(study.name, said, runs, study.base.evaluation, directory)
            console.line(f"\n{made.primary.sentence()}\n\nPage: {page.write(directory, made)}")
        except UserError as error:
            if failed is None:
                raise
            raise UserError(f"{failed}. Nor can the page be made: {error}") from None
    if failed is not None:
        raise failed
    return 0


def place(options: argparse.Namespace) -> Path | None:
    """The folder of the study that a command is given, by its path or its name below the root; None where that is none."""
    if options.target is None or is_address(options.target) or is_address(options.root):
        return None
    from w2sr_jax.graph.root import STUDY

    return next((each for each in (Path(options.target), Path(options.root) / options.target) if (each / STUDY).is_file()), None)


def report(directory: Path, options: argparse.Namespace) -> int:
    """Make the page of what is finished of a study. Nothing of the user's is executed."""
    if options.require:
        raise UserError("--require is for runs; what a study is to show it declares itself")
    given = {"--jobs": options.jobs != 1, "--rung": options.rung is not None, "--fresh": options.fresh}
    if named := [name for name, is_given in given.items() if is_given]:
        raise UserError(f"{directory} is a study, of which w2sr report only makes the page; leave out {', '.join(named)}")
    from w2sr_jax.studies import page, results
    from w2sr_jax.studies.declared import declarations
    from w2sr_jax.studies.run import check_place, opened

    check_place(directory)
    said = declarations(directory)
    runs = opened(directory, said[-1])
    if not runs:
        raise UserError(f"of the study {directory} no cell has begun; w2sr study goes on with it")
    made = results.gathered(directory.absolute().name, said, runs, runs[0].cell.experiment.evaluation, directory)
    terminal.say(f"{made.primary.sentence()}\n\nPage: {page.write(directory, made)}")
    return 0
