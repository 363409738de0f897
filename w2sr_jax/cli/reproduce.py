"""`w2sr reproduce`: parses, calls, prints."""

import argparse

from w2sr_jax.cli.arguments import add_plain, add_root, add_trust, local_path, run_directory
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop


def run(argv: list[str], about: str, stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr reproduce", description=about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--stage", default=None, help="only this stage (a name as the run prints it), from the inputs it had")
    parser.add_argument("--into", type=local_path, default=None, help="directory to rerun in (default: RUN.reproduced)")
    parser.add_argument("--keep", action="store_true", help="keep that directory where everything is identical")
    add_root(parser)
    add_plain(parser)
    add_trust(parser)
    options = parser.parse_args(argv)
    directory = run_directory(options.run, options)
    from w2sr_jax.graph.store import RunStore

    if RunStore(directory).mirror is not None:
        raise UserError(
            f"{options.run} lies in a bucket, and what is made to compare with it would, too; run its configuration with --fresh "
            "and another --name, and look at both with w2sr compare"
        )
    from w2sr_jax.cli.console import Console
    from w2sr_jax.runs.reproduce.command import reproduce

    with Console(plain=options.plain) as console:
        result = reproduce(directory, options.into, options.stage, console, options.keep, stop, options.trust)
    terminal.say(result.text().rstrip("\n"))
    return 0 if result.identical else 1
