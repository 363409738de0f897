"""The copy of a run that a machine works on, where the run itself lies in a bucket.

A root that mirrors a place in a bucket says so in `ROOT/.bucket.json`. What is read is fetched when it is asked for and compared
with the digest in its manifest; what a stage wrote is sent whole, its manifest last. The bucket is the truth: a manifest that is
not there does not count here either.
"""

import functools
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.bucket import Bucket, Entry
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import BucketTree, direct, holds
from w2sr_jax.graph import manifest as manifests_of
from w2sr_jax.graph.manifest import Manifest, file_digest

MARKER = ".bucket.json"
"""What says of a root which place in a bucket it mirrors."""
CONFIG, EXPERIMENT = "config", "experiment.json"
"""What of a run is no stage's, and is needed to go on with it."""


class _Same(NamedTuple):
    """An object's mark ("" where it was sent from here), and the size and time of the file here, when both had the same bytes."""

    mark: str
    size: int
    modified: int


class Mirror:
    """The copy of one run, in `directory`, of what lies in `bucket`. `UserError` wherever the bucket refuses."""

    def __init__(self, directory: Path, bucket: Bucket) -> None:
        self.directory, self.bucket = directory, bucket
        self._same: dict[str, _Same] = {}
        self._passing: set[str] = set()
        self._listing: Mapping[str, Entry] | None = None

    @property
    def direct(self) -> bool:
        """Whether every process reads and writes the arrays of checkpoints in the bucket itself; otherwise they are files like
        others, and one process alone writes them."""
        return direct(self.bucket)

    def refresh(self) -> None:
        """Have the manifests and the saved experiment here as they are in the bucket."""
        self._listing = None
        listing = self.bucket.listing(manifests_of.FOLDER) | self.bucket.listing(CONFIG)
        saved = self.bucket.entry(EXPERIMENT)
        listing |= {EXPERIMENT: saved} if saved else {}
        for path in sorted((self.directory / manifests_of.FOLDER).rglob("*.json")):
            if self._name(path) not in listing:
                path.unlink()
        changed = [name for name, entry in listing.items() if not self._is_same(name, entry)]
        for name, data in self.bucket.read(changed).items():
            path = files.within(self.directory, name)
            with files.replacing(path) as temporary:
                temporary.write_bytes(data)
            self._note(name, listing[name].mark)

    def bring(self, name: str, digest: str | None) -> None:
        """Have a file of this digest here. Where the bucket has another, that is what comes; where none, nothing."""
        path = files.within(self.directory, name)
        if not (path.is_file() and file_digest(path) == digest):
            self.bucket.fetch(name, path)

    def send(self, name: str) -> None:
        """Write a file into the bucket, or all that lies in a directory, its seal last; what is there already is left out."""
        path = self.directory / name
        every = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
        for each in sorted(every, key=lambda one: one.name == files.SEAL):
            own = self._name(each)
            status, same = each.stat(), self._same.get(own)
            if same is None or (same.size, same.modified) != (status.st_size, status.st_mtime_ns):
                self.bucket.send(each, own)
                self._same[own] = _Same("", status.st_size, status.st_mtime_ns)
        self._listing = None

    def publish(self, names: Iterable[str], lasting: bool = False) -> None:
        """Let other processes, and later ones on other machines, see files of a stage that is not finished. They are removed once
        it is, unless they are `lasting` or among what it wrote."""
        for name in names:
            self.send(name)
            if not lasting:
                self._passing.add(name)

    def obtain(self, prefix: str, lasting: bool = False) -> None:
        """Have here what others have published: the file of this name, or all that lies in the folder."""
        for name, entry in self.bucket.listing(prefix).items():
            if not lasting:
                self._passing.add(name)
            if not self._is_same(name, entry) and self.bucket.fetch(name, files.within(self.directory, name)):
                self._note(name, entry.mark)

    def equal(self, folder: str) -> None:
        """Let a folder of checkpoints in the bucket hold the finished steps that lie here, and nothing else."""
        here = {path.name for path in (self.directory / folder).iterdir() if path.name.isdecimal() and files.sealed(path)}
        for name in sorted(here, key=int):
            self.send(f"{folder}/{name}")
        self.remove(f"{folder}/{name}" for name in self.bucket.below(folder).folders() if name not in here)

    def commit(self, manifest: Manifest, there: bool = False) -> None:
        """Write what a stage made into the bucket, unless it is `there` already, and then its manifest."""
        for name in () if there else manifest.files():
            self.send(name)
        for name in () if there else manifest.artifacts:
            if not self.holds(name):
                self.send(name)
        data = files.json_text(manifests_of.signed(manifest)).encode()
        self.bucket.write(self._name(manifests_of.path(self.directory, manifest.stage)), data)
        self._listing = None

    def holds(self, name: str) -> bool:
        """Whether the files of a sealed directory lie in the bucket alone, as the seal says that is here."""
        return holds(files.read_json(self.directory / name / files.SEAL))

    def settle(self, owned: Collection[str]) -> None:
        """Remove what was published while a stage was under way, but for what is `owned` by finished stages."""
        self.remove(name for name in sorted(self._passing) if name not in owned)
        self._passing.clear()

    def remove(self, names: Iterable[str]) -> None:
        """Remove files, and all that lies in directories, from the bucket."""
        for name in names:
            self.bucket.remove([name, *self.bucket.listing(name)])
            self._same = {each: same for each, same in self._same.items() if each != name and not each.startswith(f"{name}/")}
        self._listing = None

    def broken(self, manifest: Manifest) -> list[tuple[str, str]]:
        """What the stage wrote and is not in the bucket as it was, as `manifest.broken_files` says it. Bytes of files are
        compared when they are fetched; of checkpoints, their marks in the bucket with those in the seal."""
        if self._listing is None:
            self._listing = self.bucket.listing()
        broken = {}
        for name in manifest.files():
            if name not in self._listing:
                whole = next((artifact for artifact in manifest.artifacts if name.startswith(f"{artifact}/")), name)
                broken[whole] = f"{self.bucket.address}/{name} is missing"
        for name in manifest.artifacts:
            words = BucketTree(self.bucket.below(name)).damage()
            if words is not None:
                broken.setdefault(name, words)
        return list(broken.items())

    def copy(self, other: "Mirror", manifest: Manifest) -> None:
        """Copy what a stage of another run of the same bucket wrote, within the bucket."""
        names = [*manifest.files(), *(name for each in manifest.artifacts for name in other.bucket.listing(each))]
        other.bucket.copy(dict.fromkeys(names), self.bucket)
        self._listing = None

    def _is_same(self, name: str, entry: Entry) -> bool:
        same, path = self._same.get(name), self.directory / name
        if same is None or not path.is_file():
            return False
        status = path.stat()
        if (same.size, same.modified) != (status.st_size, status.st_mtime_ns) or status.st_size != entry.size:
            return False
        return same.mark in ("", entry.mark)

    def _note(self, name: str, mark: str) -> None:
        status = (self.directory / name).stat()
        self._same[name] = _Same(mark, status.st_size, status.st_mtime_ns)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()


