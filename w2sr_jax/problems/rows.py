"""Rows of JSON Lines and Parquet files. Whatever a file holds, reading it gives rows, faults of rows, or one UserError."""

import dataclasses
import gzip
import json
import math
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, AnyStr, Generic, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax.core import sentences, tables
from w2sr_jax.core.errors import UserError

LONGEST_LINE = 64 * 2**20  # bytes
MOST_REJECTED = 1_000_000  # rows; a file with more unusable ones is of another kind
MOST_UNPACKED = 2**28  # bytes to which any compressed file may unpack …
UNPACKED_RATIO = 200  # … and so many times the size of a larger one
_NESTING = 3  # levels of lists that are read as one list of values
_META_CHARACTERS = 200  # of a field's name or value that goes to `meta` unasked


class Rejected(NamedTuple):
    """A row that was set aside: its file, its line (or row of a table), from 1, and the reason."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Quarantine:
    """The rows of a source that were set aside, in order."""

    rows: tuple[Rejected, ...] = ()

    def counts(self) -> dict[str, int]:
        """The number of rows for each reason, the most frequent first."""
        return dict(Counter(row.reason for row in self.rows).most_common())

    def __len__(self) -> int:
        return len(self.rows)


class Row(NamedTuple):
    """One row of a file: its line (or row of a table), from 1, and either its `values` by field or the `fault` for which it has
    none."""

    line: int
    values: Mapping[str, Any]
    fault: str | None = None


class Unusable(Exception):
    """The reason for which a row cannot be used."""


class Unreadable(NamedTuple):
    """A value of a table that Python cannot represent."""

    reason: str


class _Doubled(dict[str, Any]):
    """An object in which a field occurs twice."""

    field = ""


def set_aside(quarantine: list[Rejected], path: str, line: int, reason: str) -> None:
    """Add a row to the quarantine. Raises UserError where that gets more than `MOST_REJECTED` rows."""
    quarantine.append(Rejected(sentences.printable(path), line, sentences.printable(reason)))
    if len(quarantine) > MOST_REJECTED:
        first = quarantine[0]
        raise UserError(f"{path} has more than {MOST_REJECTED:,} unusable rows, the first in line {first.line}: {first.reason}")


def read_rows(path: Path | str, limit: int | None = None) -> Iterator[Row]:
    """The rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file, at most `limit`. Lines end in LF, and blank lines are no rows.

    Raises UserError where the file is missing, of another format or damaged.
    """
    path = Path(path)
    check_limit(path, limit)
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz")):
        source = _json_lines(path)
    elif name.endswith(".parquet"):
        source = _parquet(path)
    else:
        raise UserError(f"{path}: unknown kind of file; its name must end in .jsonl, .jsonl.gz or .parquet")
    for count, row in enumerate(source):
        if count == limit:
            return
        yield row


def check_limit(source: object, limit: int | None) -> None:
    """Raises UserError where a limit of rows is below 1."""
    if limit is not None and limit < 1:
        raise UserError(f"{source}: limit {limit} leaves no rows; give 1 or more, or none")


def field_value(values: Mapping[str, Any], field: str) -> Any:
    """The value of a field, also of a nested one (`a.b`, `a.0.b`). A field whose whole name is `field` comes first. Raises
    KeyError."""
    if field in values:
        return values[field]
    value: Any = values
    for part in field.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            raise KeyError(field)
    return value


def text_field(row: Row, field: str) -> str:
    """The text of a field (see `field_value`), which is not empty; numbers are written out, elements of lists joined by commas.
    Raises Unusable where there is none."""
    if row.fault is not None:
        raise Unusable(row.fault)
    try:
        value = field_value(row.values, field)
    except KeyError:
        raise Unusable(f"field {field!r} is missing") from None
    if isinstance(value, Unreadable):
        raise Unusable(f"field {field!r} cannot be read ({value.reason})")
    text = _spelled(value)
    if text is None:
        raise Unusable(f"field {field!r} holds {type(value).__name__}, not text or a number")
    if not text.strip():
        raise Unusable(f"field {field!r} is empty")
    if _broken(text):
        raise Unusable(f"field {field!r} holds half a surrogate pair, which is no character")
    return text


def belongs_in_meta(name: str, value: Any, longest: float = _META_CHARACTERS) -> bool:
    """Whether a field can go to `meta`: a plain value that JSON can hold, with at most `longest` characters in name and value."""
    if value is None or isinstance(value, (list, Unreadable)):
        return False
    text = str(value) if isinstance(value, bool) else _spelled(value)
    return text is not None and max(len(name), len(text)) <= longest and not _broken(name + text)


def _spelled(value: Any, nesting: int = _NESTING) -> str | None:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, (int, float)):
        try:
            return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        except ValueError:  # more digits than Python converts
            return None
    if isinstance(value, list) and nesting:
        parts = [_spelled(part, nesting - 1) for part in value]
        return ", ".join(part for part in parts if part) if None not in parts else None
    return None


def _broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _size(path: Path) -> int:
    """The size of a regular file in bytes. Raises UserError where there is none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{sentences.shown(str(path))} cannot be read: {sentences.cause(error)}") from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path} cannot be read: it is not a regular file")
    return status.st_size


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]


