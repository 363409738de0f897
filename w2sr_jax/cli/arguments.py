"""What the arguments of several commands have in common."""

import argparse
import contextlib
import re
from collections.abc import Mapping
from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import Stop

_SCHEME = re.compile(r"(?!file:)([a-zA-Z][a-zA-Z0-9+.-]*)://")


def local_path(written: str) -> Path:
    """A directory or file as an argument names it. `UserError` for an address of anything else than a file system, which would be
    taken for a directory of that name."""
    if scheme := _SCHEME.match(written):
        raise UserError(
            f"{written}: runs lie in a directory, and nothing here reads or writes {scheme[1]}://; mount it where every "
            "host sees it (NFS, GCS-FUSE, s3fs) and name that directory"
        )
    return Path(written.removeprefix("file://"))


def add_root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=local_path, default=Path("runs"), help="directory of all runs (default: runs)")


def add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain lines instead of progress bars")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true", help="execute the Python that a run brings from somebody else")


def run_directory(target: str, root: Path) -> Path:
    """The run that is meant. `UserError` where there is none, or a link in it leads out of it."""
    named = local_path(target)
    run = named if named.is_dir() else root / named
    if not run.is_dir():
        raise UserError(f"{target} is not a run directory (looked in {root} too)")
    files.check_tree(run)
    return run


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coordinator", default="", metavar="HOST:PORT", help="of process 0, where several share the work")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many; 0: as the cluster says (default: 1)")
    parser.add_argument("--process", type=int, default=0, metavar="I", help="which of them this one is (default: 0)")
    parser.add_argument("--wait", type=int, default=30, metavar="SECONDS", help="how long for the others to come (default: 30)")


def joined(
    options: argparse.Namespace, facts: Mapping[str, str], stop: Stop, afterwards: str
) -> contextlib.AbstractContextManager[None]:
    """The processes of a command, which must all have been told the same. `afterwards` says what an interruption leaves."""
    if options.processes == 1 and not options.coordinator:
        return contextlib.nullcontext()
    from w2sr_jax.parallel import processes
    from w2sr_jax.parallel.settings import Processes

    settings = Processes(options.coordinator, options.processes, options.process, options.wait)
    return processes.joined(settings, facts, stop, afterwards)
