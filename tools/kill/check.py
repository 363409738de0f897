"""What a run that was killed and continued must have in common with an undisturbed one, and what it must not leave behind."""

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.core import records
from w2sr_jax.core.records import Trace
from w2sr_jax.graph.store import RunStore

TOKEN = "W2SR_KILL"  # in the environment of a run and of all processes that it starts
PATIENCE = 20.0  # seconds in which processes whose parent was killed must have ended
LEFT_OVER = re.compile(r"\.tmp$|\.orbax-checkpoint-tmp|\.unsound|\.removed$|^\.lock$")
_NAMED_AT_RANDOM = re.compile(r"(^|/)(tensorboard/|checkpoints/[^/]+/)")


class Snapshot(NamedTuple):
    """All of a finished run that must not depend on interruptions."""

    digests: dict[str, str]
    traces: dict[str, list[tuple[Any, ...]]]
    metrics: dict[str, bytes]
    files: set[str]


def snapshot(run: Path) -> Snapshot:
    names = [path.relative_to(run / "lineage").with_suffix("").as_posix() for path in sorted((run / "lineage").rglob("*.json"))]
    manifests = {name: RunStore(run).peek(name) for name in names}
    traces: dict[str, list[tuple[Any, ...]]] = {}
    for path in sorted(run.rglob("traces-*.parquet")):
        rows = [(trace.problem_id, trace.sample, trace.id) for trace in records.read(path, Trace)]
        traces.setdefault(path.parent.relative_to(run).as_posix(), []).extend(rows)
    return Snapshot(
        {name: manifest.digest() if manifest else "damaged" for name, manifest in manifests.items()},
        traces,
        {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("metrics.jsonl"))},
        {name for name in _files(run) if not _NAMED_AT_RANDOM.search(name)},
    )


def unlike(undisturbed: Snapshot, run: Path, without: str | None = None) -> list[str]:
    """In what a finished run differs from the undisturbed one, and what it left behind; sentences. The stage `without` may have
    another digest."""
    found = snapshot(run)
    said = [f"left over: {name}" for name in leftovers(run)]
    for name in sorted((undisturbed.digests.keys() | found.digests.keys()) - {without}):
        if undisturbed.digests.get(name) != found.digests.get(name):
            said.append(f"stage {name} has digest {found.digests.get(name)}, not {undisturbed.digests.get(name)}")
    for place, rows in sorted(found.traces.items()):
        said += [f"{place}: trace {row} is there {count} times" for row, count in Counter(rows).items() if count > 1]
    for place, rows in sorted(undisturbed.traces.items()):
        lost = set(rows) - set(found.traces.get(place, ()))
        said += [f"{place}: {len(lost)} traces are lost, such as {min(lost)}"] if lost else []
    said += [f"{name} has other bytes" for name, content in undisturbed.metrics.items() if found.metrics.get(name) != content]
    said += [f"{name} is there only after an interruption" for name in sorted(found.files - undisturbed.files)]
    said += [f"{name} is missing" for name in sorted(undisturbed.files - found.files)]
    return said


def leftovers(run: Path) -> list[str]:
    """Temporary files and directories of which a finished run must be free."""
    return sorted(path.relative_to(run).as_posix() for path in run.rglob("*") if LEFT_OVER.search(path.name))


def unsaved(run: Path, since: float) -> list[str]:
    """Trainings that wrote metrics after `since` (seconds since 1970) and have no checkpoint of the last step; sentences."""
    said = []
    for path in sorted(run.rglob("metrics.jsonl")):
        lines = path.read_text().splitlines()
        if path.stat().st_mtime <= since or not lines:
            continue
        last = int(json.loads(lines[-1])["step"])
        newest = max((int(step.name) for step in (path.parent / "checkpoints").glob("*") if step.name.isdecimal()), default=0)
        if newest < last:
            said.append(f"{path.parent.relative_to(run)}: step {last} was done, and the newest checkpoint is {newest}")
    return said


def orphans(token: str, patience: float = PATIENCE) -> list[int]:
    """Processes of a run that are alive when `patience` seconds have passed since its end."""
    until = time.monotonic() + patience
    while found := _alive(token):
        if time.monotonic() > until:
            return found
        time.sleep(0.1)
    return []


def _alive(token: str) -> list[int]:
    wanted, found = f"{TOKEN}={token}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:  # it has ended, or is not ours to look at
                continue
    return found


def _files(run: Path) -> list[str]:
    return [path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()]
