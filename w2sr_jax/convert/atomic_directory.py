"""Directories that appear whole or not at all: filled under another name in the same parent, then renamed."""

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.lock import LOCK, locked
from w2sr_jax.parallel.peers import Lost
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training.agreement import any_process

_SLACK = 1 << 20
_TOKEN = "shared"
_LATE = 10.0  # seconds after which a file that one process has written must be seen by the others


def require_vacant(out: Path) -> None:
    """`UserError` unless `out` can be created: it is absent, or an empty directory."""
    if out.is_dir():
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty; give a directory that does not exist yet")
    elif out.exists() or out.is_symlink():
        raise UserError(f"{out} is a file; give a directory that does not exist yet")


@contextlib.contextmanager
def creating(out: Path, size: int) -> Iterator[Path]:
    """Yield a directory to be filled with about `size` bytes. On success it is renamed to `out`, on failure removed.

    With several processes, all call this alike, and process 0 creates, renames and removes. `UserError` where `out` is not
    vacant, another process is creating it, the disk refuses, or a process does not see the directory.
    """
    require_vacant(out)
    workspace = out.absolute().parent / f".{out.absolute().name}.making"
    filling = workspace / "made"
    with contextlib.ExitStack() as stack:
        _agreed(_begin(workspace, filling, size, stack) if jax.process_index() == 0 else None)
        _shared(out, filling)
        refused = None
        try:
            yield filling
            barrier(f"made {out}")
            if jax.process_index() == 0:
                os.replace(filling, out)
        except (UserError, Lost):
            raise
        except Exception as error:  # Orbax and safetensors quote the disk's words
            refused = files.refusal(error, out)
            if refused is None:
                raise
        if refused is not None:
            raise UserError(refused)
    barrier(f"placed {out}")


def _begin(workspace: Path, filling: Path, size: int, stack: contextlib.ExitStack) -> str | None:
    """Lock the workspace, remove what a killed process left there, and create the directory; None, or a refusal in words."""
    try:
        parent = next(path for path in workspace.parents if path.exists())
        free = shutil.disk_usage(parent).free
        if free < size + _SLACK:
            room, need = sentences.size(free), sentences.size(size)
            return f"{parent} has room for {room}, and {need} are needed; free some space, or use another disk"
        stack.callback(_remove_empty, workspace)  # after the lock in it is released
        stack.enter_context(locked(workspace))
        stack.callback(_clear, workspace)
        shutil.rmtree(filling, ignore_errors=True)
        filling.mkdir()
    except UserError as error:
        return str(error)
    except OSError as error:
        return files.refusal(error) or f"{error.filename or workspace} cannot be made: {error.strerror}"
    return None


def _clear(workspace: Path) -> None:
    """Remove all but the lock."""
    for path in workspace.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != LOCK:
            path.unlink(missing_ok=True)


def _remove_empty(workspace: Path) -> None:
    """Remove the directory, unless another process has begun in it."""
    with contextlib.suppress(OSError):
        workspace.rmdir()


def _shared(out: Path, filling: Path) -> None:
    """`UserError` where a process does not see the directory that process 0 has created: its files would be missing there."""
    if jax.process_count() == 1:
        return
    token, marker = secrets.token_hex(8), filling.with_name(_TOKEN)
    if jax.process_index() == 0:
        marker.write_text(token)
    token = barrier(f"begun {out}", {"*token": token}).get("*token", token)
    end, seen = time.monotonic() + _LATE, False
    while not seen:
        with contextlib.suppress(OSError):
            seen = marker.read_text() == token
        if time.monotonic() > end:
            break
        time.sleep(0 if seen else 0.2)
    blind = (
        None
        if seen
        else f"process {jax.process_index()} does not see {out.parent} as process 0 does; give a directory that all share"
    )
    _agreed(blind)


def _agreed(reason: str | None) -> None:
    if any_process(reason is not None):
        time.sleep(0 if reason else 1)  # the process with the reason raises first and ends the others
        raise UserError(reason or "another process has refused")
