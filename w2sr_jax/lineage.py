"""Stage manifests: what a stage read, what it wrote, with digests; whether its work still stands.

A stage's manifest is `RUN/lineage/STAGE.json`, written last. A stage is up to date when its manifest exists, its settings
and the digests of its inputs are those of the manifest, and its outputs are there. Paths are relative to the run.
"""

import dataclasses
import platform
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from w2sr_jax import files

PACKAGES = (
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
    """`inputs` and `outputs` map a path (or `name` of a logical artifact such as parameters) to its digest. `measures` holds
    counts and costs (seconds, tokens, flops), which are not part of what must reproduce."""

    stage: str
    settings: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    measures: Mapping[str, Any]
    versions: Mapping[str, str]

    @classmethod
    def load(cls, run: Path, stage: str) -> "Manifest | None":
        path = manifest_path(run, stage)
        if not path.exists():
            return None
        raw = files.read_json(path)
        return cls(**{field.name: raw[field.name] for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class Stage:
    """One unit of finished-or-not work: a name, the digest of the settings that steer it and the files it reads."""

    run: Path
    name: str
    settings: str
    inputs: tuple[Path, ...] = ()

    def input_digests(self) -> dict[str, str]:
        return {_relative(self.run, path): _digest(self.run, path) for path in self.inputs}

    def current(self) -> Manifest | None:
        """The manifest if this stage's work stands: same settings and inputs, outputs present and unchanged."""
        manifest = Manifest.load(self.run, self.name)
        if manifest is None or manifest.settings != self.settings:
            return None
        try:
            same = manifest.inputs == self.input_digests()
        except FileNotFoundError:
            return None
        return manifest if same and all(_stands(self.run, path, digest) for path, digest in manifest.outputs.items()) else None

    def commit(
        self,
        outputs: Sequence[Path],
        artifacts: Mapping[str, str] | None = None,
        measures: Mapping[str, Any] | None = None,
        started: float | None = None,
    ) -> Manifest:
        """Write the manifest. `artifacts` are outputs with digests of their own (a checkpoint directory → its parameters')."""
        digests = {_relative(self.run, path): files.digest_file(path) for path in outputs} | dict(artifacts or {})
        cost = dict(measures or {})
        if started is not None:
            cost["seconds"] = round(time.monotonic() - started, 3)
        manifest = Manifest(self.name, self.settings, self.input_digests(), digests, cost, versions())
        files.write_json(manifest_path(self.run, self.name), dataclasses.asdict(manifest))
        return manifest


def manifest_path(run: Path, stage: str) -> Path:
    return run / "lineage" / f"{stage}.json"


def versions() -> dict[str, str]:
    """Versions a bit-exact claim is conditional on."""
    found = {"python": platform.python_version(), "w2sr-jax": _version("w2sr-jax")}
    return found | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def _relative(run: Path, path: Path) -> str:
    return str(path.relative_to(run)) if path.is_relative_to(run) else str(path)


def _digest(run: Path, path: Path) -> str:
    """A file's digest; for a directory (a checkpoint) the digest its own stage gave it."""
    if path.is_dir():
        name = _relative(run, path)
        for manifest in sorted((run / "lineage").rglob("*.json")):
            outputs = files.read_json(manifest)["outputs"]
            if name in outputs:
                return str(outputs[name])
        raise FileNotFoundError(path)
    return files.digest_file(path)


def _stands(run: Path, path: str, digest: str) -> bool:
    where = run / path
    return where.is_dir() or (where.is_file() and files.digest_file(where) == digest)
