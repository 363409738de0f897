"""The commands that bring models and traces in and out: each parses its arguments, calls, prints."""

import argparse
from pathlib import Path

from w2sr_jax.cli.arguments import add_processes, add_root, joined, local_path, root_of, run_directory
from w2sr_jax.core.bucket import is_address
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop

_ANEW = "nothing was made; the same command begins anew"


def import_(argv: list[str], about: str, stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr import", description=about)
    parser.add_argument("model", metavar="MODEL", help="Hub id (OWNER/NAME[@REVISION]) or Hugging Face directory")
    parser.add_argument("out", metavar="OUT", type=local_path, help="directory to make")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16"), default="float32", help="type of the parameters (default: float32)"
    )
    add_processes(parser)
    options = parser.parse_args(argv)
    facts = {"MODEL": options.model, "OUT": str(options.out.absolute()), "--dtype": options.dtype}
    with joined(options, facts, stop, _ANEW):
        from w2sr_jax.convert.importing import import_model

        import_model(options.model, options.out, options.dtype)
    return 0


def export_(argv: list[str], about: str, stop: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr export", description=about)
    parser.add_argument(
        "source", metavar="SOURCE", help="a model's directory in a run, a run (with --model), or an imported model"
    )
    parser.add_argument("out", metavar="OUT", type=local_path, help="directory to make")
    parser.add_argument("--model", default=None, help="which model of the run, as tables call it, such as 0-small.correct")
    parser.add_argument("--shard-size", default="5GB", help="largest safetensors file, such as 5GB or 500MB (default: 5GB)")
    parser.add_argument("--adapter", action="store_true", help="only the LoRA adapter, in peft's format")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default=None, help="type of the weights (default: as kept)")
    add_root(parser)
    add_processes(parser)
    options = parser.parse_args(argv)
    named = options.source if is_address(options.source) else str(local_path(options.source))
    facts = {"SOURCE": named, "OUT": str(options.out.absolute()), "--model": str(options.model)}
    facts |= {"--shard-size": options.shard_size, "--adapter": str(options.adapter), "--dtype": str(options.dtype)}
    with joined(options, facts, stop, _ANEW):
        from w2sr_jax.convert.exporting import export, size_of

        source = _source(options)
        export(source, options.out, options.model, size_of(options.shard_size), options.adapter, options.dtype)
    return 0


def _source(options: argparse.Namespace) -> Path:
    """What an export reads: a directory, one in the root, or a run in a bucket."""
    if is_address(options.source):
        return run_directory(options.source, options)
    named = local_path(options.source)
    return named if named.is_dir() else root_of(options) / named


def publish_(argv: list[str], about: str, _: Stop) -> int:
    parser = argparse.ArgumentParser(prog="w2sr publish", description=about)
    parser.add_argument("run", metavar="RUN", help="run directory")
    parser.add_argument("--rung", type=int, default=0, help="traces that this rung learned from (default: 0)")
    parser.add_argument("--teacher", default=None, help="only this teacher's (default: all of the rung)")
    parser.add_argument("--out", type=local_path, required=True, help="directory to make")
    add_root(parser)
    options = parser.parse_args(argv)
    from w2sr_jax.convert.publish import publish

    publish(run_directory(options.run, options), options.rung, options.teacher, options.out, terminal.say)
    return 0
