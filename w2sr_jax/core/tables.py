"""Reading Parquet tables in bounded memory, and digests of their values, which do not depend on chunks and pages."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from w2sr_jax.core.errors import UserError

MOST_UNPACKED = 2**28
"""Bytes that a table may unpack to, whatever its size …"""
UNPACKED_RATIO = 1000
"""… or as many times its size."""
CONTENT = b"w2sr.content"
"""Names the digests of a table's values, one for each part of its rows, among its metadata: JSON, a list of [rows, digest]."""
_FEWEST, _TOGETHER = 4, 256  # rows that are unpacked at a time


def batches(path: Path, table: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """The rows of the open file of `path`. `UserError` where they would unpack to more than `MOST_UNPACKED` bytes and more than
    `UNPACKED_RATIO` times its size: by its footer, or by what comes out, since one stored value can stand for a million."""
    size = path.stat().st_size
    most = max(MOST_UNPACKED, UNPACKED_RATIO * size)
    # Of row groups alone: pyarrow ends the process over some damage to the metadata of columns when these are asked for.
    groups = [table.metadata.row_group(index).total_byte_size for index in range(table.metadata.num_row_groups)]
    if sum(groups) > most:
        raise _bomb(path, sum(groups), size)
    # A value is no larger than the group that it is stored in.
    together = max(_FEWEST, min(_TOGETHER, MOST_UNPACKED // max([1, *groups])))
    unpacked = 0
    for batch in table.iter_batches(together):
        unpacked += batch.nbytes
        if unpacked > most:
            raise _bomb(path, unpacked, size)
        yield batch


def _bomb(path: Path, unpacked: int, size: int) -> UserError:
    return UserError(f"{path} would unpack to {unpacked:,} bytes from {size:,}, which no honest table does")


def digest(table: pa.Table) -> str:
    """The sha256 of a table's column names, types and values."""
    hashed = hashlib.sha256()
    for name, column in zip(table.column_names, table.columns):
        hashed.update(f"{name}:{column.type}:{len(column)};".encode())
        for part in _parts(column):
            hashed.update(part)
    return hashed.hexdigest()


def _parts(column: pa.ChunkedArray) -> Iterator[bytes | memoryview]:
    """The bytes of a column's values, each null and each spelling of 0 and NaN alike."""
    yield np.packbits(column.is_null().to_numpy()).tobytes()
    if pa.types.is_list(column.type):
        yield pc.list_value_length(column).fill_null(0).to_numpy().tobytes()
        yield from _parts(pc.list_flatten(column))
    elif pa.types.is_string(column.type):
        yield pc.binary_length(column).fill_null(0).to_numpy().tobytes()
        for chunk in column.drop_null().chunks:
            _, offsets, characters = chunk.buffers()
            if len(chunk) and characters is not None:
                ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
                yield memoryview(characters)[ends[0] : ends[-1]]
    else:
        values = column.drop_null().to_numpy()
        yield (np.where(np.isnan(values), np.nan, values) + 0.0 if values.dtype.kind == "f" else values).tobytes()


def checked(path: Path, file: pq.ParquetFile, schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of a file, in the parts whose digests its metadata holds under `CONTENT`, each after its digest was compared.

    A file that holds none is read in batches, unchecked."""
    parts = (pa.Table.from_batches([batch]).select(schema.names).cast(schema) for batch in batches(path, file))
    stated = (file.metadata.metadata or {}).get(CONTENT)
    if stated is None:
        yield from parts
        return
    left = schema.empty_table()
    for length, written in json.loads(stated):
        while len(left) < length and (more := next(parts, None)) is not None:
            left = pa.concat_tables([left, more])
        table, left = left.slice(0, length), left.slice(length)
        if digest(table) != written:
            raise UserError(f"{path} is damaged: its rows are not those that were written")
        yield table
    if len(left) or any(len(more) for more in parts):
        raise UserError(f"{path} is damaged: it has more rows than were written")
