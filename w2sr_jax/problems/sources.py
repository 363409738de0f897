"""Rows of whatever a path names, and the files that stand for them in a run's lineage."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from w2sr_jax.problems import hf_data, reference, rows, tfds_data
from w2sr_jax.problems.rows import Row
from w2sr_jax.problems.settings import Files


def read_rows(path: str | Path, limit: int | None = None) -> Iterator[Row]:
    """The rows of a file, or of an `hf:` or `tfds:` data set, at most `limit`; see `reference.parse`.

    A row's line is its line in the file, or its number among the rows that the path names. Raises UserError where they cannot
    be had.
    """
    named = reference.parse(str(path))
    if named.kind == "file":
        yield from rows.read_rows(Path(named.name), limit)
        return
    rows.check_limit(path, limit)
    found = hf_data.rows(named) if named.kind == "hf" else tfds_data.rows(named)
    yield from islice(found, limit)


def origin(settings: Files | str) -> tuple[Path, ...]:
    """The files whose digests stand for the data: the file itself, those of a local directory or of a prepared TFDS data set, or
    the Arrow files of a Hub data set in the cache, into which it is downloaded first if need be. Raises UserError as reading
    does."""
    named = reference.parse(settings if isinstance(settings, str) else settings.path)
    if named.kind == "file":
        return (Path(named.name),)
    return hf_data.origin(named) if named.kind == "hf" else tfds_data.origin(named)


def title(path: str | Path) -> str:
    """What a path is called in a problem's `meta` and a trace's provenance."""
    return reference.title(reference.parse(str(path)))
