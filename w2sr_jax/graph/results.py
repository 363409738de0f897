"""Whether what a stage says it wrote can be entered into a manifest: it lies in the run, it is there, and no other stage of the
plan wrote it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, sentences
from w2sr_jax.core.code import returned, usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest as manifests
from w2sr_jax.graph.stage import Stage, StageResult
from w2sr_jax.graph.store import RunStore

RIGHT = "return a StageResult (w2sr_jax.graph.stage): StageResult([path], note=…)"


def sound(result: object, store: RunStore, owner: object, member: str) -> StageResult:
    """What the method `member` of `owner` returned, as the result of a stage. `UserError` where it is none, or names what is not
    there or lies outside of the run."""
    kept = returned.fitting(result, StageResult, owner, member, RIGHT)
    fault = _fault(kept, store)
    if fault is not None:
        raise UserError(f"{_where(owner, member)}: {type(owner).__name__}.{member} returned {fault}")
    return kept


def check_owners(result: StageResult, store: RunStore, stage: Stage, others: Iterable[str]) -> None:
    """`UserError` where a stage claims what another one of `others` (names of stages) has written. Nothing is removed; what it
    wrote over, the other stage makes anew."""
    own = {*map(store.relative, (*result.outputs, *result.seals)), *result.artifacts}
    for name in others:
        manifest = store.peek(name) if name != stage.name else None
        for theirs in () if manifest is None else {**manifest.files(), **manifest.artifacts}:
            claimed = next((mine for mine in own if _overlap(mine, theirs)), None)
            if claimed is not None:
                raise UserError(
                    f"{_where(stage, 'run')}: the stage {stage.name} claims {claimed}, which the stage {name} has written; every "
                    f"file is one stage's: write below a folder of its own, such as {stage.name}/"
                )


def check_name(stage: Stage) -> None:
    """`UserError` where a stage's name cannot be that of a manifest in the run."""
    name: Any = stage.name
    if not isinstance(name, str):
        fault = "it must be text"
    elif not all(part not in ("", ".", "..") and part.isprintable() and "\\" not in part for part in name.split("/")):
        fault = "it names files in the run: parts between /, none of them empty, . or .."
    elif any(part.endswith(".json") for part in name.split("/")[:-1]):
        fault = "no part but the last may end in .json, as manifests do"
    else:
        return
    raise UserError(f"{usercode.defined(stage)}: a stage is called {sentences.value(name)}; {fault}")


def _fault(result: StageResult, store: RunStore) -> str | None:
    """What is wrong with a stage's result, in words that follow "returned"."""
    kinds = (("outputs", Sequence), ("artifacts", Mapping), ("measures", Mapping), ("note", str), ("seals", Sequence))
    for name, kind in kinds:
        value: object = getattr(result, name)
        if not isinstance(value, kind) or (kind is Sequence and isinstance(value, str | bytes)):
            right = {Sequence: "a list of paths", Mapping: "a mapping of names", str: "text"}[kind]
            return f"{name} of type {type(value).__name__}; it must be {right}"
    for path in (*result.outputs, *result.seals):
        if not isinstance(path, Path):
            return f"{sentences.value(path, 60)} among its files, which is no Path; context.store.path(NAME) gives one"
        if (outside := _outside(store, path)) is not None:
            return outside
        if not path.is_file():
            return f"{path} among its files, and there is no such file"
    for name, digest in result.artifacts.items():
        if not isinstance(name, str) or not isinstance(digest, str):
            return f"artifacts that hold {sentences.value((name, digest), 60)}; they map names in the run to digests, both text"
        if (outside := _outside(store, store.directory / name)) is not None:
            return outside
        if not files.sealed(store.directory / name):
            return f"{name} among its artifacts, which is no sealed directory (w2sr_jax.core.files.seal)"
    try:
        json.dumps(dict(result.measures), allow_nan=False)
    except (TypeError, ValueError) as error:
        return f"measures that are no JSON ({sentences.cause(error)}); they may hold text, finite numbers, lists and mappings"
    return None


def _outside(store: RunStore, path: Path) -> str | None:
    """What is wrong with where a path lies; None where that is in the run, outside of the folder of manifests."""
    try:
        name = path.relative_to(store.directory)
        files.within(store.directory, name.as_posix())
    except (ValueError, UserError):
        return f"{path}, which does not lie in the run {store.directory}"
    return f"{path}, which lies among the run's manifests" if name.parts[0] == manifests.FOLDER else None


def _overlap(mine: str, theirs: str) -> bool:
    """Whether two names are of one file, or one of them lies in a directory that is the other."""
    return mine == theirs or mine.startswith(f"{theirs}/") or theirs.startswith(f"{mine}/")


def _where(owner: object, member: str) -> str:
    return usercode.defined(getattr(type(owner), member, owner))
