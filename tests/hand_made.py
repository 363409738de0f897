"""Manifests for runs that tests make by hand, since a run's files are only read as their manifests say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w2sr_jax.core import files
from w2sr_jax.graph.manifest import Manifest
from w2sr_jax.graph.store import RunStore

STAGE = "by-hand"


def commit(
    run: Path,
    stage: str,
    kind: str,
    outputs: Sequence[Path] = (),
    artifacts: Mapping[str, str] | None = None,
    seals: Sequence[Path] = (),
    needs: Sequence[str] = (),
    identity: str = "0" * 64,
    measures: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Manifest:
    """Let a stage count as finished: with these files, sealed directories and needs, made from what its needs hold now."""
    store = RunStore(run)
    lists = [run / name / files.SEAL for name in artifacts or {}]
    found = {need: manifest for need in needs if (manifest := store.peek(need)) is not None}
    made = Manifest(
        stage=stage,
        kind=kind,
        identity=identity,
        settings={},
        inputs={need: manifest.digest() for need, manifest in found.items()},
        outputs=store.digests(list(outputs)),
        artifacts=dict(artifacts or {}),
        seals=store.digests([*seals, *lists]),
        measures={"seconds": 1.0, "note": "", **(measures or {})},
        versions={},
        environment=environment or {},
        needs=list(needs),
    )
    store.commit(made)
    return made


def finish(run: Path) -> None:
    """All files of the run that no stage has written yet, or that differ since this was called, come under one manifest."""
    store = RunStore(run)
    written = {name for made in store.manifests() if made.stage != STAGE for name in made.files()}
    there = (
        path for path in sorted(run.rglob("*")) if path.is_file() and path.relative_to(run).parts[0] not in ("lineage", "config")
    )
    mine = [path for path in there if store.relative(path) not in written and path.name != "experiment.json"]
    commit(run, STAGE, "prepare", mine)
