"""Which shards of a directory are finished, entered so that several processes can write at once."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.parallel import processes

log = logging.getLogger(__name__)

MARKER = "sampling.json"  # while several processes draw, sampling-1.json, … say what the others have finished


class Shard(NamedTuple):
    """One that is finished."""

    digest: str
    tokens: int


class Journal:
    """The finished shards. Each process enters its own in a file of its own; in the end there is one file."""

    def __init__(self, directory: Path, identity: str) -> None:
        self._directory, self._identity, self._shards = directory, identity, dict[str, Shard]()
        index = jax.process_index()
        self.path = directory / (f"sampling-{index}.json" if index else MARKER)

    def open(self) -> dict[str, Shard]:
        """Shards that stand, as the first process sees them. It removes files that are none of them."""
        if jax.process_index() == 0:
            self._shards = self._standing()
            self._write_alone()
        first = exchange(self._shards)[0]
        return {name: Shard(*entry) for name, entry in first.items()}

    def enter(self, name: str, shard: Shard) -> None:
        self._shards[name] = shard
        self._write()

    def close(self, finished: Mapping[str, Shard]) -> None:
        """These are all there are; other shards are removed."""
        if jax.process_index() == 0:
            entered, self._shards = self._shards, dict(finished)
            if entered != self._shards or self._others():
                self._write_alone()
            for path in self._directory.glob("traces-*.parquet"):
                if path.name not in finished:
                    path.unlink()
        processes.barrier(f"shards in {self._directory.name}")

    def _write(self) -> None:
        shards = {name: self._shards[name]._asdict() for name in sorted(self._shards)}
        files.write_json(self.path, {"identity": self._identity, "shards": shards})

    def _write_alone(self) -> None:
        """What the others entered is in this file too."""
        if self._shards:
            self._write()
        for path in self._others():
            path.unlink()

    def _others(self) -> list[Path]:
        return sorted(self._directory.glob("sampling-*.json"))

    def _standing(self) -> dict[str, Shard]:
        entered: dict[str, Shard] = {}
        for path in [self._directory / MARKER, *self._others()]:
            entered |= self._entered(path)
        standing = {}
        for path in sorted(self._directory.glob("traces-*.parquet")):
            shard = entered.get(path.name)
            if shard is not None and shard.digest == files.digest_file(path):
                standing[path.name] = shard
                continue
            if shard is not None:
                log.warning("%s does not have the digest it was written with; its traces are drawn again", path)
            path.unlink()
        return standing

    def _entered(self, path: Path) -> dict[str, Shard]:
        try:
            journal = files.read_json(path)
            if journal["identity"] != self._identity:
                return {}
            return {str(name): Shard(str(entry["digest"]), int(entry["tokens"])) for name, entry in journal["shards"].items()}
        except (UserError, KeyError, TypeError, ValueError, AttributeError):
            return {}


def exchange(value: Any) -> list[Any]:
    """What each process gave (JSON), process by process. All must call it."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.asarray(len(text), np.int32))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: len(text)] = text
    rows = multihost_utils.process_allgather(padded)
    return [json.loads(row[:size].tobytes()) for row, size in zip(np.asarray(rows), sizes.tolist(), strict=True)]
