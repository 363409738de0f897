"""What the arguments of several commands have in common."""

import argparse
import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.core.bucket import Bucket, is_address
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.stopping import GRACE, Stop

COMING = 30
"""Seconds in which all processes of a command must come, unless the user says otherwise."""
_SCHEME = re.compile(r"(?!file:)([a-zA-Z][a-zA-Z0-9+.-]*)://")


def local_path(written: str) -> Path:
    """A directory or file as an argument names it. `UserError` for an address of anything else than a file system, which would be
    taken for a directory of that name."""
    if scheme := _SCHEME.match(written):
        raise UserError(
            f"{written}: this is to be a directory, and nothing here reads or writes {scheme[1]}:// as one; runs may lie in a "
            "bucket of gs:// or s3:// (--root), anything else on a disk, or mounted as one (NFS, GCS-FUSE, s3fs)"
        )
    return Path(written.removeprefix("file://"))


def add_root(parser: argparse.ArgumentParser) -> None:
    words = "directory of all runs, or gs://BUCKET/PREFIX or s3://BUCKET/PREFIX (default: runs)"
    parser.add_argument("--root", type=_root, default="runs", help=words)
    words = "where this machine keeps what it needs of a bucket (default: a folder of the user's cache)"
    parser.add_argument("--scratch", type=local_path, default=None, metavar="DIR", help=words)


def _root(written: str) -> str:
    if not is_address(written):
        local_path(written)
    return written


def root_of(options: argparse.Namespace) -> Path:
    """The directory of all runs; where they lie in a bucket, this process's copy of it, into which files come as they are needed.
    `UserError` where the bucket cannot be read."""
    return _directory_of(options.root, options)


def _directory_of(written: str, options: argparse.Namespace) -> Path:
    if not is_address(written):
        return local_path(written)
    from w2sr_jax.graph.mirror import mirror_root

    bucket = Bucket(written.rstrip("/"))
    bucket.check()
    directory = _copy(written, options, _process(options))
    mirror_root(directory, bucket)
    return directory


def common_of(options: argparse.Namespace, root: Path) -> Path:
    """A directory that has one name in all processes of a command: the root, and where each has a copy of a bucket beside the
    copies."""
    return _copy(options.root, options, "") if several(options) and is_address(options.root) else root


def _copy(written: str, options: argparse.Namespace, process: str) -> Path:
    scratch = options.scratch or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "w2sr"
    return Path(scratch, process, written.replace("://", "/").rstrip("/"))


def _process(options: argparse.Namespace) -> str:
    """A folder of its own for each of several processes, also where some are on one machine."""
    if not several(options):
        return ""
    from w2sr_jax.parallel import processes

    return f"process-{processes.index()}"


def add_plain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plain", action="store_true", help="plain lines instead of progress bars")


def add_trust(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--trust", action="store_true", help="execute the Python that a run brings from somebody else")


def run_directory(target: str, options: argparse.Namespace) -> Path:
    """The run that is meant: a directory, a name in the root, or an address in a bucket. `UserError` where there is none, or a
    link in it leads out of it."""
    run = lookup(target, options)
    if run is None:
        raise UserError(f"{target} is not a run directory (looked in {options.root} too)")
    return run


def lookup(target: str, options: argparse.Namespace) -> Path | None:
    """`run_directory`, but None where there is none."""
    if is_address(target):
        root, _, name = target.rstrip("/").rpartition("/")
        run = _directory_of(root, options) / name if is_address(root) else None
    else:
        named = local_path(target)
        run = named if named.is_dir() else root_of(options) / named
    if run is None:
        return None
    from w2sr_jax.graph.store import RunStore

    RunStore(run).refresh_all()
    if not run.is_dir():
        return None
    files.check_tree(run)
    return run


def add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--coordinator", default="", metavar="HOST:PORT", help="of process 0, where several share the work")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="how many; 0: as the cluster says (default: 1)")
    parser.add_argument("--process", type=int, default=0, metavar="I", help="which of them this one is (default: 0)")
    parser.add_argument(
        "--wait",
        type=int,
        default=None,
        metavar="SECONDS",
        help=f"how long for the others to come (default: {COMING}), and for another command to end that works on the same run "
        "in a bucket (default: 0)",
    )
    parser.add_argument(
        "--grace",
        type=int,
        default=int(GRACE),
        metavar="SECONDS",
        help=f"after SIGTERM, to save and end by itself (default: {GRACE:.0f}); less than the platform waits before SIGKILL",
    )


def several(options: argparse.Namespace) -> bool:
    """Whether a command is one of several processes."""
    return getattr(options, "processes", 1) != 1 or bool(getattr(options, "coordinator", ""))


def joined(
    options: argparse.Namespace, facts: Mapping[str, str], stop: Stop, afterwards: str
) -> contextlib.AbstractContextManager[None]:
    """The processes of a command, which must all have been told the same. `afterwards` says what an interruption leaves."""
    if options.grace < 1:
        raise UserError(f"--grace {options.grace}: write the seconds from SIGTERM to the end, at least 1")
    stop.grace = options.grace
    if not several(options):
        return contextlib.nullcontext()
    from w2sr_jax.parallel import processes
    from w2sr_jax.parallel.settings import Processes

    settings = Processes(
        options.coordinator, options.processes, options.process, COMING if options.wait is None else options.wait
    )
    return processes.joined(settings, facts, stop, afterwards)
