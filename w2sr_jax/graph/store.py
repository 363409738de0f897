"""The store: where the runs of a root keep what their stages wrote, and what of it can be trusted.

Only this module turns names into paths. A name is relative to a run ("problems/pool.parquet"). Who reads a run asks its
`RunStore` for a file and gets none that is not what its manifest says; who writes asks for the location of a name, and commits.

A file is sound where the manifest of a finished stage names it with the digest that it has, and that stage was made from what the
stages that it needs hold now. Everything else is refused in a sentence: a file that was changed, truncated or put beside, a
manifest that is damaged or another stage's, and what was made from other inputs.
"""

import dataclasses
import functools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest as manifests_of
from w2sr_jax.graph.manifest import Manifest, file_digest


class Artifact(NamedTuple):
    """A sealed directory that a stage wrote (a checkpoint's step), and the digest of what it holds (its parameters)."""

    path: Path
    digest: str


@dataclasses.dataclass(frozen=True)
class RunStore:
    """What the stages of one run (of one seed) wrote, in a directory that people can read."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    def begun(self) -> bool:
        """Whether the run has finished any stage."""
        return any((self.directory / manifests_of.FOLDER).rglob("*.json"))

    def path(self, name: str) -> Path:
        """Where a file or directory of this name is written. Nothing is said of what lies there."""
        return self.directory / name

    def relative(self, path: Path) -> str:
        """The name of a path in the run."""
        return path.relative_to(self.directory).as_posix()

    def manifests(self) -> list[Manifest]:
        """The manifests of all finished stages in the order of their names. `UserError` where one is damaged or missing."""
        index = self._index()
        self._check_all(index)
        return list(index.manifests.values())

    def damaged_manifests(self) -> Sequence[Path]:
        """The manifests that are damaged, of another version, or another stage's."""
        return self._index().damaged

    def peek(self, stage: str) -> Manifest | None:
        """The manifest of a stage as it lies there, whatever it was made from; None where there is none that is sound."""
        return self._index().manifests.get(stage)

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a stage; None where it has not finished. `UserError` where it is damaged, missing although others stand
        on it, or was made from other inputs."""
        index = self._index()
        if manifests_of.path(self.directory, stage) in index.damaged or stage in index.missing:
            self._check_all(index)
        manifest = index.manifests.get(stage)
        if manifest is not None:
            self._check_current(index, stage)
        return manifest

    def file(self, name: str) -> Path:
        """The file of this name. `UserError` where it is not there, or not what the run wrote."""
        path = self.optional(name)
        if path is None:
            there = (
                "was not written by a finished stage: no manifest names it" if self.path(name).exists() else "is not there yet"
            )
            raise UserError(f"{self.path(name)} {there}; w2sr run {self.directory} makes what is missing")
        return path

    def optional(self, name: str) -> Path | None:
        """`file`, but None for one that no finished stage wrote, whether or not something of that name lies there."""
        index = self._index()
        stage = index.owners.get(name)
        if stage is None:
            self._check_all(index)
            return None
        self._check_current(index, stage)
        path = self.path(name)
        if not path.is_file():
            gone = "is no file any more" if path.exists() else "is missing"
            raise UserError(f"{path}, which {stage} wrote, {gone}; {self._anew()}")
        if file_digest(path) != self.digest(name):
            raise UserError(f"{path} is not what {stage} wrote: it does not have the digest in its manifest; {self._anew()}")
        return path

    def readable(self, name: str, stage: str) -> Path | None:
        """`optional`; while the stage that writes the file has not finished, it is whatever lies there."""
        path = self.optional(name)
        if path is None and self.manifest(stage) is None and self.path(name).is_file():
            return self.path(name)
        return path

    def lying(self, prefix: str, stage: str, pattern: str) -> list[Path]:
        """`below`; while the stage that writes the files has not finished, those of a pattern that lie in the folder of the
        prefix."""
        paths = self.below(prefix)
        if not paths and self.manifest(stage) is None:
            return sorted(self.path(prefix.rpartition("/")[0]).glob(pattern))
        return paths

    def digest(self, name: str) -> str | None:
        """The digest that a file has in its manifest; None where no finished stage wrote it. The file is not looked at."""
        index = self._index()
        manifest = index.manifests.get(index.owners.get(name, ""))
        return None if manifest is None else manifest.files()[name]

    def below(self, prefix: str) -> list[Path]:
        """All files whose names begin with `prefix` and that finished stages wrote, each as `file`, in the order of their
        names."""
        index = self._index()
        names = sorted(name for name in index.owners if name.startswith(prefix))
        if not names:
            self._check_all(index)
        return [self.file(name) for name in names]

    def folder(self, name: str) -> Path:
        """A directory that is read as a whole: every file in it is one that a finished stage wrote. `UserError` where it is not
        there, or holds anything else."""
        if not self.below(f"{name}/"):
            raise UserError(f"{self.path(name)} is not there yet; w2sr run {self.directory} makes it")
        index = self._index()
        for path in sorted(self.path(name).rglob("*")):
            if not path.is_dir() and self.relative(path) not in index.owners:
                raise UserError(f"{path} was not written by the run, and would be read with what lies beside it; remove it")
        return self.path(name)

    def artifact(self, stage: str) -> Artifact:
        """The sealed directory that a stage wrote. Its own list of digests is compared with the stage's manifest; the files in it
        are compared with that list by `part`, or by who reads all of them. `UserError` where the stage has not finished."""
        manifest = self.manifest(stage)
        if manifest is None or not manifest.artifacts:
            raise UserError(f"{self.directory} has not finished {stage} yet; w2sr run {self.directory} goes on with it")
        name, digest = next(iter(manifest.artifacts.items()))
        if not self.path(name).is_dir():
            raise UserError(f"{self.path(name)}, which {stage} made, is missing; {self._anew()}")
        self.optional(f"{name}/{files.SEAL}")
        return Artifact(self.path(name), digest)

    def part(self, sealed: Artifact, name: str) -> Path:
        """A file of a sealed directory. `UserError` where it is not as it was sealed."""
        digests = files.read_json(sealed.path / files.SEAL)
        path = files.within(sealed.path, name)
        if not isinstance(digests, dict) or not path.is_file() or file_digest(path) != digests.get(name):
            raise UserError(f"{path} does not have the digest in {files.SEAL}; {self._anew()}")
        return path

    def commit(self, manifest: Manifest) -> None:
        """Write a manifest: from here on its stage is finished. What an earlier finish of the stage wrote, and this one did not,
        is removed."""
        before = self.peek(manifest.stage)
        manifests_of.write(self.directory, manifest)
        if before is not None:
            self.remove({**before.files(), **before.artifacts}.keys() - {**manifest.files(), **manifest.artifacts}.keys())

    def take(self, other: "RunStore", manifest: Manifest, shared_from: str = "") -> list[tuple[str, str]]:
        """Take a finished stage from another run: its files are linked where the file system can, copied otherwise, and compared
        with their digests. What is broken, as `manifest.broken_files` says; only where nothing is, the stage is committed."""
        for name in (*manifest.files(), *manifest.artifacts):
            _link(other.path(name), self.path(name))
        broken = manifests_of.broken_files(self.directory, manifest)
        if broken:
            self.remove([*manifest.files(), *manifest.artifacts])
        else:
            self.commit(dataclasses.replace(manifest, shared_from=shared_from or manifest.shared_from))
        return broken

    def retract(self, stage: str) -> None:
        """Let a stage count as not finished, and remove what it wrote."""
        manifest = self.peek(stage)
        manifests_of.path(self.directory, stage).unlink(missing_ok=True)
        if manifest is not None:
            self.remove({**manifest.files(), **manifest.artifacts})

    def remove(self, names: "Sequence[str] | Mapping[str, str] | set[str]") -> None:
        """Remove files and directories of the run by name, but for what other finished stages wrote."""
        owned = self._index().owners
        for name in names:
            if name not in owned:
                files.remove(self.path(name))

    def digests(self, paths: Sequence[Path]) -> dict[str, str]:
        """Digests of files of the run by their names."""
        return {self.relative(path): files.digest_file(path) for path in paths}

    def _check_current(self, index: "_Index", stage: str) -> None:
        if stage in index.stale:
            raise UserError(f"{index.stale[stage]} than is there now; {self._anew()}")

    def _check_all(self, index: "_Index") -> None:
        if index.damaged:
            another = manifests_of.of_another_format(self.directory)
            if another is not None:
                raise UserError(another)
            raise UserError(f"the manifest {index.damaged[0]} is damaged, of another version or another stage's; {self._anew()}")
        for stage, standing in index.missing.items():
            path = manifests_of.path(self.directory, stage)
            raise UserError(f"the manifest {path}, on which {standing} stands, is missing; {self._anew()}")

    def _anew(self) -> str:
        return f"w2sr run {self.directory} makes it anew"

    def _index(self) -> "_Index":
        paths = sorted((self.directory / manifests_of.FOLDER).rglob("*.json"))
        stats = (path.stat() for path in paths)
        return _read(self.directory, tuple((path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in zip(paths, stats)))


@dataclasses.dataclass(frozen=True)
class Store:
    """All runs of a root. A run of several seeds holds a run for each."""

    root: Path

    def run(self, name: str) -> RunStore:
        return RunStore(self.root / name)

    def finished(self, identity: str, without: RunStore) -> Iterator[tuple[RunStore, Manifest]]:
        """Finished stages of this identity in other runs than `without`, in the order of the runs' names."""
        for folder in sorted([*self.root.glob(f"*/{manifests_of.FOLDER}"), *self.root.glob(f"*/seed-*/{manifests_of.FOLDER}")]):
            run = RunStore(folder.parent)
            if folder.parent.resolve() == without.directory.resolve() or folder.is_symlink() or folder.parent.is_symlink():
                continue
            for manifest in run._index().manifests.values():
                if manifest.identity == identity:
                    yield run, manifest

    def label(self, run: RunStore) -> str:
        """How a run of the root is called in sentences: its name, with the seed's."""
        return run.directory.relative_to(self.root).as_posix()


