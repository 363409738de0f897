"""The commands that take a finished or imported thing, not an experiment: each parses its arguments, calls, prints."""

import argparse
import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("runs"), help="directory of all runs (default: runs)")


def add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain lines instead of progress bars")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true", help="execute the Python that a run brings from somebody else")


def run_directory(target: str, root: Path) -> Path:
    """The run that is meant. `UserError` where there is none, or a link in it leads out of it."""
    directory = Path(target) if Path(target).is_dir() else root / target
    if not directory.is_dir():
        raise UserError(f"{target} is not a run directory (looked in {root} too)")
    files.check_tree(directory)
    return directory


def _reproduce(argv: list[str], stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr reproduce", description=COMMANDS["reproduce"].about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--stage", default=None, help="only this stage (a name as the run prints it), from the inputs it had")
    parser.add_argument("--into", type=Path, default=None, help="directory to rerun in (default: RUN.reproduced)")
    parser.add_argument("--keep", action="store_true", help="keep that directory where everything is identical")
    add_root(parser)
    add_plain(parser)
    add_trust(parser)
    options = parser.parse_args(argv)
    directory = run_directory(options.run, options.root)
    from w2sr_jax.cli.console import Console
    from w2sr_jax.runs.reproduce import reproduce

    with Console(plain=options.plain) as console:
        found = reproduce(directory, options.into, options.stage, console, options.keep, stop, options.trust)
    terminal.say(found.text().rstrip("\n"))
    return 0 if found.identical else 1


def _explain(argv: list[str], _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr explain", description=COMMANDS["explain"].about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("problem", metavar="PROBLEM_ID", help="id of a problem, or its first characters")
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.explain import explain

    explain(run_directory(options.run, options.root), options.problem, terminal.say)
    return 0


def _compare(argv: list[str], _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr compare", description=COMMANDS["compare"].about)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="run directories")
    parser.add_argument("--metric", default="accuracy", help="accuracy, vs_teacher, rgr or induced (default: accuracy)")
    parser.add_argument("--model", default=None, help="the model whose metric is followed over runs (default: the last rung's)")
    parser.add_argument("--out", type=Path, default=None, help="also write compare.html and compare.json into this directory")
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.compare.command import compare

    runs = [run_directory(run, options.root) for run in options.runs]
    compare(runs, options.out, terminal.say, metric=options.metric, model=options.model)
    return 0


def _show(argv: list[str], _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr show", description=COMMANDS["show"].about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--example", type=int, default=0, help="which training example, from 0 (default: 0)")
    parser.add_argument("--rung", type=int, default=0, help="of which rung (default: 0)")
    parser.add_argument(
        "--arm", default=None, help="of which arm: all, correct, incorrect, majority or gold (default: the first)"
    )
    add_root(parser)
    add_plain(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.runs.show import show

    show(run_directory(options.run, options.root), options.example, options.rung, options.arm, options.plain)
    return 0


def _import(argv: list[str], stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr import", description=COMMANDS["import"].about)
    parser.add_argument("model", metavar="MODEL", help="Hub id (OWNER/NAME[@REVISION]) or Hugging Face directory")
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to make")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="type of the parameters (default: float32)"
    )
    _add_processes(parser)
    options = parser.parse_args(argv)
    told = {"MODEL": options.model, "OUT": str(options.out.absolute()), "--dtype": options.dtype}
    with _joined(options, told, stop):
        from w2sr_jax.convert.importing import import_model

        import_model(options.model, options.out, options.dtype)
    return 0


def _export(argv: list[str], stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr export", description=COMMANDS["export"].about)
    parser.add_argument(
        "source", metavar="SOURCE", help="a model's directory in a run, a run (with --model), or an imported model"
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="directory to make")
    parser.add_argument("--model", default=None, help="which model of the run, as tables call it, such as 0-small.correct")
    parser.add_argument("--shard-size", default="5GB", help="largest safetensors file, such as 5GB or 500MB (default: 5GB)")
    parser.add_argument("--adapter", action="store_true", help="only the LoRA adapter, in peft's format")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None, help="type of the weights (default: as kept)")
    add_root(parser)
    _add_processes(parser)
    options = parser.parse_args(argv)
    source = Path(options.source) if Path(options.source).is_dir() else options.root / options.source
    told = {"SOURCE": str(source.absolute()), "OUT": str(options.out.absolute()), "--model": str(options.model)}
    told |= {"--shard-size": options.shard_size, "--adapter": str(options.adapter), "--dtype": str(options.dtype)}
    with _joined(options, told, stop):
        from w2sr_jax.convert.export import export, size_of

        export(source, options.out, options.model, size_of(options.shard_size), options.adapter, options.dtype)
    return 0


def _publish(argv: list[str], _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr publish", description=COMMANDS["publish"].about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--rung", type=int, default=0, help="traces that this rung learned from (default: 0)")
    parser.add_argument("--teacher", default=None, help="only this teacher's (default: all of the rung)")
    parser.add_argument("--out", type=Path, required=True, help="directory to make")
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.convert.publish import publish

    publish(run_directory(options.run, options.root), options.rung, options.teacher, options.out, terminal.say)
    return 0


def _grade(argv: list[str], _: Stop) -> int:
    from w2sr_jax.cli.grade import run

    return run(argv, COMMANDS["grade"].about)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coordinator", default="", metavar="HOST:PORT", help="of process 0, where several share the work")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many; 0: as the cluster says (default: 1)")
    parser.add_argument("--process", type=int, default=0, metavar="I", help="which of them this one is (default: 0)")
    parser.add_argument("--wait", type=int, default=30, metavar="SECONDS", help="how long for the others to come (default: 30)")


def _joined(options: argparse.Namespace, told: Mapping[str, str], stop: Stop) -> contextlib.AbstractContextManager[None]:
    """The processes of a command, which must all have been told the same."""
    if options.processes == 1 and not options.coordinator:
        return contextlib.nullcontext()
    from w2sr_jax.parallel.processes import joined
    from w2sr_jax.parallel.settings import Processes

    settings = Processes(options.coordinator, options.processes, options.process, options.wait)
    return joined(settings, told, stop, "nothing was made; the same command begins anew")


class Command(NamedTuple):
    """How a command is called, what it does in a line, and the function that does it (its exit code)."""

    usage: str
    about: str
    work: Callable[[list[str], Stop], int]


COMMANDS = {
    "show": Command("show RUN --example 3", "one training example token by token, with spans and weights in colour", _show),
    "explain": Command(
        "explain RUN PROBLEM_ID", "the whole life of one problem: traces, verdicts, why kept or dropped, steps, answers", _explain
    ),
    "compare": Command(
        "compare RUN RUN ...", "runs side by side, with paired tests, and how a metric moved over runs and dates", _compare
    ),
    "grade": Command(
        "grade FILE --gold A --text B", "grade texts of a file: verdicts, rules, kinds, and where labels disagree", _grade
    ),
    "reproduce": Command(
        "reproduce RUN [--stage NAME]", "run a finished experiment again, or one stage of it, and compare digests", _reproduce
    ),
    "import": Command("import MODEL OUT", "a Hub id or Hugging Face directory becomes an Orbax checkpoint", _import),
    "export": Command("export RUN/rungs/0-x/ARM OUT", "a student as safetensors with tokenizer and model card", _export),
    "publish": Command("publish RUN --out DIR", "a teacher's traces as a TFDS data set in ArrayRecord files", _publish),
}
