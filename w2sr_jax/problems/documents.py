"""Rows of files that hold a whole table as text: CSV, TSV and JSON, also compressed with gzip."""

import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.problems import datasets, reference, rows
from w2sr_jax.problems.rows import LONGEST_LINE, Row

OTHERS = (".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".parquet")
LARGEST = 2**30  # bytes of a JSON document, which is read as a whole
_KINDS: dict[type, str] = {dict: "one object", str: "a text"}
_SEPARATORS = ",;\t|"
_DOUBLED = "\x00"  # marks an object in which a field occurs twice; no field of a row is called so


def read_rows(path: Path | str, limit: int | None = None) -> Iterator[Row]:
    """The rows of a CSV, TSV or JSON file (a list of objects), at most `limit`; all other paths are read by `datasets.read_rows`.

    `Row.line` is the line in which a row of a table begins, or a row's number in a list, from 1. Values of CSV and TSV are texts,
    and their first line names the fields. Raises UserError where the file is missing, of another format or damaged.
    """
    name = str(path).lower().removesuffix(".gz")
    if not name.endswith((".csv", ".tsv", ".json")):
        if reference.parse(str(path)).kind == "file" and not str(path).lower().endswith(OTHERS):
            raise UserError(f"{path}: unknown kind of file; its name must end in .csv, .tsv, .json, {', '.join(OTHERS)}")
        return datasets.read_rows(path, limit)
    rows.check_limit(path, limit)
    where = Path(path)
    return islice(_json(where) if name.endswith(".json") else _table(where, name.endswith(".tsv")), limit)


def _open(path: Path) -> IO[bytes]:
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if not path.is_file():
        raise UserError(f"{path} cannot be read: it is not a regular file")
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else open(path, "rb")  # type: ignore[return-value]


def _table(path: Path, tabs: bool) -> Iterator[Row]:
    begun = 0
    longest = csv.field_size_limit(LONGEST_LINE)
    try:
        with _open(path) as packed, io.TextIOWrapper(packed, "utf-8-sig", "surrogateescape", newline="") as stream:
            lines = _lines(path, stream)
            first = next(lines, "")
            separator = "\t" if tabs else max(_SEPARATORS, key=first.count)
            header = next(csv.reader([first], delimiter=separator), [])
            _check(path, header)
            begun = 1
            reader = csv.reader(lines, delimiter=separator)
            for values in reader:
                line, begun = begun + 1, 1 + reader.line_num
                if not values:
                    continue
                if any("\ud800" <= char <= "\udfff" for value in values for char in value):
                    yield Row(line, {}, "not UTF-8 text")
                elif len(values) != len(header):
                    yield Row(line, {}, f"it has {len(values)} values where the first line names {len(header)} columns")
                else:
                    yield Row(line, dict(zip(header, values)))
    except csv.Error as error:
        raise UserError(f"{path} cannot be read past line {begun}: {sentences.cause(error)}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read past line {begun}: {sentences.cause(error)}") from None
    finally:
        csv.field_size_limit(longest)


def _lines(path: Path, stream: IO[str]) -> Iterator[str]:
    bounded = rows.Bounded(path, stream, rows.unpacked(path.stat().st_size))
    while line := bounded.read(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise UserError(f"{path} has a line of more than {LONGEST_LINE >> 20} MiB, which no table has")
        yield line


def _check(path: Path, header: list[str]) -> None:
    if not any(name.strip() for name in header):
        raise UserError(f"{path} is empty; its first line must name its columns")
    doubled = [name for name, count in Counter(header).items() if count > 1]
    if doubled:
        raise UserError(f"{path} has two columns that are called {sentences.value(doubled[0])}")


def _json(path: Path) -> Iterator[Row]:
    try:
        with _open(path) as stream:
            largest = min(LARGEST, rows.unpacked(path.stat().st_size))
            text = stream.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {sentences.cause(error)}") from None
    if len(text) > largest:
        raise UserError(f"{path} holds more than {largest:,} bytes, which is too much for one JSON document; use JSON Lines")
    try:
        document = json.loads(text.decode("utf-8-sig"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (at byte {error.start + 1})") from None
    except (ValueError, RecursionError) as error:
        hint = "; one object a line is JSON Lines, and its name must end in .jsonl" if "Extra data" in str(error) else ""
        raise UserError(f"{path} is not valid JSON: {sentences.cause(error)}{hint}") from None
    if not isinstance(document, list):
        raise UserError(
            f"{path} does not hold a list of objects, one for each row, but {_KINDS.get(type(document), 'one value')}"
        )
    for number, values in enumerate(document, 1):
        if not isinstance(values, dict):
            yield Row(number, {}, "not a JSON object")
        elif _DOUBLED in values:
            yield Row(number, {}, f"field {sentences.value(values[_DOUBLED])} occurs twice")
        else:
            yield Row(number, values)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        values[_DOUBLED] = Counter(name for name, _ in pairs).most_common(1)[0][0]
    return values
