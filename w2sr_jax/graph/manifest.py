"""The manifest of a finished stage: what the stage was, what it read and wrote, with digests.

A manifest is `RUN/lineage/STAGE.json`. It is written last, so that a stage is finished exactly when its manifest is there. Its
inputs are named with the digests of what other stages wrote and of the user's own files; since every manifest holds the digests
of its outputs, the manifests of a run form a Merkle chain. A manifest carries its own digest, so that damage to it is noticed as
well.
"""

import dataclasses
import functools
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError

FOLDER = "lineage"
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
    """What a finished stage was, read and wrote.

    `identity` is the digest of the stage as a value (see `graph.stage`), `settings` its own settings as JSON, from which it is
    said in what a stage has changed. `inputs` maps the names of the stages and external inputs that it read to digests of what
    they held; `needs` are those of them that are stages. `outputs` maps a path relative to the run to its digest; `artifacts`
    maps a sealed directory (a checkpoint's step) to the digest of what it holds (its parameters). These two must reproduce; files
    in `seals` need not, since they show times, but must stay as they are. `measures` holds counts and costs. `environment` says
    what a bit-exact claim is conditional on, besides `versions`: device kind, cores, mesh. `shared_from` names the run that the
    stage's work was taken from; "" where this run did it.
    """

    stage: str
    kind: str
    identity: str
    settings: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    artifacts: Mapping[str, str]
    seals: Mapping[str, str]
    measures: Mapping[str, Any]
    versions: Mapping[str, str]
    environment: Mapping[str, str]
    needs: Sequence[str] = ()
    shared_from: str = ""
    format: int = files.FORMAT

    def digest(self) -> str:
        """One digest for all that the stage wrote and that must reproduce."""
        return files.digest_json([dict(self.outputs), dict(self.artifacts)])

    def files(self) -> dict[str, str]:
        """Every file outside of sealed directories that the stage wrote, with its digest."""
        return {**self.outputs, **self.seals}


def path(run: Path, stage: str) -> Path:
    return run / FOLDER / f"{stage}.json"


def signed(manifest: Manifest) -> dict[str, Any]:
    """A manifest as JSON, with the digest of itself."""
    raw = dataclasses.asdict(manifest)
    return {**raw, OWN: files.digest_json(raw)}


def write(run: Path, manifest: Manifest) -> None:
    files.write_json(path(run, manifest.stage), signed(manifest))


def read(run: Path, stage: str) -> Manifest | None:
    """The manifest in the stage's file; None where it is damaged, of another format, or another stage's."""
    try:
        raw = files.read_json(path(run, stage))
        own = raw.pop(OWN)
        sound = own == files.digest_json(raw)
        manifest = Manifest(**raw)
        for name in {**manifest.outputs, **manifest.artifacts, **manifest.seals}:
            files.within(run, name)
        sound = sound and isinstance(manifest.measures, dict) and manifest.stage == stage and raw.get("format") == files.FORMAT
    except (UserError, AttributeError, KeyError, TypeError, ValueError):
        return None
    return manifest if sound else None


def of_another_format(run: Path) -> str | None:
    """A sentence where a run was written by a version whose manifests this one cannot read; None otherwise."""
    for file in sorted((run / FOLDER).rglob("*.json")):
        try:
            raw = files.read_json(file)
        except UserError:
            continue
        if isinstance(raw, dict) and OWN in raw and "stage" in raw and raw.get("format") != files.FORMAT:
            return files.other_format(run, raw.get("format"))
    return None


def versions() -> dict[str, str]:
    """Versions that a bit-exact claim is conditional on."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


@functools.cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


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


def broken_files(run: Path, manifest: Manifest) -> list[tuple[str, str]]:
    """What the stage wrote and is not as it was: relative path, and what is wrong in words. Of a sealed directory all is broken
    where anything is."""
    broken: dict[str, str] = {}
    for name, digest in manifest.files().items():
        file = run / name
        whole = next((artifact for artifact in manifest.artifacts if name.startswith(f"{artifact}/")), name)
        if not file.is_file():
            broken[whole] = f"{file} is missing"
        elif file_digest(file) != digest:
            broken[whole] = f"{file} does not have the digest in its manifest"
    for name in manifest.artifacts:
        words = files.damage(run / name, file_digest)
        if words is not None:
            broken.setdefault(name, words)
    return list(broken.items())
