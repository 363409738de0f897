"""Checkpoints on disk: parameters, optimizer state, step and lineage, written asynchronously by Orbax, sealed, checked when read.

`DIRECTORY/STEP/` holds the items `params`, `optimizer` and `lineage` (JSON: `step`, `params_digest`, `optimizer_digest` and what
the caller adds, such as the parent checkpoint), and `DIGESTS.json`. A save that was killed leaves no step. Orbax by itself takes
an empty or half-copied directory for a step, and restores flipped bytes without a word; here the digests of all files and of the
arrays are compared on every restore. Orbax is imported when first used (it is slow to import).
"""

import contextlib
import functools
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.core import files
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training import retention, steps
from w2sr_jax.training.agreement import any_process
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.steps import LINEAGE, OPTIMIZER, PARAMS, latest, mark, marker, read_lineage, resolve

__all__ = ["Checkpoints", "latest", "mark", "marker", "read_lineage", "resolve", "restore_params", "save_params", "saved_shapes"]

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training run, the newest `keep` of them and the one that is being written. With several processes,
    all call every method alike.

    `UserError` where the disk refuses (full, read-only, not permitted); what was saved before stays usable.
    """

    def __init__(self, directory: Path, keep: int) -> None:
        import orbax.checkpoint as ocp

        self.directory, self._keep, self._refused = directory.absolute(), keep, False
        self._args = ocp.args
        _hush()
        self._orbax = ocp.AsyncCheckpointer(_handler())
        with self.guarded():
            self.directory.mkdir(parents=True, exist_ok=True)
            if jax.process_index() == 0:
                retention.sweep(self.directory)
            barrier(f"swept {self.directory}")
            # An unfinished directory would count as one of those to keep.
            for path in steps.listed(self.directory):
                self._passes(path, steps.unfinished(path))

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except UserError as error:
            if kind is None:
                raise
            log.warning("%s", error)  # what made us leave is not to be hidden by it
        finally:
            self._orbax.close()
            if self._refused:
                self._settle()
            elif kind is not None:
                self._sweep()

    def save(self, state: TrainState, lineage: Mapping[str, Any]) -> dict[str, Any]:
        """Start saving under the state's step; the state's buffers may be donated as soon as this returns. What was saved as
        lineage is returned."""
        record = {
            **lineage,
            "step": int(state.step),
            "params_digest": params_digest(state.params),
            "optimizer_digest": params_digest(state.opt_state),
        }
        self.wait()
        items = {
            PARAMS: self._args.StandardSave(state.params),
            OPTIMIZER: self._args.StandardSave(state.opt_state),
            LINEAGE: self._args.JsonSave(steps.signed(record)),
        }
        with self.guarded():
            self._orbax.save(self.directory / str(record["step"]), args=self._args.Composite(**items), force=True)
        return record

    def wait(self) -> None:
        """Return when all saves are on disk and sealed, and no more steps are left than are to be kept."""
        with self.guarded():
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                saved = steps.listed(self.directory)
                if saved and not files.sealed(saved[-1]) and steps.unfinished(saved[-1]) is None:
                    retention.seal(saved[-1])
                retention.prune(self.directory, self._keep)

    def clear(self) -> None:
        """Remove all checkpoints."""
        self.wait()
        if jax.process_index() == 0:
            for path in steps.listed(self.directory):
                retention.remove(path)
        barrier(f"cleared {self.directory}")

    def rescue(self) -> str:
        """The last sound checkpoint, in words; a save that is under way is waited for."""
        with contextlib.suppress(Exception):  # asked for when something has failed already
            self._orbax.wait_until_finished()
        newest = latest(self.directory)
        return f"the last sound checkpoint is {newest}" if newest else "no checkpoint was saved before"

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """An error inside in which the disk refused becomes a `UserError` that names the last sound checkpoint."""
        try:
            yield
        except (UserError, Stopped):
            raise
        except Exception as error:  # Orbax and tensorstore raise what they like, and quote the disk's words
            reason = files.refusal(error, self.directory)
            if reason is None:
                raise
            rescue, self._refused = self.rescue(), True
            self._sweep()
            raise UserError(f"{reason}; {rescue}") from None

    def _sweep(self) -> None:
        """Remove what an unfinished save has left."""
        if jax.process_index() == 0:
            with contextlib.suppress(OSError):
                retention.sweep(self.directory)

    def _settle(self) -> None:
        """Sweep for a second: threads that Orbax does not wait for may still write, and make directories for it."""
        for _ in range(10):
            time.sleep(0.1)
            self._sweep()

    def restore(self, like: TrainState, owner: Mapping[str, str]) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest sound state and its lineage, or None where there is none.

        `like` gives shapes, dtypes and shardings (of any mesh). A checkpoint whose lineage differs from `owner` belongs to
        another experiment: `UserError`. A damaged one is set aside with a warning that names the file. `opt_state` is None where
        it was removed after the end of the training."""
        for path in reversed(steps.listed(self.directory)):
            if not self._passes(path, steps.damage(path) if jax.process_index() == 0 else None):
                continue
            lineage = read_lineage(path)
            _check_owner(path, lineage, owner)
            state, reason = self._read(path, like, lineage)
            if self._passes(path, reason):
                with self.guarded():
                    if jax.process_index() == 0 and not files.sealed(path):
                        retention.seal(path)
                return state, lineage
        return None

    def _read(self, path: Path, like: TrainState, lineage: Mapping[str, Any]) -> tuple[TrainState, str | None]:
        """A step's state, and what is wrong with it."""
        wanted = {PARAMS: like.params} | ({OPTIMIZER: like.opt_state} if steps.has_optimizer(path) else {})
        items = {name: self._args.StandardRestore(tree) for name, tree in wanted.items()}
        try:
            read = self._orbax.restore(path, args=self._args.Composite(**items))
        except Exception as error:  # damaged files surface as whatever the reader of that format raises
            if files.sealed(path):  # and of these the bytes are known to be right
                raise
            return like, f"it cannot be read: {_first_line(error)}"
        for name in wanted:
            if params_digest(read[name]) != lineage.get(f"{name}_digest"):
                return like, f"its {name} do not have the digest in its lineage, so the files are damaged"
        scalars = jax.device_put((jax.numpy.int32(path.name), jax.numpy.bool_(True)), (like.step.sharding, like.sound.sharding))
        return TrainState(read[PARAMS], read[OPTIMIZER] if OPTIMIZER in wanted else None, *scalars), None

    def _passes(self, path: Path, reason: str | None) -> bool:
        """Whether no process knows a reason against a step; if one does, it is set aside."""
        if not any_process(reason is not None):
            return True
        with self.guarded():
            if jax.process_index() == 0:
                retention.set_aside(path, reason or "another process found it damaged")
        barrier(f"set aside {path}")
        return False


