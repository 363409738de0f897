"""Directories of checkpoints, on a disk or in a bucket: what lies there, whether it is as it was sealed, and removing it.

In a bucket a directory is what the names of objects begin with. Its seal does not list digests of bytes, which nobody reads for
it, but what the store itself says of every object: its size, and a mark that is another one for other bytes.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from w2sr_jax.core import files
from w2sr_jax.core.bucket import Bucket
from w2sr_jax.core.errors import UserError

Location: TypeAlias = Path
"""Where checkpoints lie: a path on a disk, or an address in a bucket (`etils.epath`), which has a path's operators."""

COMMITTED = "commit_success.txt"
"""What Orbax writes last into a directory that lies in a bucket."""
_DIRECT = ("gs",)


class Tree(Protocol):
    """A directory. Names are relative to it."""

    atomic: bool
    """Whether a directory is renamed in one step."""

    def exists(self) -> bool: ...

    def create(self) -> None: ...

    def folders(self) -> list[str]:
        """The directories in it."""
        ...

    def lacks(self, names: tuple[str, ...]) -> str | None:
        """The first of these files that is not there, or of what else shows that all of the directory was written."""
        ...

    def read_json(self, name: str) -> Any: ...

    def write_json(self, name: str, value: Any) -> None: ...

    def sealed(self) -> bool: ...

    def seal(self, digests: Mapping[str, str] | None = None) -> None:
        """Seal all that is there; see `files.seal`."""
        ...

    def damage(self) -> str | None:
        """What differs from what was sealed, in words; see `files.damage`."""
        ...

    def remove(self) -> None:
        """Remove it with all that is in it. In a bucket, what shows that it is whole goes first."""
        ...


def tree(location: Location) -> Tree:
    return LocalTree(location) if isinstance(location, Path) else BucketTree(Bucket(str(location)))


def location(bucket: Bucket) -> Location:
    """An address with a path's operators, as Orbax takes it."""
    os.environ.setdefault("EPATH_USE_TF", "false")  # TensorFlow, where it is installed, would have its own way to buckets
    from etils import epath

    address: Location = epath.Path(bucket.address)
    return address


def absolute(location: Location) -> Location:
    return location.absolute() if isinstance(location, Path) else location


def direct(bucket: Bucket) -> bool:
    """Whether Orbax and tensorstore read and write a bucket of this scheme by themselves."""
    return bucket.scheme in _DIRECT


def holds(seal: Any) -> bool:
    """Whether a seal is of a directory in a bucket: it lists marks of objects, not digests of bytes."""
    return isinstance(seal, dict) and any(":" in str(mark) for mark in seal.values())


class LocalTree:
    """A directory on a disk."""

    atomic = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return self.path.is_dir()

    def create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def folders(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir() if path.is_dir()) if self.path.is_dir() else []

    def lacks(self, names: tuple[str, ...]) -> str | None:
        return next((name for name in names if not (self.path / name).is_file()), None)

    def read_json(self, name: str) -> Any:
        return files.read_json(self.path / name)

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value)

    def sealed(self) -> bool:
        return files.sealed(self.path)

    def seal(self, digests: Mapping[str, str] | None = None) -> None:
        files.sweep(self.path)  # what a killed sealing left in it does not come under the seal
        files.seal(self.path, digests)

    def damage(self) -> str | None:
        return files.damage(self.path)

    def remove(self) -> None:
        files.remove(self.path)


class BucketTree:
    """A directory in a bucket."""

    atomic = False

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def exists(self) -> bool:
        return bool(self.bucket.listing())

    def create(self) -> None:
        """Nothing: objects are there without directories."""

    def folders(self) -> list[str]:
        return self.bucket.folders()

    def lacks(self, names: tuple[str, ...]) -> str | None:
        there = self.bucket.listing()
        return next((name for name in (COMMITTED, *names) if name not in there), None)

    def read_json(self, name: str) -> Any:
        data = self.bucket.read([name]).get(name)
        if data is None:
            raise UserError(f"{self.bucket.address}/{name} does not exist")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.bucket.address}/{name} is not valid JSON: {error}") from None

    def write_json(self, name: str, value: Any) -> None:
        self.bucket.write(name, files.json_text(value).encode())

    def sealed(self) -> bool:
        return self.bucket.entry(files.SEAL) is not None

    def seal(self, digests: Mapping[str, str] | None = None) -> None:
        del digests
        self.write_json(files.SEAL, self._marks())

    def damage(self) -> str | None:
        try:
            stated = self.read_json(files.SEAL)
        except UserError as error:
            return str(error)
        if not isinstance(stated, dict) or not stated:
            return f"{self.bucket.address}/{files.SEAL} does not list what was sealed"
        now = self._marks()
        for name, mark in sorted(stated.items()):
            if name not in now:
                return f"{self.bucket.address}/{name} is missing"
            # A digest of bytes, which the seal of a directory on a disk lists, is compared once the bytes are fetched.
            if ":" in str(mark) and now[name] != mark:
                return f"{self.bucket.address}/{name} is not the object that was sealed in {files.SEAL}"
        return None

    def remove(self) -> None:
        names = self.bucket.listing()
        first = [name for name in (COMMITTED, files.SEAL) if name in names]
        self.bucket.remove(first)
        self.bucket.remove(name for name in names if name not in first)

    def _marks(self) -> dict[str, str]:
        entries = self.bucket.listing().items()
        return {name: f"{entry.size}:{entry.mark}" for name, entry in entries if name != files.SEAL}
