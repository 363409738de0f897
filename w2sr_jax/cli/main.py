"""The `w2sr` command: parses, calls, prints. Exit codes: 0 done, 1 not reproduced, 2 the user can mend it, 3 done but a
requirement (`--require`) is not met, 75 another process of the same work is lost, 129 the terminal was closed, 130 interrupted,
141 nobody reads what is printed, 143 terminated.

Nothing heavy is imported before it is known what is asked for, so that `--help` is fast.
"""

import argparse
import contextlib
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from w2sr_jax import __version__
from w2sr_jax.cli.arguments import add_plain, add_root, add_trust
from w2sr_jax.cli.commands import COMMANDS
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits, limits, stopping, streams, terminal
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.parallel import compiling

if TYPE_CHECKING:
    from w2sr_jax.experiment import Experiment

STAGES = {
    "sample": "let teachers write traces, or read and grade recorded ones",
    "curate": "select each arm's traces (W2SR all, W2SR-P correct, W2SR-N incorrect)",
    "train": "train teachers, bases and students",
    "evaluate": "let every trained model answer the test problems",
    "report": "write report/index.html and report/results.json",
}

REPORTING = ("run", "report")  # commands that end in a report
READERS = ("check", "show", "explain", "compare", "grade")  # commands that leave nothing half done
NOT_MET = 3

TOP = """usage: w2sr COMMAND ...

Weak-to-strong reasoning: a weak teacher writes chains of thought, a stronger student is
fine-tuned on them, and a report shows whether the student outgrew its teacher.

  w2sr run CONFIG.py [--name NAME] [OVERRIDES]    the whole experiment, into runs/NAME
  w2sr check CONFIG.py [OVERRIDES]                all that stands in its way, known in seconds
  w2sr run CONFIG.py --shrink                     the same path with tiny random models
  w2sr run CONFIG.py --require 'vs_teacher>0'     exit code 3 where the report does not show it
{stages}
A stage takes a run directory (or a CONFIG.py) and does what of it can be done now; finished
work is never redone, an interrupted one is continued by the same command.

{others}
  w2sr run configs/quickstart.py                                  first steps, minutes on a CPU
  w2sr run configs/quickstart.py --help                           every setting, with its default
  w2sr run configs/quickstart.py --name mine --rungs.0.training.learning-rate 3e-4
  w2sr train runs/mine --rung 0                                   one stage of one rung
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the `w2sr` command."""
    streams.prepare()
    terminal.guard()
    stopping.until_exit()
    compiling.remember()
    try:
        code = run(list(sys.argv[1:] if argv is None else argv))
    except SystemExit as left:  # of argparse or tyro, which have said why
        code = left.code if isinstance(left.code, int) else 1
    sys.exit(exits.after_printing(code))


def run(argv: list[str]) -> int:
    """Do what a command line asks for; the exit code."""
    stop = Stop()
    try:
        if _told(argv):
            return 0
        limits.check(argv)
        with stop.installed() if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
            return _command(argv[0], argv[1:], stop)
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # rich's way of ending
            return exits.PIPE
        raise
    except BaseException as error:
        from w2sr_jax.core.code import usercode

        ended = exits.exit_for(usercode.called_back(error) or error, stop.signal, _afterwards(argv[0]))
        if ended is None:
            raise
        exits.say(ended)
        return ended.code


