"""What Orbax writes of a checkpoint in a way of this package. The files are those of its own handlers, which can read them.
Imported where Orbax is used, since that is slow to import.

A lineage is written once it is known: it states digests that are computed while arrays are being written, and Orbax puts the step
in its place only when all is written. Of several processes each lists the digests of the array files that it wrote itself, before
that moment, so that nobody reads another's for the seal.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from w2sr_jax.core import files
from w2sr_jax.core.trees import Location
from w2sr_jax.training.steps import LINEAGE, OPTIMIZER, PARAMS

_LISTS = "digests.process_*.json"


class LineageHandler(ocp.JsonCheckpointHandler):
    """Writes the JSON value that a function gives, which is called in a thread, on every process."""

    async def async_save(self, directory: Any, item: Any = None, args: Any = None) -> list[Any]:
        del item

        async def write() -> None:
            value = args.compute()
            if jax.process_index() == 0:
                (directory / "metadata").write_text(json.dumps(value))

        return [ocp.future.CommitFutureAwaitingContractedSignals(write(), name="lineage")]


@ocp.args.register_with_handler(LineageHandler, for_save=True)
@dataclasses.dataclass
class LineageSave(ocp.args.CheckpointArgs):
    compute: Callable[[], Mapping[str, Any]]


@ocp.args.register_with_handler(LineageHandler, for_restore=True)
@dataclasses.dataclass
class LineageRestore(ocp.args.CheckpointArgs):
    pass


class ArraysHandler(ocp.StandardCheckpointHandler):
    """Writes a pytree of arrays; with several processes each lists its own files."""

    async def async_save(self, directory: Any, *others: Any, **named: Any) -> list[Any] | None:
        written = await super().async_save(directory, *others, **named)
        if jax.process_count() == 1 or "://" in str(directory):  # a seal in a bucket lists no digests
            return written

        async def listed() -> None:
            for each in written:
                each.result()
            _list_own(Path(str(directory)), jax.process_index())

        return [ocp.future.CommitFutureAwaitingContractedSignals(listed(), name="digests")]


@ocp.args.register_with_handler(ArraysHandler, for_save=True)
@dataclasses.dataclass
class ArraysSave(ocp.args.StandardSave):
    pass


@ocp.args.register_with_handler(ArraysHandler, for_restore=True)
@dataclasses.dataclass
class ArraysRestore(ocp.args.StandardRestore):
    pass


def handler() -> Any:
    """All items are named, since Orbax warns of each that it cannot read."""
    arrays = {name: ArraysHandler() for name in (PARAMS, OPTIMIZER)}
    return ocp.CompositeCheckpointHandler(**arrays, **{LINEAGE: LineageHandler()})


def own_digests(step: Location) -> dict[str, str]:
    """The digests that processes have listed of what they wrote themselves, by the names of the files in the step; none in a
    bucket."""
    if not isinstance(step, Path):
        return {}
    return {
        f"{item}/{name}": str(digest)
        for item in (PARAMS, OPTIMIZER)
        for path in (step / item).glob(_LISTS)
        for name, digest in files.read_json(path).items()
    }


def _list_own(item: Path, process: int) -> None:
    """List what a process has written of an item; process 0 leaves the rest to the seal, since it writes more at the end."""
    digests = {path.relative_to(item).as_posix(): files.digest_file(path) for path in _own(item, process)}
    files.write_json(item / _LISTS.replace("*", str(process)), digests)


def _own(item: Path, process: int) -> Iterator[Path]:
    yield from sorted(path for path in (item / f"ocdbt.process_{process}").rglob("*") if path.is_file())
    metadata = item / "array_metadatas" / f"process_{process}"
    if metadata.is_file():
        yield metadata
