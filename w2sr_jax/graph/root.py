"""All runs of a root, and which of them has finished a stage."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from w2sr_jax.graph import manifest as manifests_of
from w2sr_jax.graph.index import index
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.mirror import root_bucket
from w2sr_jax.graph.store import RunStore

STUDY = "study.json"
"""The file that makes a folder a study, whose runs lie in folders below it and are worked on together."""
CELLS = "cells"
"""The folder of a study in which its runs lie."""


@dataclasses.dataclass(frozen=True)
class Store:
    """All runs of a root. A run of several seeds holds a run for each."""

    root: Path

    def run(self, name: str) -> RunStore:
        return RunStore(self.root / name)

    def refresh(self) -> None:
        """Have the manifests of all runs here, where the root mirrors a place in a bucket."""
        bucket = root_bucket(self.root)
        for name in bucket.folders() if bucket is not None else ():
            self.run(name).refresh_all()

    def finished(self, identity: str, without: RunStore) -> Iterator[tuple[RunStore, Manifest]]:
        """Finished stages of this identity in other runs than `without`, in the order of the runs' names."""
        for folder in sorted([*self.root.glob(f"*/{manifests_of.FOLDER}"), *self.root.glob(f"*/seed-*/{manifests_of.FOLDER}")]):
            run = RunStore(folder.parent)
            if folder.parent.resolve() == without.directory.resolve() or folder.is_symlink() or folder.parent.is_symlink():
                continue
            for manifest in index(run.directory).manifests.values():
                if manifest.identity == identity:
                    yield run, manifest

    def learn(self, run: RunStore, manifest: Manifest) -> None:
        """A run has finished a stage. Nothing to a store that looks each time."""

    def label(self, run: RunStore) -> str:
        """How a run of the root is called in sentences: its name, with the seed's."""
        return run.directory.relative_to(self.root).as_posix()


@dataclasses.dataclass(frozen=True)
class KnownStore(Store):
    """The runs of a root that nobody else works on: what they have finished is read once, and `learn` adds to it. For so many
    runs that looking through all of them for every stage would take longer than the stages."""

    known: dict[str, dict[tuple[RunStore, str], bool]] = dataclasses.field(default_factory=dict, compare=False)
    """By identity, the runs that have finished such a stage, its name, and whether they took it from another run."""

    @classmethod
    def of(cls, root: Path) -> "KnownStore":
        store = cls(root)
        for folder in sorted([*root.glob(f"*/{manifests_of.FOLDER}"), *root.glob(f"*/seed-*/{manifests_of.FOLDER}")]):
            if not (folder.is_symlink() or folder.parent.is_symlink()):
                run = RunStore(folder.parent)
                for manifest in index(run.directory).manifests.values():
                    store.learn(run, manifest)
        return store

    def finished(self, identity: str, without: RunStore) -> Iterator[tuple[RunStore, Manifest]]:
        known = self.known.get(identity, {})
        for run, stage in sorted(known, key=known.__getitem__):  # those who did the work themselves first
            manifest = run.peek(stage) if run != without else None
            if manifest is not None and manifest.identity == identity:
                yield run, manifest

    def learn(self, run: RunStore, manifest: Manifest) -> None:
        self.known.setdefault(manifest.identity, {})[run, manifest.stage] = bool(manifest.shared_from)
