"""What would end a command in the middle of its work: a working directory that is gone, names that are no text, limits of files,
threads and memory that are too low. It is mended where it can be, and otherwise refused in a sentence before anything is done."""

import contextlib
import os
import resource
from collections.abc import Sequence

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

FILES = 256  # open files that the limit is raised to
FEWEST = 96  # open files below which training or reading fails somewhere in a library
THREADS = 32, 16  # threads that jax, its compiler and other libraries start, and more for each core
MANY = 4096  # threads that an account may have from which on they are not counted
MEMORY = 3 << 30  # bytes of address space below which jax aborts at its start


def check(argv: Sequence[str]) -> None:
    """`UserError` where the working directory is gone, an argument is no text, or the limits are too low to begin."""
    try:
        here = os.getcwd()
    except OSError as error:
        raise UserError(f"the working directory does not exist any more ({error.strerror}); go to one that does") from None
    for name in (*argv, here):
        if not _text(name):
            raise UserError(f"{sentences.value(name)} is not UTF-8 and cannot be written down in a run's files; use another name")
    _raise_files()
    _count_threads()
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory != resource.RLIM_INFINITY and memory < MEMORY:
        raise UserError(
            f"this process may have {memory >> 20:,} MiB of address space (ulimit -v), and {MEMORY >> 20:,} are needed; "
            f"raise the limit"
        )


def _text(name: str) -> bool:
    try:
        return os.fsencode(name).decode("utf-8") == name
    except UnicodeError:
        return False


def _count_threads() -> None:
    """`UserError` where the account has too few threads left, as far as they can be counted."""
    limit = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if limit == resource.RLIM_INFINITY or limit > MANY or os.getuid() == 0 or not os.path.isdir("/proc/self/task"):
        return
    used, needed = 0, THREADS[0] + THREADS[1] * (os.cpu_count() or 1)
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                used += len(os.listdir(f"/proc/{name}/task"))
    if limit - used < needed:
        raise UserError(
            f"this account may have {limit} threads and processes (ulimit -u) and has {used}; at least {needed} more are needed: "
            f"raise the limit"
        )


def _raise_files() -> None:
    """Raise the limit of open files where it is low. `UserError` where it stays below `FEWEST`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= FILES:
        return
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
        soft = max(soft, most)
    if soft < FEWEST:
        raise UserError(f"this process may open {soft} files (ulimit -n), and at least {FEWEST} are needed; raise the limit")
