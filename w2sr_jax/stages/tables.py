"""Tables of a run as rows. While a report is made, each is read once."""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from w2sr_jax.core import records
from w2sr_jax.core.records import Record

R = TypeVar("R", bound=Record)

_known: ContextVar[dict[tuple[Path, type, tuple[str, ...]], list[Any]] | None] = ContextVar("known tables", default=None)


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Inside, what was read once is not read again; the files must not change meanwhile."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def read(path: Path, kind: type[R], problems: Collection[str] | None = None, without: Sequence[str] = ()) -> list[R]:
    """`records.read`; the list is the caller's own, the rows may be shared."""
    cached = _known.get()
    if cached is None or problems is not None:
        return records.read(path, kind, problems, without)
    key = path, kind, tuple(without)
    if key not in cached:
        cached[key] = records.read(path, kind, without=without)
    return list(cached[key])
