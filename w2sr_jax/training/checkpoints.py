"""Checkpoints on disk: parameters, optimizer state, step and lineage, written asynchronously by Orbax, sealed, checked when read.

`DIRECTORY/STEP/` holds the items `params`, `optimizer` and `lineage` (JSON: `step`, `params_digest`, `optimizer_digest` and what
the caller adds, such as the parent checkpoint), and `DIGESTS.json`. A save that was killed leaves no step. Orbax by itself takes
an empty or half-copied directory for a step, and restores flipped bytes without a word; here the digests of all files and of the
arrays are compared on every restore. Orbax is imported when first used (it is slow to import).

A save holds the training up for as long as Orbax copies arrays out of the devices' memory. What follows is done in threads while
the next steps run: arrays are digested and written; Orbax puts the step in its place once both are done; it is sealed, each file
hashed by the process that wrote it; old steps are removed. The next save waits for all of that, so that one copy of the state at
most is held for it.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from w2sr_jax.core import files
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.trees import Location, absolute, tree
from w2sr_jax.parallel.processes import barrier
from w2sr_jax.training import retention, steps
from w2sr_jax.training.agreement import any_process
from w2sr_jax.training.background import Background
from w2sr_jax.training.digest import digest_later, params_digest
from w2sr_jax.training.keeping import KEPT_HERE, Keeping
from w2sr_jax.training.quiet import hush
from w2sr_jax.training.state import TrainState
from w2sr_jax.training.steps import LINEAGE, OPTIMIZER, PARAMS, latest, mark, marker, read_lineage, resolve

__all__ = ["Checkpoints", "latest", "mark", "marker", "read_lineage", "resolve", "restore_params", "save_params", "saved_shapes"]

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one training run, the newest `keep` of them and the one that is being written. With several processes,
    all call every method alike.

    `UserError` where the disk refuses (full, read-only, not permitted); what was saved before stays usable.
    """

    def __init__(self, directory: Location, keep: int, keeping: Keeping = KEPT_HERE) -> None:
        import orbax.checkpoint as ocp

        from w2sr_jax.training import items

        self.directory, self._keep, self._failed = absolute(directory), keep, False
        self._keeping = keeping
        self.saved: dict[str, Any] | None = None
        """The lineage of the last save that has been waited for."""
        self._args, self._items = ocp.args, items
        hush()
        self._orbax = ocp.AsyncCheckpointer(items.handler())
        self._background = Background("checkpoint")
        with self.guarded():
            tree(self.directory).create()
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
            if self._failed:
                self._settle()
            elif kind is not None:
                self._sweep()

    def save(self, state: TrainState, lineage: Mapping[str, Any]) -> None:
        """Start saving under the state's step, once the save before is finished; the state's buffers may be donated as soon as
        this returns."""
        self.wait()
        step = int(state.step)
        params, optimizer = digest_later(state.params), digest_later(state.opt_state)
        record: dict[str, Any] = {}

        def compute() -> dict[str, Any]:
            if jax.process_index() == 0:
                self._keeping.before()
            record.update({**lineage, "step": step, "params_digest": params(), "optimizer_digest": optimizer()})
            return steps.signed(record)

        parts = {
            PARAMS: self._items.ArraysSave(state.params),
            OPTIMIZER: self._items.ArraysSave(state.opt_state),
            LINEAGE: self._items.LineageSave(compute),
        }
        path = self.directory / str(step)
        with self.guarded():
            self._orbax.save(path, args=self._args.Composite(**parts), force=True)
            self._background.start(partial(self._finish, path, record))

    def _finish(self, path: Location, record: dict[str, Any]) -> None:
        """What follows once Orbax has written a step; in a thread."""
        self._orbax.wait_until_finished()
        if jax.process_index() == 0:
            tree(path).seal(self._items.own_digests(path))
            retention.prune(self.directory, self._keep)
            self._keeping.after()
        self.saved = record

    def check(self) -> None:
        """`UserError` where the save that was started last has failed already."""
        if self._background.failed:
            self.wait()

    def wait(self) -> None:
        """Return when all saves are on disk and sealed, and no more steps are left than are to be kept; `UserError` where the one
        that was started last has failed."""
        with self.guarded():
            try:
                self._background.wait()
            except Exception as error:  # of Orbax, tensorstore or another process
                if files.refusal(error, self.directory) is not None:
                    raise
                rescue, self._failed = self.rescue(), True
                words = f"a checkpoint could not be saved in {self.directory}: {_first_line(error)}; {rescue}"
                raise UserError(words) from error

    def stated(self, name: str) -> str:
        """What the newest legible lineage says under a name; empty where there is none."""
        for path in reversed(steps.listed(self.directory)):
            with contextlib.suppress(UserError):
                return str(read_lineage(path).get(name, ""))
        return ""

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
            self._background.wait()
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
            rescue, self._failed = self.rescue(), True
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
                    if jax.process_index() == 0 and not tree(path).sealed():
                        tree(path).seal()
                return state, lineage
        return None

    def _read(self, path: Location, like: TrainState, lineage: Mapping[str, Any]) -> tuple[TrainState, str | None]:
        """A step's state, and what is wrong with it."""
        wanted = {PARAMS: like.params} | ({OPTIMIZER: like.opt_state} if steps.has_optimizer(path) else {})
        parts = {name: self._items.ArraysRestore(tree) for name, tree in wanted.items()}
        try:
            read = self._orbax.restore(path, args=self._args.Composite(**parts))
        except Exception as error:  # damaged files surface as whatever the reader of that format raises
            if tree(path).sealed():  # and of these the bytes are known to be right
                raise
            return like, f"it cannot be read: {_first_line(error)}"
        for name in wanted:
            stated = str(lineage.get(f"{name}_digest"))
            if params_digest(read[name], stated) != stated:
                return like, f"its {name} do not have the digest in its lineage, so the files are damaged"
        scalars = jax.device_put((jax.numpy.int32(path.name), jax.numpy.bool_(True)), (like.step.sharding, like.sound.sharding))
        return TrainState(read[PARAMS], read[OPTIMIZER] if OPTIMIZER in wanted else None, *scalars), None

    def _passes(self, path: Location, reason: str | None) -> bool:
        """Whether no process knows a reason against a step; if one does, it is set aside."""
        if not any_process(reason is not None):
            return True
        with self.guarded():
            if jax.process_index() == 0:
                retention.set_aside(path, reason or "another process found it damaged")
        barrier(f"set aside {path}")
        return False


