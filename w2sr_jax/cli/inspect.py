"""The commands that look at finished runs: each parses its arguments, calls, prints."""

import argparse

from w2sr_jax.cli.arguments import add_plain, add_root, local_path, run_directory
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop


def show(argv: list[str], about: str, _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr show", description=about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--example", type=int, default=0, help="which training example, from 0 (default: 0)")
    parser.add_argument("--rung", type=int, default=0, help="of which rung (default: 0)")
    parser.add_argument("--arm", default=None, help="of which arm of the rung, by its name, or gold (default: the first)")
    add_root(parser)
    add_plain(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.show import show

    show(run_directory(options.run, options), options.example, options.rung, options.arm, options.plain)
    return 0


def explain(argv: list[str], about: str, _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr explain", description=about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("problem", metavar="PROBLEM_ID", help="id of a problem, or its first characters")
    parser.add_argument("--model", default=None, help="only what this model learned and answered, by its name (0-small.correct)")
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.explain import explain

    explain(run_directory(options.run, options), options.problem, terminal.say, options.model)
    return 0


def compare(argv: list[str], about: str, _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr compare", description=about)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories")
    parser.add_argument("--metric", default="accuracy", help="accuracy, vs_teacher, rgr or induced (default: accuracy)")
    parser.add_argument("--model", default=None, help="the model whose metric is followed over runs (default: the last rung's)")
    parser.add_argument(
        "--out", type=local_path, default=None, help="also write compare.html and compare.json into this directory"
    )
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.compare.command import compare

    runs = [run_directory(run, options) for run in options.runs]
    compare(runs, options.out, terminal.say, metric=options.metric, model=options.model)
    return 0
