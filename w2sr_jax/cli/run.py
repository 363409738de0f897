"""`w2sr run`, `w2sr check`, and the commands of a kind of stages: an experiment from a configuration or a run, and what of it is
done. Each parses its arguments, calls, prints."""

import argparse
import contextlib
import math
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from w2sr_jax.cli import study
from w2sr_jax.cli.arguments import add_plain, add_processes, add_root, add_trust, common_of, joined, lookup, root_of, several
from w2sr_jax.core.bucket import is_address
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop

if TYPE_CHECKING:
    from w2sr_jax.experiment import Experiment
    from w2sr_jax.graph.root import Store

NOT_MET = 3
"""The exit code where all is done and a requirement is not met."""
_REQUIRE = "--require"
_DONE, _CODE = "all is done", "*exit code"


class Asked(NamedTuple):
    """What a command line asks for: its own options, and the overrides of settings, which only a configuration takes."""

    command: str
    options: argparse.Namespace
    overrides: list[str]


def parser(about: str) -> argparse.ArgumentParser:
    """The options of `w2sr run`; what it leaves are overrides."""
    arguments = _parser("run", about)
    arguments.add_argument("--dry-run", action="store_true", help="only say of every stage what would be done, and why")
    _add_fresh(arguments)
    _add_require(arguments)
    _add_jobs(arguments)
    add_processes(arguments)
    return arguments


def run(argv: list[str], about: str, stop: Stop) -> int:
    asked = _asked("run", parser(about), argv)
    if asked.options.dry_run:
        experiment, directory = _experiment(asked, root_of(asked.options))
        return _say_statuses(experiment, directory, asked.options.fresh)
    return _execute(asked, None, stop)


def check(argv: list[str], about: str, _: Stop) -> int:
    """Everything that `run` would check. What a rehearsal needs is made elsewhere and removed."""
    asked = _asked("check", _parser("check", about), argv)
    options = asked.options
    with (
        tempfile.TemporaryDirectory(prefix="w2sr-check-") if options.shrink else contextlib.nullcontext(root_of(options)) as root
    ):
        experiment, directory = _experiment(asked, Path(root))
        from w2sr_jax.preflight import checks

        return 2 if checks.report(experiment, directory, print, options.rung) else 0


def _stages(kind: str, argv: list[str], about: str, stop: Stop) -> int:
    """Do the stages of one kind."""
    parser = _parser(kind, about)
    _add_fresh(parser)
    _add_jobs(parser)
    add_processes(parser)
    if kind == "report":
        _add_require(parser)
    asked = _asked(kind, parser, argv)
    if kind == "report" and (place := study.place(asked.options)) is not None:
        return study.report(place, asked.options)
    return _execute(asked, kind, stop)


sample, curate, train = partial(_stages, "sample"), partial(_stages, "curate"), partial(_stages, "train")
evaluate, report = partial(_stages, "evaluate"), partial(_stages, "report")


def _parser(command: str, about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"w2sr {command}", description=about, add_help=False)
    target = "CONFIG.py" if command == "run" else "RUN"
    parser.add_argument("target", metavar=target, nargs="?", help="configuration file, or run directory")
    add_root(parser)
    parser.add_argument("--shrink", action="store_true", help="tiny random models and invented data: does the path hold?")
    parser.add_argument("--rung", type=int, default=None, help="only this rung (0 is the first)")
    add_plain(parser)
    add_trust(parser)
    return parser


def _add_fresh(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fresh", action="store_true", help="take no stage from other runs of the root")


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    words = "independent stages side by side in N processes, each on its own part of the cores"
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help=words)


def _add_require(parser: argparse.ArgumentParser) -> None:
    words = "exit with 3 where it is not met, see docs/report.md"
    parser.add_argument(_REQUIRE, action="append", default=[], metavar="REQUIREMENT", help=words)


def _asked(command: str, parser: argparse.ArgumentParser, argv: list[str]) -> Asked:
    """What the arguments ask for. Help about the command is printed here; that of a configuration lists its settings, and is
    printed where these are read."""
    options, overrides = parser.parse_known_args(argv)
    if any(argument.partition("=")[0] == _REQUIRE for argument in overrides):
        raise UserError(f"{_REQUIRE} is for w2sr run and w2sr report, which end in a report; w2sr {command} does not")
    wants_help = "-h" in overrides or "--help" in overrides
    if options.target is None or (wants_help and not options.target.endswith(".py")):
        parser.print_help()
        print("\nWith a CONFIG.py, --help lists every setting of the experiment; any of them can be overridden.")
        parser.exit(0 if wants_help else 2)
    return Asked(command, options, overrides)


def _experiment(asked: Asked, root: Path) -> "tuple[Experiment, Path]":
    """The experiment to work on and the run's directory: from a configuration with overrides, or from a run as it was saved."""
    options = asked.options
    if options.target.endswith(".py"):
        return _configured(asked, root)
    directory = lookup(options.target, options)
    if directory is None:
        raise UserError(
            f"{options.target} is neither a configuration (a .py file) nor a run directory (looked in {options.root} too)"
        )
    if asked.overrides:
        raise UserError(
            f"{asked.overrides[0]}: settings of an existing run cannot be changed; override those of its configuration"
        )
    if options.shrink:
        raise UserError(f"{options.target} is a run as it is; --shrink takes a configuration (a .py file)")
    from w2sr_jax.configuration import saved

    return saved.load_trusted(directory, options.trust), directory


