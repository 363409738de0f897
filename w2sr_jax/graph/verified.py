"""Transitional."""

from pathlib import Path
from typing import Any

from w2sr_jax.graph.store import RunStore, check

__all__ = ["check"]


def _s(run: Any) -> RunStore:
    return run if isinstance(run, RunStore) else RunStore(Path(run))


def manifests(run: Any) -> Any:
    return _s(run).manifests()


def manifest(run: Any, stage: str) -> Any:
    return _s(run).manifest(stage)


def file(run: Any, name: str) -> Path:
    return _s(run).file(name)


def optional(run: Any, name: str) -> Path | None:
    return _s(run).optional(name)


def digest(run: Any, name: str) -> Any:
    return _s(run).digest(name)


def below(run: Any, prefix: str) -> Any:
    return _s(run).below(prefix)


def artifact(run: Any, stage: str) -> Any:
    return _s(run).artifact(stage)


def part(run: Any, artifact: Any, name: str) -> Any:
    return _s(run).part(artifact, name)
