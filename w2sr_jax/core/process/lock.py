"""A lock for one process at a time in a directory. It is the operating system's, so that a dead process does not hold it."""

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core.errors import UserError

LOCK = ".lock"


class Lock(NamedTuple):
    """A lock that is held. `check` raises `UserError` once the directory has been moved or removed, which it may be at any time.
    A child process to which the file `handle` is passed on holds the lock, too, and keeps it as long as it lives."""

    check: Callable[[], None]
    handle: int


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[Lock]:
    """Hold DIRECTORY/.lock; `UserError` naming the other process where one holds it, and where no directory can be there, and as
    `Lock.check` does, which is also looked at where anything else fails or the end is reached. Child processes do not inherit it
    by themselves.
    """
    _begin(directory)
    handle = _acquire(directory / LOCK)

    def check() -> None:
        if not _same(handle, directory / LOCK):
            raise UserError(
                f"{directory} was moved, or removed, while it was worked on; what had been written before is where it went, and "
                f"the command goes on there"
            )

    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"process": os.getpid(), "host": platform.node()}).encode(), 0)
        try:
            yield Lock(check, handle)
        except Exception:
            check()  # which may be why it failed
            raise
        check()
    finally:
        if _same(handle, directory / LOCK):  # not where another process has created the directory anew
            (directory / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _begin(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        way = [path for path in (directory, *directory.parents) if path.is_symlink() or path.exists()]
        blocking = next(path for path in way if not path.is_dir())
        kind = (
            f"a link to {os.readlink(blocking)}, where nothing is"
            if blocking.is_symlink() and not blocking.exists()
            else "a file"
        )
        raise UserError(f"{blocking} is {kind}, and a directory is to be there; choose another place, or remove it") from None


def _same(handle: int, path: Path) -> bool:
    """Whether the open file is the one at the path; also True where the file system does not answer."""
    try:
        opened, named = os.fstat(handle), os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return (opened.st_ino, opened.st_dev) == (named.st_ino, named.st_dev)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise UserError(f"{path.parent} is in use by {holder}; wait until it has finished, or stop it") from None
        except OSError:
            os.close(handle)
            raise
        # Its last holder may have removed the file that was opened, and another process created a new one.
        if _same(handle, path):
            return handle
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        note = json.loads(os.pread(handle, 1000, 0))
        return f"process {int(note['process'])} on {note['host']}"
    except (ValueError, TypeError, KeyError):
        return "another process"
