"""Rows of files and data sets by their paths, and the files whose digests identify them."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow.parquet as pq

from w2sr_jax.problems import hf_data, reference, rows, tfds_data
from w2sr_jax.problems.rows import Row

_COUNTED = 1 << 28  # bytes of a file whose lines are counted


def read_rows(path: str | Path, limit: int | None = None) -> Iterator[Row]:
    """The rows of a file, or of an `hf:` or `tfds:` data set, at most `limit`; see `reference.parse` for paths.

    `Row.line` is the line of the file, or the row's number among those that the path names, from 1. Raises UserError where they
    cannot be read.
    """
    named = reference.parse(str(path))
    if named.kind == "file":
        yield from rows.read_rows(Path(named.name), limit)
        return
    rows.check_limit(path, limit)
    rows_of_set = hf_data.rows(named) if named.kind == "hf" else tfds_data.rows(named)
    yield from islice(rows_of_set, limit)


def source_files(path: str) -> tuple[Path, ...]:
    """The files whose digests identify the data: the file itself, the files of a local directory or of a prepared TFDS data set,
    or the Arrow files of a Hub data set in the cache, to which it is downloaded first where it is not there. Raises UserError as
    `read_rows`."""
    named = reference.parse(path)
    if named.kind == "file":
        return (Path(named.name),)
    return hf_data.source_files(named) if named.kind == "hf" else tfds_data.source_files(named)


def at_hand(path: str) -> bool:
    """Whether rows can be read without a download. Raises UserError where one would be refused."""
    named = reference.parse(path)
    return named.kind != "hf" or hf_data.at_hand(named)


def count(path: str) -> int | None:
    """How many rows a path names; None where that cannot be told without a download or in a few seconds."""
    named = reference.parse(path)
    if named.kind == "hf":
        return hf_data.count(named) if hf_data.cached(named) else None
    file = Path(named.name)
    if named.kind != "file" or not file.is_file():
        return None
    if file.suffix.lower() == ".parquet":
        return int(pq.read_metadata(file).num_rows)
    if file.stat().st_size > _COUNTED or file.suffix.lower() == ".gz":
        return None
    with open(file, "rb") as lines:
        return sum(1 for line in lines if line.strip())


def title(path: str | Path) -> str:
    """The name of a path in the `meta` of problems and the provenance of traces."""
    return reference.title(reference.parse(str(path)))
