"""Manifests for runs that tests make by hand, since a run's files are only read as their manifests say."""

from pathlib import Path

from w2sr_jax.graph import manifest, verified

STAGE = "by-hand"


def finish(run: Path) -> None:
    """All files of the run that no stage has written yet, or that differ since this was called, come under one manifest."""
    known = {name for made in verified.manifests(run) if made.stage != STAGE for name in (*made.outputs, *made.seals)}
    there = (
        path for path in sorted(run.rglob("*")) if path.is_file() and path.relative_to(run).parts[0] not in ("lineage", "config")
    )
    mine = [path for path in there if path.relative_to(run).as_posix() not in known and path.name != "experiment.json"]
    manifest.Stage(run, STAGE, "prepare", "0" * 64).commit(mine, {}, {})