def mirror_root(root: Path, bucket: Bucket) -> None:
    """Let a root mirror a place in a bucket. `UserError` where it mirrors another one, or holds runs of its own."""
    before = _bucket(root)
    if before is None and any(root.glob(f"*/{manifests_of.FOLDER}")):
        raise UserError(f"{root} holds runs of its own and cannot mirror {bucket.address}; give another --scratch")
    if before is not None and before != bucket:
        raise UserError(f"{root} mirrors {before.address}, not {bucket.address}; give another --scratch")
    if before is None:
        files.write_json(root / MARKER, {"address": bucket.address})


def mirror_of(run: Path) -> Mirror | None:
    """The mirror that a run's directory is; None for one that lies here alone."""
    for root in (run.parent, run.parent.parent):
        bucket = _bucket(root)
        if bucket is not None:
            return _mirror(run, bucket.below(run.relative_to(root).as_posix()))
    return None


def root_bucket(root: Path) -> Bucket | None:
    """What a root mirrors, if it does."""
    return _bucket(root)


def _bucket(root: Path) -> Bucket | None:
    marker = root / MARKER
    if not marker.is_file():
        return None
    value = files.read_json(marker)
    address = value.get("address") if isinstance(value, dict) else None
    if not isinstance(address, str):
        raise UserError(f"{marker} does not say which place in a bucket {root} mirrors; remove it")
    return Bucket(address)


@functools.lru_cache(maxsize=256)
def _mirror(run: Path, bucket: Bucket) -> Mirror:
    return Mirror(run, bucket)
