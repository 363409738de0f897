"""Rows of a table looked up by values or by number. Of the other rows only the columns that are compared are read."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Record

R = TypeVar("R", bound=Record)


def where(path: Path, kind: type[R], values: Mapping[str, str]) -> list[tuple[int, R]]:
    """The records whose columns have these values, each with its row (from 0). `UserError` where the table is damaged or
    another one."""
    matches: list[tuple[int, R]] = []
    with _opened(path, kind) as file:
        first = 0
        for group in range(file.num_row_groups):
            columns = file.read_row_group(group, list(values))
            rows = zip(*(columns[name].to_pylist() for name in values))
            numbers = [number for number, row in enumerate(rows) if row == tuple(values.values())]
            if numbers:
                table = _group(file, group, kind)
                matches += [(first + number, kind.from_row(table.slice(number, 1).to_pylist()[0])) for number in numbers]
            first += columns.num_rows
    return matches


def record(path: Path, kind: type[R], number: int) -> R:
    """The record of a row (from 0). `UserError` as in `where`, or where there is no such row."""
    with _opened(path, kind) as file:
        first = 0
        for group in range(file.num_row_groups):
            size = file.metadata.row_group(group).num_rows
            if first <= number < first + size:
                return kind.from_row(_group(file, group, kind).slice(number - first, 1).to_pylist()[0])
            first += size
    raise UserError(f"{path} has no row {number}")


def column(path: Path, kind: type[Record], name: str) -> list[str]:
    """One column of text, of all rows."""
    with _opened(path, kind) as file:
        return [str(value) for value in file.read([name])[name].to_pylist()]


def _group(file: pq.ParquetFile, group: int, kind: type[Record]) -> pa.Table:
    return file.read_row_group(group, [name for name in kind.schema().names if name in file.schema_arrow.names])


@contextlib.contextmanager
def _opened(path: Path, kind: type[Record]) -> Iterator[pq.ParquetFile]:
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # the library answers damage with many kinds
        raise UserError(f"{path} is not a table of {kind.__name__} rows: {sentences.cause(error)}") from None
