"""`w2sr plan`: what an experiment takes on devices that need not be here."""

import argparse
import os
import sys
from pathlib import Path

from w2sr_jax.cli.arguments import add_root, add_trust, lookup, root_of
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop


def parser(about: str) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="w2sr plan", description=about, add_help=False)
    arguments.add_argument("target", metavar="CONFIG.py", nargs="?", help="configuration file, or run directory")
    arguments.add_argument("--topology", metavar="NAME", help="a TPU slice (v5p:2x2x4) or GPUs (h100:8)")
    arguments.add_argument("--mfu", type=float, default=0.4, metavar="F", help="fraction of peak rates counted on (default: 0.4)")
    arguments.add_argument("--price", type=float, metavar="P", help="of a device for an hour, in any currency")
    arguments.add_argument("--prompt", type=int, default=512, metavar="N", help="tokens of a prompt (default: 512)")
    arguments.add_argument("--completion", type=int, metavar="N", help="tokens of a completion (default: the most there may be)")
    arguments.add_argument("--problems", type=int, metavar="N", help="problems of the pool, where splits.pool is -1")
    arguments.add_argument("--test-problems", type=int, metavar="N", help="test problems, where their data is not on this disk")
    arguments.add_argument("--arithmetic", action="store_true", help="compile nothing: seconds, for any topology")
    add_root(arguments)
    add_trust(arguments)
    return arguments


def run(argv: list[str], about: str, _: Stop) -> int:
    """Print the plan. `UserError` where the experiment does not fit the topology, after all of it was said."""
    arguments = parser(about)
    options, overrides = arguments.parse_known_args(argv)
    wants_help = "-h" in overrides or "--help" in overrides
    if options.target is None or (wants_help and not options.target.endswith(".py")):
        arguments.print_help()
        arguments.exit(0 if wants_help else 2)
    if options.topology is None and not wants_help:
        from w2sr_jax.planning import hardware

        raise UserError(f"w2sr plan needs --topology: {hardware.listed()}")
    if (options.topology or "").partition(":")[0].startswith("v"):
        os.environ["JAX_PLATFORMS"] = "cpu"  # a TPU is described, never used
    from w2sr_jax.configuration import saved
    from w2sr_jax.configuration.overrides import overridden
    from w2sr_jax.experiment import check

    target = Path(options.target)
    if target.suffix == ".py":
        with terminal.coloured():
            experiment = overridden(saved.load_config(target), overrides, f"w2sr plan {target}")
        check(experiment)
        directory = root_of(options) / experiment.name
    else:
        run = lookup(options.target, options)
        if run is None:
            raise UserError(
                f"{options.target} is neither a configuration (a .py file) nor a run directory (looked in {options.root} too)"
            )
        directory = run
        if overrides:
            raise UserError(f"{overrides[0]}: settings of an existing run cannot be changed; override those of its configuration")
        experiment = saved.load_trusted(directory, options.trust)

    from w2sr_jax.planning import hardware, words
    from w2sr_jax.planning.plan import Asked, plan
    from w2sr_jax.planning.work import Assumed

    assumed = Assumed(options.prompt, options.completion, options.problems, options.test_problems)
    asked = Asked(options.mfu, options.price, assumed, not options.arithmetic)
    made = plan(experiment, hardware.named(options.topology), asked, directory, _say)
    for line in words.lines(made):
        terminal.say(line)
    refused = words.refused(made)
    if refused is not None:
        raise UserError(refused)
    return 0


def _say(words: str) -> None:
    """Seen at once, since programs take minutes to compile."""
    terminal.say(words)
    sys.stdout.flush()