def save_params(directory: Location, params: Any, lineage: Mapping[str, Any]) -> str:
    """Save parameters that were not trained here as step 0, in place of whatever the folder holds; their digest. With several
    processes, all call this alike."""
    if jax.process_index() == 0:
        tree(directory).remove()
    barrier(f"emptied {directory}")
    nothing = {"none": np.zeros(())}
    state = TrainState(params, nothing, jax.numpy.int32(0), jax.numpy.bool_(True))
    with Checkpoints(directory, keep=1) as checkpoints:
        checkpoints.save(state, lineage)
        checkpoints.wait()
        return str((checkpoints.saved or {})["params_digest"])


def restore_params(path: Location, shardings: Any = None, digest: str | None = None) -> Any:
    """The parameters of a checkpoint (a step directory, or a folder of them: the newest), as the nested dict that was saved.

    `shardings` is a pytree of shardings like the parameters, of any mesh; without it the arrays lie on this process's first
    device. `digest` is what the parameters must have, where it is known from elsewhere. `UserError` if there is none, if it is
    another one than that, or (naming the file) if it is damaged: an older step is another model.
    """
    import orbax.checkpoint as ocp

    from w2sr_jax.training import items

    step = resolve(absolute(path))
    reason = steps.damage(step)
    if reason is not None:
        raise UserError(f"checkpoint {step} is damaged: {reason}; use another checkpoint")
    lineage = read_lineage(step)
    try:
        with ocp.Checkpointer(items.handler()) as reader:
            saved = reader.metadata(step).item_metadata[PARAMS].tree
            if shardings is None:
                here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
                shardings = jax.tree.map(lambda _: here, saved)
            target = jax.tree.map(lambda leaf, to: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=to), saved, shardings)
            params = reader.restore(step, args=ocp.args.Composite(**{PARAMS: items.ArraysRestore(target)}))[PARAMS]
    except Exception as error:  # as in `Checkpoints._read`; parameters of another shape than `shardings` come here, too
        raise UserError(f"checkpoint {step} cannot be read: {_first_line(error)}") from None
    stated = str(lineage.get("params_digest"))
    actual = params_digest(params, stated)
    if actual != stated:
        raise UserError(
            f"checkpoint {step} is damaged: its parameters do not have the digest in its lineage; use another checkpoint"
        )
    if digest is not None and actual != digest:
        raise UserError(
            f"checkpoint {step} is sound, but another one than the run made there: its parameters have the digest {actual[:16]}, "
            f"not {digest[:16]}; put the run's own back, or remove it and let w2sr run make it anew"
        )
    return params


def saved_shapes(path: Location) -> Any:
    """What `restore_params` would read, as a tree of shapes and types; no parameter is read."""
    import orbax.checkpoint as ocp

    from w2sr_jax.training import items

    step = resolve(absolute(path))
    try:
        with ocp.Checkpointer(items.handler()) as reader:
            saved = reader.metadata(step).item_metadata[PARAMS].tree
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved)
    except Exception as error:  # as in `Checkpoints._read`
        raise UserError(f"checkpoint {step} cannot be read: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _check_owner(path: Location, lineage: Mapping[str, Any], owner: Mapping[str, str]) -> None:
    differing = [name for name, value in owner.items() if lineage.get(name) != value]
    if differing:
        names = " and ".join(name.replace("_", " ") for name in differing)
        raise UserError(
            f"{path.parent} holds another experiment's checkpoints: the {names} of {path.name} differs; use another directory"
        )
