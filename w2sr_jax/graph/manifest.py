"""Stage manifests: what a stage read, what it wrote, with digests; whether its work still stands.

A stage's manifest is `RUN/lineage/STAGE.json`, written last. Its inputs are the outputs of the stages it needs and the
user's own files; since every manifest holds digests of outputs, the manifests of a run form a Merkle chain. A stage is up to
date when its settings and its inputs' digests are those of its manifest and all that it wrote is unchanged on disk. A manifest
carries its own digest, so that damage to it is noticed as well. Who only reads a run asks `verified` for its files.
"""

import dataclasses
import functools
import logging
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError

log = logging.getLogger(__name__)

OWN = "manifest_digest"
PACKAGES = (
    "w2sr-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "math-verify",
    "numpy",
    "pyarrow",
)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """`outputs` maps a path relative to the run to its digest; `artifacts` maps a sealed directory (a checkpoint's step) to the
    digest of what it holds (its parameters). These two must reproduce; files in `seals` need not, since they show times, but must
    stay as they are. `measures` holds counts and costs. `environment` says what a bit-exact claim is conditional on, besides
    `versions`: device kind, cores, mesh. `needs` are those of `inputs` that are stages."""

    stage: str
    kind: str
    settings: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    artifacts: Mapping[str, str]
    seals: Mapping[str, str]
    measures: Mapping[str, Any]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    needs: Sequence[str] = ()

    def digest(self) -> str:
        """One digest for all that the stage made."""
        return files.digest_json([dict(self.outputs), dict(self.artifacts)])


class Standing(NamedTuple):
    """`manifest` is None unless the stage's work stands. `damaged` are the files and directories that are not as they were
    written; `words` says so of the first one."""

    manifest: Manifest | None
    damaged: tuple[Path, ...] = ()
    words: str = ""


class Given(NamedTuple):
    """What a stage is given from outside that is no single file (weights, a data set): its name, and what finds its digest."""

    name: str
    digest: Callable[[], str]


@dataclasses.dataclass(frozen=True)
class Stage:
    """One unit of work: its name, what kind it is, the digest of the settings that steer it, the stages it needs (by name), the
    user's files it reads and what else it is given."""

    run: Path
    name: str
    kind: str
    settings: str
    needs: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()
    given: tuple[Given, ...] = ()

    def inputs(self) -> dict[str, str] | None:
        """Digests of all that the stage reads; None while a needed stage has not finished."""
        digests = {}
        for need in self.needs:
            manifest = load(self.run, need)
            if manifest is None:
                return None
            digests[need] = manifest.digest()
        digests |= {str(path): file_digest(path) for path in self.reads}
        return digests | {given.name: self._mark(given) for given in self.given}

    def _mark(self, given: Given) -> str:
        """The digest of something given. What is not at hand is as the finished stage found it: its work can still be looked at
        and built on where weights and data sets never came."""
        try:
            return given.digest()
        except UserError:
            manifest = load(self.run, self.name)
            if manifest is None or given.name not in manifest.inputs:
                raise
            return manifest.inputs[given.name]

    def current(self) -> Manifest | None:
        """The manifest if the stage's work stands, else None."""
        return self.standing().manifest

    def standing(self) -> Standing:
        """Whether the stage's work stands, and if not whether that is because of damage."""
        manifest = load(self.run, self.name)
        if manifest is None or manifest.settings != self.settings or manifest.inputs != self.inputs():
            return Standing(None)
        broken = [(self.run / name, words) for name, words in broken_files(self.run, manifest)]
        return Standing(None, tuple(path for path, _ in broken), broken[0][1]) if broken else Standing(manifest)

    def commit(
        self,
        outputs: Sequence[Path],
        artifacts: Mapping[str, str],
        measures: Mapping[str, Any],
        seals: Sequence[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Manifest:
        """Write the manifest: from here on the stage is finished. The digests of a sealed directory come under the manifest too,
        so that another sound one in its place is noticed."""
        lists = [self.run / name / files.SEAL for name in artifacts if files.sealed(self.run / name)]
        manifest = Manifest(
            stage=self.name,
            kind=self.kind,
            settings=self.settings,
            inputs=self.inputs() or {},
            outputs=_digests(self.run, outputs),
            artifacts=dict(artifacts),
            seals=_digests(self.run, [*seals, *lists]),
            measures=dict(measures),
            versions=versions(),
            environment=dict(environment or {}),
            needs=list(self.needs),
        )
        raw = dataclasses.asdict(manifest)
        files.write_json(manifest_path(self.run, self.name), {**raw, OWN: files.digest_json(raw)})
        return manifest


def manifest_path(run: Path, stage: str) -> Path:
    return run / "lineage" / f"{stage}.json"


def load(run: Path, stage: str) -> Manifest | None:
    """The manifest of a finished stage; None where there is none, or (with a warning) where it is damaged."""
    path = manifest_path(run, stage)
    if not path.exists():
        return None
    manifest = read(run, stage)
    if manifest is None:
        log.warning("manifest %s is damaged or of another version; its stage counts as not finished", path)
    return manifest


def read(run: Path, stage: str) -> Manifest | None:
    """The manifest in the stage's file; None where that is damaged, of another version, or another stage's."""
    path = manifest_path(run, stage)
    try:
        raw = files.read_json(path)
        own = raw.pop(OWN)
        sound = own == files.digest_json(raw)
        manifest = Manifest(**raw)
        for name in {**manifest.outputs, **manifest.artifacts, **manifest.seals}:
            files.within(run, name)
        sound = sound and isinstance(manifest.measures, dict) and manifest.stage == stage
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        sound = False
    return manifest if sound else None


def versions() -> dict[str, str]:
    """Versions that a bit-exact claim is conditional on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _digests(run: Path, paths: Sequence[Path]) -> dict[str, str]:
    return {str(path.relative_to(run)): files.digest_file(path) for path in paths}


def broken_files(run: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """What the stage wrote and is not as it was: relative path, and what is wrong in words. Of a sealed directory all is broken
    where anything is."""
    found = {}
    for name, digest in {**manifest.outputs, **manifest.seals}.items():
        path = run / name
        whole = next((artifact for artifact in manifest.artifacts if name.startswith(f"{artifact}/")), name)
        if not path.is_file():
            found[whole] = f"{path} is missing"
        elif file_digest(path) != digest:
            found[whole] = f"{path} does not have the digest in its manifest"
    for name in manifest.artifacts:
        words = files.damage(run / name, file_digest)
        if words is not None:
            found.setdefault(name, words)
    return list(found.items())


def file_digest(path: Path) -> str:
    """The digest of a file, not computed anew while its size and time stay. `UserError` where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    return _cached_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _cached_digest(path: Path, size: int, modified: int) -> str:
    return files.digest_file(path)
