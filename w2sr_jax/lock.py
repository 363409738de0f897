"""One process at a time on a run directory. The lock is the operating system's, so that a dead process does not keep it."""

import contextlib
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from w2sr_jax.errors import UserError

LOCK = ".lock"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold DIRECTORY/.lock; `UserError` naming the other process where one holds it. Child processes do not inherit it."""
    directory.mkdir(parents=True, exist_ok=True)
    handle = _acquire(directory / LOCK)
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"process": os.getpid(), "host": platform.node()}).encode(), 0)
        yield
    finally:
        (directory / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(handle)
            os.close(handle)
            raise UserError(f"{path.parent} is in use by {holder}; wait until it has finished, or stop it") from None
        except OSError:
            os.close(handle)
            raise
        # The file that was opened may have been removed by its last holder, and another made in its place.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def _holder(handle: int) -> str:
    try:
        known = json.loads(os.pread(handle, 1000, 0))
        return f"process {int(known['process'])} on {known['host']}"
    except (ValueError, TypeError, KeyError):
        return "another process"
