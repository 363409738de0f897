"""The store: where the runs of a root keep what their stages wrote, and what of it can be trusted.

Only this module turns names into paths. A name is relative to a run ("problems/pool.parquet"). Who reads a run asks its
`RunStore` for a file and gets none that is not what its manifest says; who writes asks for the location of a name, and commits.

A file is sound where the manifest of a finished stage names it with the digest that it has, and that stage was made from what the
stages that it needs hold now. Everything else is refused in a sentence: a file that was changed, truncated or put beside, a
manifest that is damaged or another stage's, and what was made from other inputs.
"""

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.core.trees import Location, location
from w2sr_jax.graph import manifest as manifests_of
from w2sr_jax.graph.index import Index, index
from w2sr_jax.graph.manifest import Manifest, file_digest
from w2sr_jax.graph.mirror import CONFIG, EXPERIMENT, Mirror, mirror_of


class Artifact(NamedTuple):
    """A sealed directory that a stage wrote (a checkpoint's step), and the digest of what it holds (its parameters)."""

    path: Path
    digest: str


@dataclasses.dataclass(frozen=True)
class RunStore:
    """What the stages of one run (of one seed) wrote, in a directory that people can read. Where that mirrors a place in a
    bucket, the run is what lies there: files come here when they are asked for."""

    directory: Path

    @property
    def mirror(self) -> Mirror | None:
        return mirror_of(self.directory)

    @property
    def name(self) -> str:
        return self.directory.name

    def refresh(self) -> None:
        """Have the manifests and the saved experiment here, where the run lies in a bucket."""
        if (mirror := self.mirror) is not None:
            mirror.refresh()

    def refresh_all(self) -> None:
        """`refresh`, and that of the runs of its seeds."""
        self.refresh()
        for name in () if self.mirror is None else self.mirror.bucket.folders():
            if name.startswith("seed-"):
                RunStore(self.directory / name).refresh()

    def send_saved(self) -> None:
        """Write the saved experiment into the bucket where the run lies, if it lies in one."""
        if (mirror := self.mirror) is not None:
            for name in (EXPERIMENT, CONFIG):
                mirror.send(name)

    def begun(self) -> bool:
        """Whether the run has finished any stage."""
        return any((self.directory / manifests_of.FOLDER).rglob("*.json"))

    def finished(self) -> int:
        """How many stages the run has finished."""
        return sum(1 for _ in (self.directory / manifests_of.FOLDER).rglob("*.json"))

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
        if (mirror := self.mirror) is not None:
            mirror.bring(name, self.digest(name))
        if not path.is_file():
            gone = "is no file any more" if path.exists() else "is missing"
            raise UserError(f"{path}, which {stage} wrote, {gone}; {self._anew()}")
        if file_digest(path) != self.digest(name):
            raise UserError(f"{path} is not what {stage} wrote: it does not have the digest in its manifest; {self._anew()}")
        return path

    def readable(self, name: str, stage: str) -> Path | None:
        """`optional`; while the stage that writes the file has not finished, it is whatever lies there."""
        path = self.optional(name)
        if path is None and self.manifest(stage) is None:
            self.obtain(name)
            return self.path(name) if self.path(name).is_file() else None
        return path

    def lying(self, prefix: str, stage: str, pattern: str) -> list[Path]:
        """`below`; while the stage that writes the files has not finished, those of a pattern that lie in the folder of the
        prefix."""
        paths = self.below(prefix)
        if not paths and self.manifest(stage) is None:
            self.obtain(prefix.rpartition("/")[0])
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
        if self.mirror is None and not self.path(name).is_dir():
            raise UserError(f"{self.path(name)}, which {stage} made, is missing; {self._anew()}")
        self.optional(f"{name}/{files.SEAL}")
        return Artifact(self.path(name), digest)

    def arrays(self, sealed: Artifact) -> Location:
        """Where the arrays of a sealed directory are read: in the bucket, where they lie there alone."""
        mirror, name = self.mirror, self.relative(sealed.path)
        if mirror is not None and mirror.holds(name):
            return self.checkpoints(name)
        for each in files.read_json(sealed.path / files.SEAL) if mirror is not None else ():
            self.part(sealed, each)
        return sealed.path

    def checkpoints(self, name: str) -> Location:
        """Where checkpoints of this name are written."""
        mirror = self.mirror
        return self.path(name) if mirror is None or not mirror.direct else location(mirror.bucket.below(name))

    def bring_seal(self, name: str) -> None:
        """Have here what is sealed of a directory in the bucket, and the seal."""
        mirror = self.mirror
        if mirror is not None and mirror.direct:
            mirror.bring(f"{name}/{files.SEAL}", None)

    def part(self, sealed: Artifact, name: str) -> Path:
        """A file of a sealed directory. `UserError` where it is not as it was sealed."""
        digests = files.read_json(sealed.path / files.SEAL)
        path = files.within(sealed.path, name)
        stated = digests.get(name) if isinstance(digests, dict) else None
        if (mirror := self.mirror) is not None:
            mirror.bring(self.relative(path), stated)
            if mirror.holds(self.relative(sealed.path)) and path.is_file() and stated is not None:
                stated = file_digest(path)  # the marks that the seal lists are compared by `broken`
        if stated is None or not path.is_file() or file_digest(path) != stated:
            raise UserError(f"{path} does not have the digest in {files.SEAL}; {self._anew()}")
        return path

    def commit(self, manifest: Manifest, there: bool = False) -> None:
        """Write a manifest: from here on its stage is finished. What an earlier finish of the stage wrote, and this one did not,
        is removed. Where the run lies in a bucket, its files are sent, unless they are `there` already."""
        before, mirror = self.peek(manifest.stage), self.mirror
        if mirror is not None:
            mirror.commit(manifest, there)
        manifests_of.write(self.directory, manifest)
        if before is not None:
            self.remove({**before.files(), **before.artifacts}.keys() - {**manifest.files(), **manifest.artifacts}.keys())
        if mirror is not None:
            mirror.settle(self._index().owners)

    def broken(self, manifest: Manifest) -> list[tuple[str, str]]:
        """What a stage wrote and is not as it was; see `manifest.broken_files`."""
        mirror = self.mirror
        return manifests_of.broken_files(self.directory, manifest) if mirror is None else mirror.broken(manifest)

    @property
    def sharing(self) -> Sharing:
        """How the processes of the run see each other's files."""
        return ON_ONE_DISK if self.mirror is None else Sharing(self.publish, self._obtain_path, one_disk=False)

    def _obtain_path(self, path: Path) -> None:
        self.obtain(self.relative(path))

    def publish(self, paths: Iterable[Path]) -> None:
        """Let other processes, and later ones on other machines, see files of a stage that is not finished, where they do not
        share the disk."""
        mirror = self.mirror
        if mirror is not None:
            mirror.publish(map(self.relative, paths))

    def obtain(self, name: str) -> None:
        """Have here what others have published of a file or folder, where they do not share the disk."""
        mirror = self.mirror
        if mirror is not None:
            mirror.obtain(name)

    def take(self, other: "RunStore", manifest: Manifest, shared_from: str = "") -> list[tuple[str, str]]:
        """Take a finished stage from another run: its files are linked where the file system can, copied otherwise, and compared
        with their digests. What is broken, as `manifest.broken_files` says; only where nothing is, the stage is committed."""
        mirror, theirs = self.mirror, other.mirror
        if mirror is not None and theirs is not None:
            mirror.copy(theirs, manifest)
        else:
            for name in (*manifest.files(), *manifest.artifacts):
                _link(other.path(name), self.path(name))
        broken = self.broken(manifest)
        if broken:
            self.remove([*manifest.files(), *manifest.artifacts])
        else:
            self.commit(dataclasses.replace(manifest, shared_from=shared_from or manifest.shared_from), there=mirror is not None)
        return broken

    def retract(self, stage: str) -> None:
        """Let a stage count as not finished, and remove what it wrote."""
        manifest = self.peek(stage)
        self.discard(manifests_of.path(self.directory, stage))
        if manifest is not None:
            self.remove({**manifest.files(), **manifest.artifacts})

    def remove(self, names: "Sequence[str] | Mapping[str, str] | set[str]") -> None:
        """Remove files and directories of the run by name, but for what other finished stages wrote."""
        owned = self._index().owners
        for name in names:
            if name not in owned:
                self.discard(self.path(name))

    def discard(self, path: Path) -> None:
        """Remove a file or directory of the run, whosever it is."""
        files.remove(path)
        if (mirror := self.mirror) is not None:
            mirror.remove([self.relative(path)])

    def digests(self, paths: Sequence[Path]) -> dict[str, str]:
        """Digests of files of the run by their names."""
        return {self.relative(path): files.digest_file(path) for path in paths}

    def _check_current(self, index: Index, stage: str) -> None:
        if stage in index.stale:
            raise UserError(f"{index.stale[stage]} than is there now; {self._anew()}")

    def _check_all(self, index: Index) -> None:
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

    def _index(self) -> Index:
        return index(self.directory)


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
