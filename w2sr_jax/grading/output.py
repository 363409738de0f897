"""Write the audit to a file: one row for each text, and one for each row that was set aside."""

import gzip
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.grading.audit import Graded
from w2sr_jax.problems.rows import Rejected

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")
_TEXT, _LONG = pa.string(), pa.int64()
SCHEMA = pa.schema(
    [
        ("line", _LONG),
        ("sample", _LONG),
        ("gold", _TEXT),
        ("kind", _TEXT),
        ("verdict", _TEXT),
        ("answer", _TEXT),
        ("rule", _TEXT),
        ("grader", _TEXT),
        ("second", _TEXT),
        ("second_answer", _TEXT),
        ("label", pa.bool_()),
        ("set_aside", _TEXT),
    ]
)


def check(path: Path, read: str) -> None:
    """Raises UserError where the file cannot be written, or is the file `read` that is graded."""
    if not path.name.lower().endswith(SUFFIXES):
        raise UserError(f"--out {path}: unknown kind of file; its name must end in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if path.is_dir():
        raise UserError(f"--out {path} is a directory; name a file in it")
    there = next((folder for folder in path.absolute().parents if folder.exists()), path.absolute().parent)
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"--out {path} cannot be written: {there} is no directory that you may write")
    if path.exists() and Path(read).exists() and path.samefile(read):
        raise UserError(f"--out {path} is the file that is graded; give another name")


def write(path: Path, rows: Sequence[Graded], rejected: Sequence[Rejected]) -> None:
    """Write the rows in the order of their lines; the file is complete or not there."""
    records = sorted([*_graded(rows), *_set_aside(rejected)], key=lambda row: (row["line"], row["sample"] or 0))
    with files.replacing(path) as temporary:
        if path.name.lower().endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(records, schema=SCHEMA), temporary, compression="zstd")
            return
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in records)
        if path.name.lower().endswith(".gz"):
            with gzip.open(temporary, "wt", encoding="utf-8") as packed:
                packed.writelines(lines)
        else:
            with open(temporary, "w", encoding="utf-8") as plain:
                plain.writelines(lines)


def _graded(rows: Sequence[Graded]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {
            "line": row.item.line,
            "sample": row.item.sample,
            "gold": row.item.problem.answer,
            "kind": row.kind,
            "verdict": row.verdict.verdict,
            "answer": row.verdict.answer,
            "rule": row.verdict.rule,
            "grader": row.verdict.grader,
            "second": row.other.verdict,
            "second_answer": row.other.answer,
            "label": row.item.label,
            "set_aside": None,
        }


def _set_aside(rejected: Sequence[Rejected]) -> Iterator[dict[str, Any]]:
    for row in rejected:
        yield {**dict.fromkeys(SCHEMA.names), "line": row.line, "set_aside": row.reason}
