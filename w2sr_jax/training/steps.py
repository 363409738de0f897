"""The step directories in a folder of checkpoints: which are finished, which are damaged, what they were made from.

`DIRECTORY/STEP/` is finished once Orbax has put it in place with all its parts, and sealed (`DIGESTS.json`, see `files.seal`)
soon after. A sealed step that lacks a file or holds other bytes is damaged; an unsealed one lacks nothing but the seal, and is
checked by the digests of its arrays when it is read. Its lineage carries a digest of itself. Nothing is changed here.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, hub
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import Location, tree
from w2sr_jax.training.fingerprint import fingerprint

log = logging.getLogger(__name__)

PARAMS, OPTIMIZER, LINEAGE = "params", "optimizer", "lineage"
_OWN = "lineage_digest"
_MARKERS = ("_CHECKPOINT_METADATA", f"{PARAMS}/_METADATA", f"{OPTIMIZER}/_METADATA", f"{LINEAGE}/metadata")


def listed(directory: Location) -> list[Location]:
    """Directories named by a step, whatever they hold, in the order of their steps."""
    return [directory / name for name in sorted(filter(str.isdecimal, tree(directory).folders()), key=int)]


def unfinished(path: Location) -> str | None:
    """What an interrupted save or copy left out of a step, in words; None where it is finished."""
    if tree(path).sealed():
        return None
    missing = tree(path).lacks(_MARKERS)
    return None if missing is None else f"it is not a finished checkpoint, {path / missing} is missing"


def damage(path: Location) -> str | None:
    """What can be seen to be wrong with a step from its files, in words that name the file; all bytes of a sealed one are
    read."""
    reason = unfinished(path)
    if reason is not None:
        return reason
    try:
        reason = tree(path).damage() if tree(path).sealed() else None
        if reason is None:
            read_lineage(path)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or path} cannot be read: {error.strerror}"
    return reason


def has_optimizer(path: Location) -> bool:
    """Whether a finished step holds the optimizer's state, which `retention.retire` removes."""
    if not tree(path).sealed():
        return True
    digests = tree(path).read_json(files.SEAL)
    return isinstance(digests, dict) and any(name.startswith(f"{OPTIMIZER}/") for name in digests)


def latest(directory: Location) -> Location | None:
    """The newest sound checkpoint in a directory of checkpoints, None if there is none. Others give a warning."""
    for path in reversed(listed(directory)):
        reason = damage(path)
        if reason is None:
            return path
        log.warning("checkpoint %s is ignored: %s", path, reason)
    return None


def resolve(path: Location) -> Location:
    """The checkpoint meant by `path`: itself if it is one, else the newest finished one in it, damaged or not; `UserError` if
    there is none. Unfinished ones give a warning."""
    exists = tree(path).exists()
    if exists and unfinished(path) is None:
        return path
    for step in reversed(listed(path)):
        reason = unfinished(step)
        if reason is None:
            return step
        log.warning("checkpoint %s is ignored: %s", step, reason)
    raise UserError(f"{path} {'holds no finished checkpoint' if exists else 'does not exist'}; give a checkpoint or its folder")


def marker(path: Path) -> Path:
    """A file whose content stands for the parameters in `path`: the lineage of a checkpoint of ours, or a Hugging Face folder's
    weights (its index where they are in several files)."""
    for name in ("model.safetensors.index.json", "model.safetensors"):
        if (path / name).is_file():
            return path / name
    return Path(resolve(path), LINEAGE, "metadata")


def mark(ref: str) -> tuple[str, str]:
    """What a stage notes of weights that the user gave: `ref` itself, and a digest that changes with the parameters and not with
    the place where they lie. `ref` is a checkpoint of ours, a Hugging Face directory or a Hub id; `UserError` otherwise."""
    path = hub.snapshot(ref, "weights")
    if is_foreign(path):
        return ref, fingerprint(path)
    return ref, files.digest_file(marker(path))


def is_foreign(path: Path) -> bool:
    """Whether a directory is a Hugging Face model's and not one with checkpoints of ours."""
    return (path / "config.json").is_file() or any(path.glob("*.safetensors"))


def signed(lineage: Mapping[str, Any]) -> dict[str, Any]:
    """A lineage with the digest of itself."""
    return {**lineage, _OWN: files.digest_json(lineage)}


def read_lineage(path: Location) -> dict[str, Any]:
    """The lineage saved with a checkpoint (a step directory, or a folder of them: the newest); `UserError` if it is damaged."""
    step = resolve(path)
    file = step / LINEAGE / "metadata"
    lineage = tree(step).read_json(f"{LINEAGE}/metadata")
    if not isinstance(lineage, dict):
        raise UserError(f"{file} is not a lineage: {json.dumps(lineage)[:80]} is not a JSON object")
    own = lineage.pop(_OWN, None)
    if own != files.digest_json(lineage):
        raise UserError(f"{file} does not have the digest that it states itself")
    return lineage
