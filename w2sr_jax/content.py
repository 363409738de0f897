"""A digest of what a table holds, however its rows are cut into chunks and pages."""

import hashlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def digest(table: pa.Table) -> str:
    """Of a table's names, types and values."""
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
