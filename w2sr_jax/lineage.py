"""Stage manifests: what a stage read, what it wrote, with digests; whether its work still stands.

A stage's manifest is `RUN/lineage/STAGE.json`, written last. Its inputs are the outputs of the stages it needs and the
user's own files; since every manifest holds digests of outputs, the manifests of a run form a Merkle chain. A stage is up to
date when its settings and its inputs' digests are those of its manifest and its outputs are unchanged on disk.
"""

import dataclasses
import functools
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from w2sr_jax import files
from w2sr_jax.errors import UserError

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
    """`outputs` maps a path relative to the run to its digest; `artifacts` maps a directory (a checkpoint) to the digest of
    what it holds (its parameters). `measures` holds counts and costs, which are not part of what must reproduce."""

    stage: str
    kind: str
    settings: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    artifacts: Mapping[str, str]
    measures: Mapping[str, Any]
    versions: Mapping[str, str]

    def digest(self) -> str:
        """One digest for all that the stage made."""
        return files.digest_json([dict(self.outputs), dict(self.artifacts)])


@dataclasses.dataclass(frozen=True)
class Stage:
    """One unit of work: its name, what kind it is, the digest of the settings that steer it, the stages it needs (by name)
    and the user's files it reads."""

    run: Path
    name: str
    kind: str
    settings: str
    needs: tuple[str, ...] = ()
    reads: tuple[Path, ...] = ()

    def inputs(self) -> dict[str, str] | None:
        """Digests of all that the stage reads; None while a needed stage has not finished."""
        digests = {}
        for need in self.needs:
            manifest = load(self.run, need)
            if manifest is None:
                return None
            digests[need] = manifest.digest()
        return digests | {str(path): _file_digest(path) for path in self.reads}

    def current(self) -> Manifest | None:
        """The manifest if the stage's work stands, else None."""
        manifest = load(self.run, self.name)
        if manifest is None or manifest.settings != self.settings or manifest.inputs != self.inputs():
            return None
        stands = all((self.run / p).is_file() and _file_digest(self.run / p) == d for p, d in manifest.outputs.items())
        return manifest if stands and all((self.run / p).is_dir() for p in manifest.artifacts) else None

    def commit(self, outputs: Sequence[Path], artifacts: Mapping[str, str], measures: Mapping[str, Any]) -> Manifest:
        """Write the manifest: from here on the stage is finished."""
        manifest = Manifest(
            self.name,
            self.kind,
            self.settings,
            self.inputs() or {},
            {str(path.relative_to(self.run)): files.digest_file(path) for path in outputs},
            dict(artifacts),
            dict(measures),
            versions(),
        )
        files.write_json(manifest_path(self.run, self.name), dataclasses.asdict(manifest))
        return manifest


def manifest_path(run: Path, stage: str) -> Path:
    return run / "lineage" / f"{stage}.json"


def load(run: Path, stage: str) -> Manifest | None:
    path = manifest_path(run, stage)
    if not path.exists():
        return None
    raw = files.read_json(path)
    return Manifest(**{field.name: raw[field.name] for field in dataclasses.fields(Manifest)})


def versions() -> dict[str, str]:
    """Versions that a bit-exact claim is conditional on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _file_digest(path: Path) -> str:
    try:
        stat = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    return _cached_digest(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _cached_digest(path: Path, size: int, modified: int) -> str:
    return files.digest_file(path)