def _json_lines(path: Path) -> Iterator[Row]:
    size, number = _size(path), 0
    try:
        with _open(path) as stream:
            lines = Bounded(path, stream, unpacked(size))
            while line := lines.read(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    while line and not line.endswith(b"\n"):
                        line = lines.read(LONGEST_LINE)
                    yield Row(number, {}, f"longer than {LONGEST_LINE >> 20} MiB")
                    continue
                row = _json_row(number, line)
                if row is not None:
                    yield row
    except (OSError, EOFError, zlib.error) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read past line {number}: {sentences.shown(reason)}") from None


def unpacked(size: int) -> int:
    """The number of bytes to which a compressed text file of `size` bytes may unpack."""
    return max(MOST_UNPACKED, UNPACKED_RATIO * size)


class Bounded(Generic[AnyStr]):
    """Reads lines of a file that may be compressed. Raises UserError after more than `most` bytes (or characters)."""

    def __init__(self, path: Path, stream: IO[AnyStr], most: int) -> None:
        self._path, self._most, self._read = path, most, 0
        self._stream: IO[AnyStr] = stream

    def read(self, longest: int) -> AnyStr:
        line = self._stream.readline(longest)
        self._read += len(line)
        if self._read > self._most:
            raise UserError(f"{self._path} unpacks to more than {self._most:,} bytes, which no honest file of its size does")
        return line


def _json_row(number: int, line: bytes) -> Row | None:
    try:
        text = line.decode("utf-8").lstrip("\ufeff").strip(" \t\r\n")
    except UnicodeDecodeError as error:
        return Row(number, {}, f"not UTF-8 text (byte 0x{line[error.start]:02x} at position {error.start + 1})")
    if not text:
        return None
    try:
        values = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        return Row(number, {}, f"not valid JSON ({error.msg})")
    except (ValueError, RecursionError) as error:
        return Row(number, {}, f"not valid JSON ({type(error).__name__})")
    if isinstance(values, _Doubled):
        return Row(number, {}, f"field {sentences.value(values.field)} occurs twice")
    return Row(number, values) if isinstance(values, dict) else Row(number, {}, "not a JSON object")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    doubled = _Doubled(values)
    doubled.field = Counter(name for name, _ in pairs).most_common(1)[0][0]
    return doubled


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _parquet(path: Path) -> Iterator[Row]:
    number = 0
    for batch in _batches(path):
        for values in _python(batch):
            number += 1
            yield Row(number, values)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a table in parts. Raises UserError for whatever the library raises at a damaged file."""
    _size(path)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as table:
            _check_table(path, table)
            read = 0
            for batch in tables.batches(path, table):
                read += batch.num_rows
                yield batch
            if read != table.metadata.num_rows:
                raise UserError(f"{path} is damaged: it has {read} rows where its footer says {table.metadata.num_rows}")
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read as Parquet: {sentences.cause(error)}") from None


def _check_table(path: Path, table: pq.ParquetFile) -> None:
    doubled = [name for name, count in Counter(table.schema_arrow.names).items() if count > 1]
    if doubled:
        raise UserError(f"{path} has two columns that are called {sentences.value(doubled[0])}")


def _python(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist()
    except Exception:  # a value that Python cannot represent, or text that is not UTF-8: only its row is unusable
        columns = {name: [_cell(value) for value in column] for name, column in zip(batch.schema.names, batch.columns)}
        return [{name: column[index] for name, column in columns.items()} for index in range(batch.num_rows)]


def _cell(value: pa.Scalar) -> Any:
    try:
        return value.as_py()
    except Exception as error:
        return Unreadable(type(error).__name__)
