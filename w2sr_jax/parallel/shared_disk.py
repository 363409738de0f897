"""Whether all processes see one directory: those that write to a disk of their own would miss what the others write."""

import contextlib
import secrets
import time
from pathlib import Path

from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import processes

_LATE = 10.0  # seconds after which a file that one process has written must be seen by the others


def check(marker: Path, directory: Path) -> None:
    """`UserError` in a process that does not see `marker`, a file that process 0 writes and removes, although all use
    `directory`. All processes call it."""
    if processes.count() == 1:
        return
    token = secrets.token_hex(8)
    if processes.is_first():
        marker.write_text(token)
    token = processes.barrier(f"{directory.name} is shared", {"*token": token})["*token"]
    seen = _sees(marker, token)
    if seen:
        processes.barrier(f"{directory.name} is seen", patience=2 * _LATE)
    if processes.is_first():
        marker.unlink(missing_ok=True)
    if not seen:
        raise UserError(
            f"process {processes.index()} does not see {directory} as process 0 does; give a directory that all share"
        )


def _sees(marker: Path, token: str) -> bool:
    end = time.monotonic() + _LATE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if marker.read_text() == token:
                return True
        time.sleep(0.2)
    return False
