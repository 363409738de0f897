"""The files of a training under way: where its checkpoints lie, what it draws, and, where hosts share no disk, what it has
written down, which goes into the bucket of the run with every save."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel import processes
from w2sr_jax.parallel.processes import first_does
from w2sr_jax.stages import layout
from w2sr_jax.stages.models import Model
from w2sr_jax.trackers.following import FOLDER as TRACKED
from w2sr_jax.training import journal
from w2sr_jax.training.goodput import SITTINGS
from w2sr_jax.training.keeping import KEPT_HERE, Keeping

_JOURNALS = (journal.METRICS, journal.PROBE, journal.TIMINGS, SITTINGS, TRACKED)
"""What a training that is gone on with reads: files, and a folder."""


def obtain_journals(store: RunStore, model: Model) -> None:
    """Have here what an interrupted training wrote down, perhaps on another machine."""
    if (mirror := store.mirror) is not None:
        for name in _JOURNALS:
            mirror.obtain(layout.within(model.directory, name), lasting=True)


def keeping(store: RunStore, model: Model) -> Keeping:
    """Where the run keeps a model's checkpoints, and what a save needs besides to be gone on from on another machine. `UserError`
    where several processes would write a checkpoint into a bucket that does not allow it."""
    mirror, folder = store.mirror, model.checkpoints
    if mirror is None:
        return Keeping(store.path(folder))
    if not mirror.direct:
        if processes.count() > 1:
            raise UserError(
                f"{mirror.bucket.address}: several processes write one checkpoint together, which {mirror.bucket.scheme}:// does "
                "not allow; use a bucket of gs://, or mount this one where every host sees it and name that directory"
            )
        mirror.obtain(folder, lasting=True)
    written = [store.path(layout.within(model.directory, name)) for name in (*_JOURNALS, journal.BOARD)]

    def publish() -> None:
        there = [path for each in written for path in (each, *each.rglob("*")) if path.is_file()]
        mirror.publish(map(store.relative, there), lasting=True)

    after = KEPT_HERE.after if mirror.direct else partial(mirror.equal, folder)
    return Keeping(store.checkpoints(folder), publish, after)


def own_drawn(store: RunStore, model: Model, identity: str, warn: Callable[[str], None]) -> Path:
    """The folder of what a training draws itself, emptied, with a warning, of what was drawn under settings of another
    `identity`. All processes call this."""
    folder = store.path(layout.within(model.directory, layout.DRAWN))
    mark = folder / "settings.json"

    def own() -> None:
        if folder.is_dir() and (not mark.is_file() or files.read_json(mark) != identity):
            warn(f"{model.name}: what lies in {folder} was drawn under other settings, and is drawn anew")
            store.discard(folder)
        files.write_json(mark, identity)
        store.publish([mark])

    store.sharing.obtain(folder)
    first_does(f"the folder of what {model.name} draws", own)
    return folder
