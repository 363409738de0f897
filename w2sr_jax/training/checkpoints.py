"""Checkpoints on disk: parameters, optimizer state, step and lineage, written asynchronously by Orbax, checked when read.

`DIRECTORY/STEP/` holds the items `params`, `optimizer` and `lineage` (JSON: `step`, `params_digest`, `optimizer_digest` and what
the caller adds, such as the parent checkpoint). A save that was killed leaves no step. Orbax by itself takes an empty or
half-copied directory for a step, and restores flipped bytes without a word; here the former are passed over with a warning,
and digests are compared on every restore. Orbax is imported when first used (it is slow to import).
"""

import json
import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.parallel.processes import meet
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.state import TrainState

log = logging.getLogger(__name__)

PARAMS, OPTIMIZER, LINEAGE = "params", "optimizer", "lineage"
# Files of a committed step.
_COMMITTED = ("_CHECKPOINT_METADATA", f"{PARAMS}/_METADATA", f"{OPTIMIZER}/_METADATA", f"{LINEAGE}/metadata")


class Checkpoints:
    """The checkpoints of one training run, the newest `keep` of them. With several processes, all call every method alike."""

    def __init__(self, directory: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        self.directory = directory.absolute()
        self.directory.mkdir(parents=True, exist_ok=True)
        # An unfinished directory would count as one of those to keep, and bar the step that is to be saved under its name.
        self._set_aside([path for path in _steps(self.directory) if not _committed(path)], "it is not a finished checkpoint")
        self._ocp = ocp
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True),
            item_names=(PARAMS, OPTIMIZER, LINEAGE),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def save(self, state: TrainState, lineage: Mapping[str, Any]) -> dict[str, Any]:
        """Start saving under the state's step; the state's buffers may be donated as soon as this returns. What was saved as
        lineage is returned."""
        step = int(state.step)
        record = {
            **lineage,
            "step": step,
            "params_digest": params_digest(state.params),
            "optimizer_digest": params_digest(state.opt_state),
        }
        args = self._ocp.args
        self._manager.save(
            step,
            args=args.Composite(
                **{
                    PARAMS: args.StandardSave(state.params),
                    OPTIMIZER: args.StandardSave(state.opt_state),
                    LINEAGE: args.JsonSave(record),
                }
            ),
            force=True,
        )
        return record

    def wait(self) -> None:
        """Return when all saves are on disk; an error of a save is raised here."""
        self._manager.wait_until_finished()

    def latest(self) -> Path | None:
        """The newest finished checkpoint."""
        return latest(self.directory)

    def restore(self, like: TrainState, owner: Mapping[str, str]) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest sound state and its lineage, or None where there is none.

        `like` gives shapes, dtypes and shardings (of any mesh). A checkpoint whose lineage differs from `owner` belongs to
        another experiment: `UserError`. One whose contents do not have their digests is set aside with a warning.
        """
        for path in reversed(_steps(self.directory)):
            try:
                lineage = read_lineage(path)
            except UserError as error:
                self._set_aside([path], str(error))
                continue
            _check_owner(path, lineage, owner)
            state = self._restore_step(path, like, lineage)
            if state is not None:
                return state, lineage
        return None

    def _restore_step(self, path: Path, like: TrainState, lineage: Mapping[str, Any]) -> TrainState | None:
        args, step = self._ocp.args, int(path.name)
        wanted = {PARAMS: args.StandardRestore(like.params), OPTIMIZER: args.StandardRestore(like.opt_state)}
        try:
            found = self._manager.restore(step, args=args.Composite(**wanted))
        except Exception as error:  # damaged files surface as whatever the reader of that format raises
            self._set_aside([path], f"it cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            return None
        for item, tree in ((PARAMS, found[PARAMS]), (OPTIMIZER, found[OPTIMIZER])):
            if params_digest(tree) != lineage.get(f"{item}_digest"):
                self._set_aside([path], f"its {item} do not have the digest in its lineage, so the files are damaged")
                return None
        scalars = jax.device_put((jax.numpy.int32(step), jax.numpy.bool_(True)), (like.step.sharding, like.sound.sharding))
        return TrainState(found[PARAMS], found[OPTIMIZER], *scalars)

    def _set_aside(self, paths: list[Path], reason: str) -> None:
        if not paths:
            return
        meet(f"found {paths[-1]}")  # nothing is renamed before all processes have seen it
        for path in paths:
            log.warning("checkpoint %s is ignored and renamed to %s.unsound: %s", path, path.name, reason)
            if jax.process_index() == 0:
                path.rename(_free(path.with_name(f"{path.name}.unsound")))
        meet(f"set aside {paths[-1]}")
        if hasattr(self, "_manager"):
            self._manager.reload()


def save_params(directory: Path, params: Any, lineage: Mapping[str, Any]) -> str:
    """Save parameters that were not trained here as step 0, in place of whatever the folder holds; their digest. With several
    processes, all call this alike."""
    if directory.exists() and jax.process_index() == 0:
        shutil.rmtree(directory)
    meet(f"emptied {directory}")
    nothing = {"none": np.zeros(())}
    state = TrainState(params, nothing, jax.numpy.int32(0), jax.numpy.bool_(True))
    with Checkpoints(directory, keep=1) as checkpoints:
        record = checkpoints.save(state, lineage)
        checkpoints.wait()
    return str(record["params_digest"])


def marker(path: Path) -> Path:
    """A file whose content stands for the parameters in `path`: the lineage of a checkpoint of ours, or a Hugging Face folder's
    weights (its index where they are in several files)."""
    for name in ("model.safetensors.index.json", "model.safetensors"):
        if (path / name).is_file():
            return path / name
    return resolve(path) / LINEAGE / "metadata"


def latest(directory: Path) -> Path | None:
    """The newest finished checkpoint in a directory of checkpoints, None if there is none. Unfinished ones give a warning."""
    found = None
    for path in _steps(directory):
        if _committed(path):
            found = path
        else:
            log.warning("checkpoint %s is ignored: it is not a finished checkpoint", path)
    return found


def resolve(path: Path) -> Path:
    """The checkpoint meant by `path`: itself if it is one, else the newest in it; `UserError` if there is none."""
    if _committed(path):
        return path
    found = latest(path) if path.is_dir() else None
    if found is None:
        raise UserError(
            f"{path} {'holds no finished checkpoint' if path.is_dir() else 'does not exist'}; give a checkpoint or its folder"
        )
    return found


def read_lineage(path: Path) -> dict[str, Any]:
    """The lineage saved with a checkpoint (a step directory, or a folder of them: the newest)."""
    lineage = files.read_json(resolve(path) / LINEAGE / "metadata")
    if not isinstance(lineage, dict):
        raise UserError(f"{path} has a lineage that is not a JSON object: {json.dumps(lineage)[:80]}")
    return lineage


def restore_params(path: Path, shardings: Any = None) -> Any:
    """The parameters of a checkpoint (a step directory, or a folder of them: the newest), as the nested dict that was saved.

    `shardings` is a pytree of shardings like the parameters, of any mesh; without it the arrays lie on this process's first
    device. `UserError` if there is none, or its bytes do not have the digest that was saved with them.
    """
    import orbax.checkpoint as ocp

    step = resolve(path.absolute())
    lineage = read_lineage(step)
    try:
        # All items are named, since Orbax warns of each that it cannot read.
        handlers = {PARAMS: ocp.StandardCheckpointHandler(), OPTIMIZER: ocp.StandardCheckpointHandler()}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler(**handlers, **{LINEAGE: ocp.JsonCheckpointHandler()})) as reader:
            saved = reader.metadata(step).item_metadata[PARAMS].tree
            places = shardings
            if places is None:
                here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
                places = jax.tree.map(lambda _: here, saved)
            target = jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), saved, places)
            params = reader.restore(step, args=ocp.args.Composite(**{PARAMS: ocp.args.StandardRestore(target)}))[PARAMS]
    except (ValueError, OSError) as error:
        raise UserError(f"checkpoint {step} cannot be read: {str(error).splitlines()[0]}") from None
    if params_digest(params) != lineage.get("params_digest"):
        raise UserError(
            f"checkpoint {step} is damaged: its parameters do not have the digest in its lineage; use another checkpoint"
        )
    return params


def _check_owner(path: Path, lineage: Mapping[str, Any], owner: Mapping[str, str]) -> None:
    differing = [name for name, value in owner.items() if lineage.get(name) != value]
    if differing:
        names = " and ".join(name.replace("_", " ") for name in differing)
        raise UserError(
            f"{path.parent} holds another experiment's checkpoints: the {names} of {path.name} differs; use another directory"
        )


def _steps(directory: Path) -> list[Path]:
    """Directories named by a step, whatever they hold, in the order of their steps."""
    found = [path for path in directory.iterdir() if path.is_dir() and path.name.isdecimal()] if directory.is_dir() else []
    return sorted(found, key=lambda path: int(path.name))


def _committed(path: Path) -> bool:
    return all((path / name).is_file() for name in _COMMITTED)


def _free(path: Path) -> Path:
    number = 1
    free = path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}.{number}")
    return free