def _link(source: Path, target: Path) -> None:
    """Another name for a file, or a copy of it; of a directory, of all that lies in it."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file():
                _link(path, target / path.relative_to(source))
        return
    with files.replacing(target) as temporary:
        temporary.unlink()
        try:
            temporary.hardlink_to(source)
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)


def check(path: Path) -> None:
    """`UserError` where a path lies in a run and is not the file that the run wrote there; nothing where it lies in none, or no
    stage wrote it."""
    path = path.absolute()
    for directory in path.parents:
        run = RunStore(directory)
        if (directory / manifests_of.FOLDER).is_dir() and run.relative(path) in run._index().owners:
            run.file(run.relative(path))


class _Index(NamedTuple):
    """What all manifests of a run say: those that are sound by stage, which stage wrote each file, which stages were made from
    other outputs than there are now (in words), the manifests that are not sound, and those that are missing, with a stage that
    stands on each."""

    manifests: Mapping[str, Manifest]
    owners: Mapping[str, str]
    stale: Mapping[str, str]
    damaged: Sequence[Path]
    missing: Mapping[str, str]


@functools.lru_cache(maxsize=1024)
def _read(run: Path, listed: tuple[tuple[Path, int, int, int], ...]) -> _Index:
    sound: dict[str, Manifest] = {}
    damaged = []
    for path, *_ in listed:
        stage = path.relative_to(run / manifests_of.FOLDER).with_suffix("").as_posix()
        manifest = manifests_of.read(run, stage)
        if manifest is None:
            damaged.append(path)
        else:
            sound[stage] = manifest
    owners = {name: stage for stage, manifest in sound.items() for name in manifest.files()}
    missing = {need: stage for stage, manifest in sound.items() for need in manifest.needs if need not in sound}
    return _Index(sound, owners, _stale(run, sound), damaged, missing)


def _stale(run: Path, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The stages that were made from other outputs than those that the stages they need have now, and what stands on them."""
    digests = {stage: manifest.digest() for stage, manifest in manifests.items()}
    stale = {
        stage: f"{stage} of {run} was made from another {need}"
        for stage, manifest in manifests.items()
        for need, digest in manifest.inputs.items()
        if digests.get(need, digest) != digest
    }
    waiting = list(stale)
    while waiting:
        before = waiting.pop()
        for stage, manifest in manifests.items():
            if before in manifest.inputs and stage not in stale:
                stale[stage] = stale[before]
                waiting.append(stage)
    return stale