def save_params(directory: Path, params: Any, lineage: Mapping[str, Any]) -> str:
    """Save parameters that were not trained here as step 0, in place of whatever the folder holds; their digest. With several
    processes, all call this alike."""
    if jax.process_index() == 0:
        files.remove(directory)
    barrier(f"emptied {directory}")
    nothing = {"none": np.zeros(())}
    state = TrainState(params, nothing, jax.numpy.int32(0), jax.numpy.bool_(True))
    with Checkpoints(directory, keep=1) as checkpoints:
        record = checkpoints.save(state, lineage)
        checkpoints.wait()
    return str(record["params_digest"])


def restore_params(path: Path, shardings: Any = None, digest: str | None = None) -> Any:
    """The parameters of a checkpoint (a step directory, or a folder of them: the newest), as the nested dict that was saved.

    `shardings` is a pytree of shardings like the parameters, of any mesh; without it the arrays lie on this process's first
    device. `digest` is what the parameters must have, where it is known from elsewhere. `UserError` if there is none, if it is
    another one than that, or (naming the file) if it is damaged: an older step is another model.
    """
    import orbax.checkpoint as ocp

    step = resolve(path.absolute())
    reason = steps.damage(step)
    if reason is not None:
        raise UserError(f"checkpoint {step} is damaged: {reason}; use another checkpoint")
    lineage = read_lineage(step)
    try:
        with ocp.Checkpointer(_handler()) as reader:
            saved = reader.metadata(step).item_metadata[PARAMS].tree
            if shardings is None:
                here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
                shardings = jax.tree.map(lambda _: here, saved)
            target = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), saved, shardings)
            params = reader.restore(step, args=ocp.args.Composite(**{PARAMS: ocp.args.StandardRestore(target)}))[PARAMS]
    except Exception as error:  # as in `Checkpoints._read`; parameters of another shape than `shardings` come here, too
        raise UserError(f"checkpoint {step} cannot be read: {_first_line(error)}") from None
    actual = params_digest(params)
    if actual != lineage.get("params_digest"):
        raise UserError(
            f"checkpoint {step} is damaged: its parameters do not have the digest in its lineage; use another checkpoint"
        )
    if digest is not None and actual != digest:
        raise UserError(
            f"checkpoint {step} is sound, but another one than the run made there: its parameters have the digest {actual[:16]}, "
            f"not {digest[:16]}; put the run's own back, or remove it and let w2sr run make it anew"
        )
    return params


def saved_shapes(path: Path) -> Any:
    """What `restore_params` would read, as a tree of shapes and types; no parameter is read."""
    import orbax.checkpoint as ocp

    step = resolve(path.absolute())
    try:
        with ocp.Checkpointer(_handler()) as reader:
            saved = reader.metadata(step).item_metadata[PARAMS].tree
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved)
    except Exception as error:  # as in `Checkpoints._read`
        raise UserError(f"checkpoint {step} cannot be read: {_first_line(error)}") from None


def _handler() -> Any:
    """All items are named, since Orbax warns of each that it cannot read."""
    import orbax.checkpoint as ocp

    trees = {name: ocp.StandardCheckpointHandler() for name in (PARAMS, OPTIMIZER)}
    return ocp.CompositeCheckpointHandler(**trees, **{LINEAGE: ocp.JsonCheckpointHandler()})


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_owner(path: Path, lineage: Mapping[str, Any], owner: Mapping[str, str]) -> None:
    differing = [name for name, value in owner.items() if lineage.get(name) != value]
    if differing:
        names = " and ".join(name.replace("_", " ") for name in differing)
        raise UserError(
            f"{path.parent} holds another experiment's checkpoints: the {names} of {path.name} differs; use another directory"
        )


class _DiskRefusals(logging.Filter):
    """Drops records about errors in which the disk refused. Orbax, tensorstore and asyncio log the errors that they raise, up to
    ten times each; who gets the error says it once, in words."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return error is None or files.refusal(error) is None


@functools.cache
def _hush() -> None:
    """Filter what is logged of a refused write; for the whole process, since some of it is logged when garbage is collected."""
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_DiskRefusals())
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        # tensorstore reports to an event loop that Orbax closed at the first error.
        if unraisable.object is None and str(unraisable.exc_value) == "Event loop is closed":
            return
        before(unraisable)

    sys.unraisablehook = hook
