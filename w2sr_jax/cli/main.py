"""The `w2sr` command: finds what is asked for, and does it. Exit codes: 0 done, 1 not reproduced, 2 the user can mend it, 3 done
but a requirement (`--require`) is not met, 75 another process of the same work is lost or did not come, 129 the terminal was
closed, 130 interrupted, 141 nobody reads what is printed, 143 terminated.

Nothing heavy is imported before it is known what is asked for, so that `--help` is fast.
"""

import contextlib
import sys
import threading
from collections.abc import Sequence

from w2sr_jax import __version__
from w2sr_jax.cli import commands
from w2sr_jax.cli.commands import Command
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits, limits, stopping, streams, terminal
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.parallel import compiling

TOP = """usage: w2sr COMMAND ...

Weak-to-strong reasoning: a weak teacher writes chains of thought, a stronger student is
fine-tuned on them, and a report shows whether the student outgrew its teacher.

  w2sr run CONFIG.py [--name NAME] [OVERRIDES]    the whole experiment, into runs/NAME
  w2sr check CONFIG.py [OVERRIDES]                all that stands in its way, known in seconds
  w2sr run CONFIG.py --shrink                     the same path with tiny random models
  w2sr launch CONFIG.py --on slurm --nodes 4      the job that runs it on every host of a cluster
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
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if argv[0] == "--version":
        print(f"w2sr {__version__}")
        return 0
    stop, command = Stop(), commands.all_commands().get(argv[0])
    try:
        if command is None:
            raise UserError(_unknown(argv[0]))
        limits.check(argv)
        with stop.installed() if threading.current_thread() is threading.main_thread() else contextlib.nullcontext():
            return command.run(argv[1:], stop)
    except BaseException as error:
        if isinstance(error, SystemExit) and not isinstance(error, Terminated):
            if isinstance(error.__context__, BrokenPipeError):  # rich's way of ending
                return exits.PIPE
            raise
        from w2sr_jax.core.code import usercode

        ended = exits.exit_for(usercode.called_back(error) or error, stop.signal, _afterwards(command))
        if ended is None:
            raise
        exits.say(ended)
        return ended.code


def _help() -> str:
    stages = "".join(f"  w2sr {command.usage:<44}{command.about}\n" for command in commands.STAGES.values())
    others = "".join(f"  w2sr {command.usage:<30}{command.about}\n" for command in commands.COMMANDS.values())
    return TOP.format(stages=stages, others=others)


def _unknown(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, commands.all_commands(), 1)
    return f"unknown command {name!r}" + (f"; did you mean {near[0]!r}?" if near else "; see w2sr --help")


def _afterwards(command: Command | None) -> str:
    """What an interruption leaves, in words."""
    return "nothing was written" if command is None or command.reads else "the same command goes on where this one stopped"
