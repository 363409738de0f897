"""The directory that a run is done again in: claimed for one reproduction, which can be continued after an interruption."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.lock import LOCK, locked

MARKER = "reproduction-of.json"
"""The file that says of what the directory holds a reproduction."""


@contextlib.contextmanager
def claimed(run: Path, into: Path, stage: str | None) -> Iterator[None]:
    """The directory `into`, for this process alone. `UserError` where it holds anything but the beginning of the same
    reproduction."""
    here, there = run.resolve(), into.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise UserError(f"--into {into} and the run {run} may not lie within each other; choose another directory")
    marker = into / MARKER
    if into.exists() and not marker.is_file() and (not into.is_dir() or any(into.iterdir())):
        raise UserError(f"{into} exists and holds no reproduction; remove it, or give another directory with --into")
    with locked(into):
        claim = files.read_json(marker) if marker.is_file() else _claim(run, stage)
        if claim != _claim(run, stage):
            which = "a finished reproduction" if "finished" in claim else "the beginning of another reproduction"
            raise UserError(f"{into} holds {which}; remove it, or give another directory with --into")
        files.sweep(into)
        files.write_json(marker, claim)
        yield


def mark_finished(run: Path, into: Path, stage: str | None, when: str) -> None:
    """Let the directory hold a finished reproduction, which is not continued."""
    files.write_json(into / MARKER, {**_claim(run, stage), "finished": when})


def remove(into: Path) -> None:
    """Remove the directory with all that is in it, its marker last: what a killed removal leaves is still known as a
    reproduction."""
    for path in sorted(into.iterdir()):
        if path.name not in (MARKER, LOCK):
            files.remove(path)
    files.remove(into)


def _claim(run: Path, stage: str | None) -> dict[str, Any]:
    experiment = files.digest_file(run / saved.EXPERIMENT)
    return {"run": str(run.resolve()), "stage": stage, "experiment": experiment}
