"""Problems from JSON Lines and Parquet files. Unusable rows are set aside with file, line and reason."""

import dataclasses
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.problems.settings import Fields, Files
from w2sr_jax.records import Problem

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_META_CHARACTERS = 200  # longer values of other fields are not carried along


class Rejected(NamedTuple):
    """A row set aside: its file, line (or row of a table, from 1), and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.reason}"


@dataclasses.dataclass(frozen=True)
class Quarantine:
    """All rows of one source that were set aside, in order."""

    rows: tuple[Rejected, ...] = ()

    def counts(self) -> dict[str, int]:
        """How many rows for each reason, most frequent first."""
        return dict(Counter(row.reason for row in self.rows).most_common())

    def __len__(self) -> int:
        return len(self.rows)


class Row(NamedTuple):
    """One row of a file: its line (or row of a table, from 1) and either its `values` or the `fault` for which it has none."""

    line: int
    values: Mapping[str, Any]
    fault: str | None = None


class Unusable(Exception):
    """Why a row cannot be used."""


def load(settings: Files) -> tuple[list[Problem], Quarantine]:
    """The problems of a file in order, and the rows set aside.

    An answer field that holds a worked solution ending in `#### N` (GSM8K) gives answer N and, without calculator marks, the
    solution. Short plain values of other fields, the file's name and the line go to `meta`. Raises UserError where the file is
    missing, empty, of another format, damaged, or has no usable row (naming the first reason).
    """
    path = Path(settings.path)
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    for row in rows(path, settings.limit):
        try:
            problems.append(_problem(row, settings, path.name))
        except Unusable as reason:
            rejected.append(Rejected(str(path), row.line, str(reason)))
    if not problems:
        if rejected:
            raise UserError(f"{path} holds no usable problem; first reason, line {rejected[0].line}: {rejected[0].reason}")
        raise UserError(f"{path} is empty; it must hold one problem a line or row")
    return problems, Quarantine(tuple(rejected))


def rows(path: Path, limit: int | None = None) -> Iterator[Row]:
    """The rows of a `.jsonl`, `.jsonl.gz` or `.parquet` file, at most `limit`. Blank lines are no rows.

    Raises UserError where the file is missing, of another format or damaged.
    """
    if limit is not None and limit < 1:
        raise UserError(f"{path}: limit {limit} leaves no rows; give 1 or more, or none")
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


def text_field(row: Row, field: str) -> str:
    """The non-empty text of a field; numbers are spelled out, a list stands for its elements. Raises Unusable."""
    if row.fault is not None:
        raise Unusable(row.fault)
    if field not in row.values:
        raise Unusable(f"field {field!r} is missing")
    text = _spelled(row.values[field])
    if text is None:
        raise Unusable(f"field {field!r} holds {type(row.values[field]).__name__}, not text or a number")
    if not text.strip():
        raise Unusable(f"field {field!r} is empty")
    if _broken(text):
        raise Unusable(f"field {field!r} holds half a surrogate pair, which is no character")
    return text


def _spelled(value: Any) -> str | None:
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
    if isinstance(value, list):
        parts = [_spelled(part) for part in value]
        return ", ".join(part for part in parts if part) if None not in parts else None
    return None


def _problem(row: Row, settings: Files, file: str) -> Problem:
    fields = settings.fields
    question = text_field(row, fields.question).strip()
    answer = text_field(row, fields.answer).strip()
    solution = text_field(row, fields.solution).strip() if fields.solution is not None else None
    if "####" in answer:
        last = answer.rpartition("####")[2]
        if not last.strip():
            raise Unusable(f"field {fields.answer!r} has no answer after its last ####")
        if solution is None:
            solution = _CALCULATOR.sub("", answer)
        answer = last.strip()
    meta: dict[str, Any] = {**_others(row.values, fields), "file": file, "line": row.line}
    if fields.id is not None:
        meta["id"] = text_field(row, fields.id)
    return Problem.of(question, answer, solution, settings.task, meta)


def _others(values: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name in (fields.question, fields.answer, fields.solution, fields.id):
            continue
        text = _spelled(value) if not isinstance(value, (bool, list)) else str(value)
        if value is None or text is None or len(text) > _META_CHARACTERS or _broken(name + text) or isinstance(value, list):
            continue
        kept[name] = value
    return kept


def _broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _json_lines(path: Path) -> Iterator[Row]:
    number = 0
    try:
        with files.open_lines(path) as lines:
            for number, line in enumerate(lines, 1):
                line = line.lstrip("\ufeff").strip()
                if line:
                    yield _json_row(number, line)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read past line {number}: {str(error) or type(error).__name__}") from None


def _json_row(number: int, line: str) -> Row:
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        return Row(number, {}, f"not valid JSON ({error.msg})")
    except (ValueError, RecursionError) as error:
        return Row(number, {}, f"not valid JSON ({type(error).__name__})")
    return Row(number, values) if isinstance(values, dict) else Row(number, {}, "not a JSON object")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as table:
            number = 0
            for batch in table.iter_batches(batch_size=1024):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(number, values)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
