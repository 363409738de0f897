"""Which files below a directory are opened, by whichever library: told by the kernel (inotify, Linux)."""

import ctypes
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OPENED, _DIRECTORY = 0x20, 0x40000000
_EVENT = struct.Struct("iIII")


@contextmanager
def opened(root: Path) -> Iterator[set[str]]:
    """Yields a set that holds the names, relative to `root`, of all files opened meanwhile, once the context is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify is not available; the tool needs Linux")
    names: set[str] = set()
    try:
        folders = {}
        for folder, _, _ in os.walk(root):
            watch = libc.inotify_add_watch(descriptor, os.fsencode(folder), _OPENED)
            folders[watch] = Path(folder).relative_to(root)
        _drain(descriptor, folders)  # what walking has opened
        yield names
        names |= _drain(descriptor, folders)
    finally:
        os.close(descriptor)


def _drain(descriptor: int, folders: dict[int, Path]) -> set[str]:
    found = set()
    while True:
        try:
            data = os.read(descriptor, 1 << 20)
        except BlockingIOError:
            return found
        at = 0
        while at < len(data):
            watch, mask, _, size = _EVENT.unpack_from(data, at)
            name = os.fsdecode(data[at + _EVENT.size : at + _EVENT.size + size].rstrip(b"\0"))
            at += _EVENT.size + size
            if not mask & _DIRECTORY and watch in folders:
                found.add((folders[watch] / name).as_posix())
