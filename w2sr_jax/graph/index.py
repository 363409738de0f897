"""What the manifests of a run say together: which stages stand, which files are whose, and what was made from outputs that are
not there any more."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.graph import manifest as manifests_of
from w2sr_jax.graph.manifest import Manifest


class Index(NamedTuple):
    """What all manifests of a run say: those that are sound by stage, which stage wrote each file, which stages were made from
    other outputs than there are now (in words), the manifests that are not sound, and those that are missing, with a stage that
    stands on each."""

    manifests: Mapping[str, Manifest]
    owners: Mapping[str, str]
    stale: Mapping[str, str]
    damaged: Sequence[Path]
    missing: Mapping[str, str]


def index(run: Path) -> Index:
    """The index of a run, not read anew while its manifests stay as they are."""
    paths = sorted((run / manifests_of.FOLDER).rglob("*.json"))
    stats = (path.stat() for path in paths)
    return _read(run, tuple((path, s.st_size, s.st_mtime_ns, s.st_ino) for path, s in zip(paths, stats)))


@functools.lru_cache(maxsize=1024)
def _read(run: Path, listed: tuple[tuple[Path, int, int, int], ...]) -> Index:
    sound: dict[str, Manifest] = {}
    damaged = []
    for path, *_ in listed:
        stage = path.relative_to(run / manifests_of.FOLDER).with_suffix("").as_posix()
        manifest = manifests_of.read(run, stage)
        if manifest is None:
            damaged.append(path)
        else:
            sound[stage] = manifest
    owners = {name: stage for stage, manifest in sound.items() for name in manifest.files()}
    missing = {need: stage for stage, manifest in sound.items() for need in manifest.needs if need not in sound}
    return Index(sound, owners, _stale(run, sound), damaged, missing)


def _stale(run: Path, manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """The stages that were made from other outputs than those that the stages they need have now, and what stands on them."""
    digests = {stage: manifest.digest() for stage, manifest in manifests.items()}
    stale = {
        stage: f"{stage} of {run} was made from another {need}"
        for stage, manifest in manifests.items()
        for need, digest in manifest.inputs.items()
        if digests.get(need, digest) != digest
    }
    waiting = list(stale)
    while waiting:
        before = waiting.pop()
        for stage, manifest in manifests.items():
            if before in manifest.inputs and stage not in stale:
                stale[stage] = stale[before]
                waiting.append(stage)
    return stale