def _configured(asked: Asked, root: Path) -> "tuple[Experiment, Path]":
    from w2sr_jax.configuration import saved
    from w2sr_jax.configuration.overrides import overridden
    from w2sr_jax.experiment import check

    configured = saved.load_config(Path(asked.options.target))
    with terminal.coloured():
        experiment = overridden(configured, asked.overrides, f"w2sr {asked.command} {asked.options.target}")
    check(experiment)
    if asked.options.shrink:
        from w2sr_jax.preflight.rehearsal import shrink

        experiment = shrink(experiment, common_of(asked.options, root))
        check(experiment)
    from w2sr_jax.graph.store import RunStore

    RunStore(root / experiment.name).refresh_all()
    saved.check_format(root / experiment.name)
    return experiment, root / experiment.name


def _say_statuses(experiment: "Experiment", directory: Path, fresh: bool) -> int:
    from w2sr_jax.cli.console import statuses
    from w2sr_jax.graph.root import Store
    from w2sr_jax.stages import execute

    for prefix, planned in execute.statuses(experiment, directory, None if fresh else Store(directory.parent)):
        for line in statuses(planned, prefix):
            terminal.say(line)
    return 0


def _at_work(directory: Path) -> str | None:
    """Who works on a run that lies in a bucket, in words; None where nobody does, and of a run on a disk, whose lock says."""
    from w2sr_jax.core import lease
    from w2sr_jax.graph.store import RunStore

    mirror = RunStore(directory).mirror
    holder = None if mirror is None else lease.holder(mirror.bucket)
    return None if holder is None else holder.words()


def _say_standing(experiment: "Experiment", directory: Path, other: str) -> int:
    """What of a run stands that another command works on, and where its page lies if there is one. Nothing is computed."""
    from w2sr_jax.graph.store import RunStore
    from w2sr_jax.stages import execute

    terminal.say(f"{experiment.name} was last worked on by {other}; what stands now:")
    _say_statuses(experiment, directory, fresh=True)
    page = execute.page(RunStore(directory))
    terminal.say("There is no report yet." if page is None else f"Report: {page}")
    return 0


def _execute(asked: Asked, kind: str | None, stop: Stop) -> int:
    """Do what is not done yet, of all kinds or of one, by all processes that were started for it. The exit code."""
    options = asked.options
    if {"-h", "--help"} & {*asked.overrides}:
        _experiment(asked, root_of(options))  # prints the settings, and exits
    if options.jobs != 1 and several(options):
        raise UserError("--jobs divides one machine, and --processes several; give one of them")
    facts = {"the command": " ".join([asked.command, options.target, *asked.overrides])}
    facts |= {"the root": options.root} if is_address(options.root) else {}
    in_bucket = is_address(options.target) or is_address(options.root)
    if kind == "report" and in_bucket and not several(options) and not options.require:
        experiment, directory = _experiment(asked, root_of(options))
        if (other := _at_work(directory)) is not None:
            return _say_standing(experiment, directory, other)
    with joined(options, facts, stop, "the same command, for all of them, goes on where this one stopped"):
        experiment, directory = _experiment(asked, root_of(options))
        return _execute_joined(experiment, directory, options, kind, stop)


def _execute_joined(experiment: "Experiment", directory: Path, options: argparse.Namespace, kind: str | None, stop: Stop) -> int:
    """What the first process does after all checks, and the others as it tells them. It alone says how it goes, and what the
    report says where there is one."""
    from w2sr_jax.configuration import saved
    from w2sr_jax.graph import environment
    from w2sr_jax.graph.root import Store
    from w2sr_jax.parallel import compiling, processes
    from w2sr_jax.stages import execute

    same = {"the configuration": saved.config_hash(experiment), "the code of w2sr": environment.code()}
    processes.barrier(f"the run {experiment.name}", same)
    compiling.tidy()
    if experiment.rehearsal:
        from w2sr_jax.parallel.mesh import virtual_devices
        from w2sr_jax.stages import placing

        virtual_devices(placing.widest(experiment))
    share = None if options.fresh else Store(directory.parent)
    if not processes.is_first():
        from w2sr_jax.cli.reporting import Reporting
        from w2sr_jax.graph.stage import Silent

        execute.execute(experiment, directory, Reporting(Silent()), kind, options.rung, stop, share)
        return int(processes.barrier(_DONE, patience=math.inf)[_CODE])
    code = _lead(experiment, directory, options, kind, stop, share)
    processes.barrier(_DONE, {_CODE: str(code)})
    return code


def _lead(
    experiment: "Experiment",
    directory: Path,
    options: argparse.Namespace,
    kind: str | None,
    stop: Stop,
    share: "Store | None",
) -> int:
    from w2sr_jax.cli.console import Console
    from w2sr_jax.cli.reporting import Reporting
    from w2sr_jax.parallel import compiling, processes
    from w2sr_jax.preflight import checks
    from w2sr_jax.runs import requirements
    from w2sr_jax.stages import execute

    wanted = requirements.understood(getattr(options, "require", []), experiment)
    with Console(plain=options.plain) as console:
        if experiment.rehearsal:
            console.rehearsal()
        if kind != "report":
            with compiling.announced(console.say):
                checks.before(experiment, directory, console, kind, options.rung)
        processes.observe(console.warn)
        watcher = Reporting(console) if processes.count() > 1 else console
        page = execute.execute(experiment, directory, watcher, kind, options.rung, stop, share, options.wait or 0.0, options.jobs)
        if page is not None:
            console.summary(page)
        findings = requirements.judged(page, wanted)
        for finding in findings:
            console.finding(finding)
    return 0 if all(finding.met for finding in findings) else NOT_MET
