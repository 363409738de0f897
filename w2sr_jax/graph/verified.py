"""The files of a run, as the stages that wrote them left them: who reads a run asks here for a path, and gets none to a file that
is not what its manifest says.

A file is sound where the manifest of a finished stage names it with the digest that it has, and that stage was made from what the
stages that it needs hold now. Everything else is refused in a sentence: a file that was changed, truncated or put beside, a
manifest that is damaged or another stage's, and what was made from other inputs. Nothing is written here.
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph import manifest as lineage
from w2sr_jax.graph.manifest import Manifest

FOLDER = "lineage"


class Artifact(NamedTuple):
    """A sealed directory that a stage made (a checkpoint's step), and the digest of what it holds (its parameters)."""

    path: Path
    digest: str


class _Known(NamedTuple):
    """What all manifests of a run say: those that are sound by stage, which stage wrote each file, which stages were made from
    other outputs than there are now (in words), the manifests that are not sound, and those that are missing, with a stage that
    stands on each."""

    manifests: Mapping[str, Manifest]
    owners: Mapping[str, str]
    stale: Mapping[str, str]
    damaged: Sequence[Path]
    missing: Mapping[str, str]


def manifests(run: Path) -> list[Manifest]:
    """The manifests of all finished stages in the order of their names. `UserError` where one is damaged or missing."""
    known = _known(run)
    _all_sound(run, known)
    return list(known.manifests.values())


def damaged(run: Path) -> Sequence[Path]:
    """The manifests that are damaged, of another version, or another stage's."""
    return _known(run).damaged


def manifest(run: Path, stage: str) -> Manifest | None:
    """The manifest of a stage; None where it has not finished. `UserError` where it is damaged, missing although others stand on
    it, or was made from other inputs."""
    known = _known(run)
    if lineage.manifest_path(run, stage) in known.damaged or stage in known.missing:
        _all_sound(run, known)
    found = known.manifests.get(stage)
    if found is not None:
        _current(run, known, stage)
    return found


def file(run: Path, name: str) -> Path:
    """The file of this name, relative to the run. `UserError` where it is not there, or not what the run wrote."""
    found = optional(run, name)
    if found is None:
        there = "was not written by a finished stage: no manifest names it" if (run / name).exists() else "is not there yet"
        raise UserError(f"{run / name} {there}; w2sr run {run} makes what is missing")
    return found


def optional(run: Path, name: str) -> Path | None:
    """`file`, but None for one that no finished stage wrote, whether or not something of that name lies there."""
    known = _known(run)
    stage = known.owners.get(name)
    if stage is None:
        _all_sound(run, known)
        return None
    _current(run, known, stage)
    path = run / name
    if not path.is_file():
        raise UserError(f"{path}, which {stage} wrote, {'is no file any more' if path.exists() else 'is missing'}; {_anew(run)}")
    if lineage.file_digest(path) != digest(run, name):
        raise UserError(f"{path} is not what {stage} wrote: it does not have the digest in its manifest; {_anew(run)}")
    return path


def digest(run: Path, name: str) -> str | None:
    """The digest that a file has in its manifest; None where no finished stage wrote it. The file is not looked at."""
    known = _known(run)
    made = known.manifests.get(known.owners.get(name, ""))
    return None if made is None else made.outputs.get(name) or made.seals[name]


def below(run: Path, prefix: str) -> list[Path]:
    """All files whose names begin with `prefix` and that finished stages wrote, each as `file`, in the order of their names."""
    known = _known(run)
    names = sorted(name for name in known.owners if name.startswith(prefix))
    if not names:
        _all_sound(run, known)
    return [file(run, name) for name in names]


def folder(run: Path, name: str) -> Path:
    """A directory that is read as a whole: every file in it is one that a finished stage wrote. `UserError` where it is not
    there, or holds anything else."""
    if not below(run, f"{name}/"):
        raise UserError(f"{run / name} is not there yet; w2sr run {run} makes it")
    known = _known(run)
    for path in sorted((run / name).rglob("*")):
        if not path.is_dir() and path.relative_to(run).as_posix() not in known.owners:
            raise UserError(f"{path} was not written by the run, and would be read with what lies beside it; remove it")
    return run / name


def artifact(run: Path, stage: str) -> Artifact:
    """The sealed directory that a stage made. Its own list of digests is compared with the stage's manifest; the files in it are
    compared with that list by `part`, or by who reads all of them. `UserError` where the stage has not finished."""
    made = manifest(run, stage)
    if made is None or not made.artifacts:
        raise UserError(f"{run} has not finished {stage} yet; w2sr run {run} goes on with it")
    name, digest = next(iter(made.artifacts.items()))
    if not (run / name).is_dir():
        raise UserError(f"{run / name}, which {stage} made, is missing; {_anew(run)}")
    optional(run, f"{name}/{files.SEAL}")  # runs of earlier versions have none in their manifests
    return Artifact(run / name, digest)


def part(run: Path, sealed: Artifact, name: str) -> Path:
    """A file of a sealed directory. `UserError` where it is not as it was sealed."""
    digests = files.read_json(sealed.path / files.SEAL)
    path = files.within(sealed.path, name)
    if not isinstance(digests, dict) or not path.is_file() or lineage.file_digest(path) != digests.get(name):
        raise UserError(f"{path} does not have the digest in {files.SEAL}; {_anew(run)}")
    return path


def check(path: Path) -> None:
    """`UserError` where a path lies in a run and is not the file that the run wrote there; nothing where it lies in none, or no
    stage wrote it."""
    path = path.absolute()
    for run in path.parents:
        if (run / FOLDER).is_dir() and path.relative_to(run).as_posix() in _known(run).owners:
            file(run, path.relative_to(run).as_posix())


def _current(run: Path, known: _Known, stage: str) -> None:
    if stage in known.stale:
        raise UserError(f"{known.stale[stage]} than is there now; {_anew(run)}")


def _all_sound(run: Path, known: _Known) -> None:
    if known.damaged:
        raise UserError(f"the manifest {known.damaged[0]} is damaged, of another version or another stage's; {_anew(run)}")
    for stage, standing in known.missing.items():
        raise UserError(f"the manifest {lineage.manifest_path(run, stage)}, on which {standing} stands, is missing; {_anew(run)}")


def _anew(run: Path) -> str:
    return f"w2sr run {run} makes it anew"


def _known(run: Path) -> _Known:
    paths = sorted((run / FOLDER).rglob("*.json"))
    stats = (path.stat() for path in paths)
    return _read(run, tuple((path, stat.st_size, stat.st_mtime_ns, stat.st_ino) for path, stat in zip(paths, stats)))


@functools.lru_cache(maxsize=16)
def _read(run: Path, listed: tuple[tuple[Path, int, int, int], ...]) -> _Known:
    found: dict[str, Manifest] = {}
    damaged = []
    for path, *_ in listed:
        stage = path.relative_to(run / FOLDER).with_suffix("").as_posix()
        made = lineage.read(run, stage)
        if made is None:
            damaged.append(path)
        else:
            found[stage] = made
    owners = {name: stage for stage, made in found.items() for name in {**made.outputs, **made.seals}}
    missing = {need: stage for stage, made in found.items() for need in made.needs if need not in found}
    return _Known(found, owners, _stale(run, found), damaged, missing)


def _stale(run: Path, made: Mapping[str, Manifest]) -> dict[str, str]:
    """The stages that were made from other outputs than those that the stages they need have now, and what stands on them."""
    digests = {stage: manifest.digest() for stage, manifest in made.items()}
    found = {
        stage: f"{stage} of {run} was made from another {need}"
        for stage, manifest in made.items()
        for need, digest in manifest.inputs.items()
        if digests.get(need, digest) != digest
    }
    waiting = list(found)
    while waiting:
        stale = waiting.pop()
        for stage, manifest in made.items():
            if stale in manifest.inputs and stage not in found:
                found[stage] = found[stale]
                waiting.append(stage)
    return found