def _told(argv: list[str]) -> bool:
    """Whether a command line asks for no more than a few words, which are printed."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        lines = "".join(f"  w2sr {name + ' RUN':<44}{text}\n" for name, text in STAGES.items())
        others = "".join(f"  w2sr {command.usage:<30}{command.about}\n" for command in COMMANDS.values())
        print(TOP.format(stages=lines, others=others), end="")
        return True
    if argv[0] == "--version":
        print(f"w2sr {__version__}")
        return True
    return False


def _afterwards(command: str) -> str:
    return "nothing was written" if command in READERS else "the same command goes on where this one stopped"


def _command(name: str, argv: list[str], stop: Stop) -> int:
    if name in COMMANDS:
        return COMMANDS[name].run(argv, stop)
    about = {"run": "run a whole experiment", "check": "say all that stands in the way of a run, in seconds"} | STAGES
    if name not in about:
        import difflib

        near = difflib.get_close_matches(name, [*about, *COMMANDS], 1)
        raise UserError(f"unknown command {name!r}" + (f"; did you mean {near[0]!r}?" if near else "; see w2sr --help"))
    parser = argparse.ArgumentParser(prog=f"w2sr {name}", description=about[name], add_help=False)
    parser.add_argument(
        "target", metavar="CONFIG.py" if name == "run" else "RUN", nargs="?", help="configuration file, or run directory"
    )
    add_root(parser)
    parser.add_argument("--shrink", action="store_true", help="tiny random models and invented data: does the path hold?")
    parser.add_argument("--rung", type=int, default=None, help="only this rung (0 is the first)")
    if name in REPORTING:
        parser.add_argument(
            "--require",
            action="append",
            default=[],
            metavar="REQUIREMENT",
            help="exit with 3 where it is not met, see docs/report.md",
        )
    if name == "run":
        parser.add_argument("--dry-run", action="store_true", help="only say of every stage what would be done, and why")
    parser.add_argument("--fresh", action="store_true", help="take no stage from other runs of the root")
    add_plain(parser)
    add_trust(parser)
    options, rest = parser.parse_known_args(argv)
    if any(part.partition("=")[0] == "--require" for part in rest):
        raise UserError(f"--require is for w2sr {' and w2sr '.join(REPORTING)}, which end in a report; w2sr {name} does not")
    asks_help = "-h" in rest or "--help" in rest
    if options.target is None or (asks_help and not options.target.endswith(".py")):
        parser.print_help()
        print("\nWith a CONFIG.py, --help lists every setting of the experiment; any of them can be overridden.")
        return 0 if asks_help else 2
    if name == "check":
        return _check(options, rest)
    experiment, directory = _experiment(name, options.target, options.root, rest, options.shrink, options.trust)
    from w2sr_jax.cli.console import Console
    from w2sr_jax.graph.store import Store
    from w2sr_jax.parallel import virtual
    from w2sr_jax.preflight import checks
    from w2sr_jax.runs import requirements
    from w2sr_jax.stages import execute

    share = None if options.fresh else Store(directory.parent)
    if name == "run" and options.dry_run:
        from w2sr_jax.cli.console import statuses

        for prefix, planned in execute.statuses(experiment, directory, share):
            for line in statuses(planned, prefix):
                terminal.say(line)
        return 0
    wanted = requirements.understood(options.require if name in REPORTING else [], experiment)
    compiling.tidy()
    if experiment.rehearsal:
        virtual.devices(experiment.mesh)
    with Console(plain=options.plain) as console:
        if experiment.rehearsal:
            console.rehearsal()
        kind = None if name == "run" else name
        if kind != "report":
            with compiling.announced(console.say):
                checks.before(experiment, directory, console, kind, options.rung)
        page = execute.execute(experiment, directory, console, kind, options.rung, stop, share)
        if page is not None:
            console.summary(page)
        findings = requirements.judged(page, wanted)
        for finding in findings:
            console.finding(finding)
    return 0 if all(finding.met for finding in findings) else NOT_MET


def _check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Everything that `run` would check. What a rehearsal needs is made elsewhere and removed."""
    with tempfile.TemporaryDirectory(prefix="w2sr-check-") if options.shrink else contextlib.nullcontext(options.root) as root:
        place = (options.target, Path(root), overrides, options.shrink, options.trust)
        experiment, directory = _experiment("check", *place)
        from w2sr_jax.preflight import checks

        return 2 if checks.report(experiment, directory, print, options.rung) else 0


def _experiment(
    command: str, target: str, root: Path, overrides: list[str], small: bool, trusted: bool
) -> "tuple[Experiment, Path]":
    """The experiment to work on and the run's directory: from a configuration with overrides, or from a run as it was saved."""
    from w2sr_jax.configuration import saved
    from w2sr_jax.experiment import check

    path = Path(target)
    if path.suffix != ".py":
        directory = path if path.is_dir() else root / target
        if not directory.is_dir():
            raise UserError(f"{target} is neither a configuration (a .py file) nor a run directory (looked in {root} too)")
        if overrides:
            raise UserError(f"{overrides[0]}: settings of an existing run cannot be changed; override those of its configuration")
        if small:
            raise UserError(f"{target} is a run as it is; --shrink takes a configuration (a .py file)")
        files.check_tree(directory)
        return saved.load_trusted(directory, trusted), directory
    from w2sr_jax.configuration.overrides import overridden

    configured = saved.load_config(path)
    with terminal.coloured():
        experiment = overridden(configured, overrides, f"w2sr {command} {target}")
    check(experiment)
    saved.check_format(root / experiment.name)
    if small:
        from w2sr_jax.preflight.rehearsal import shrink

        experiment = shrink(experiment, root)
        check(experiment)
    directory = root / experiment.name
    return experiment, directory


def _begun(directory: Path) -> bool:
    """Whether a run has finished anything; another experiment may take the place of one that has not."""
    made = (path for place in ("lineage", "seed-*/lineage") for path in directory.glob(f"{place}/**/*.json"))
    return (directory / "experiment.json").exists() and any(made)
