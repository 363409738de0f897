"""Problems from JSON Lines and Parquet files. Unusable rows are set aside with file, line and reason."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax import sentences
from w2sr_jax.errors import UserError
from w2sr_jax.problems.rows import Quarantine, Rejected, Row, Unusable, carried, read_rows, set_aside, text_field
from w2sr_jax.problems.settings import Fields, Files
from w2sr_jax.records import Problem

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")


def load(settings: Files) -> tuple[list[Problem], Quarantine]:
    """The problems of a file in order, and the rows set aside.

    An answer field that holds a worked solution ending in `#### N` (GSM8K) gives answer N and, without calculator marks, the
    solution. Short plain values of other fields, the file's name and the line go to `meta`. Raises UserError where the file is
    missing, empty, of another format, damaged, or has no usable row (naming the first reason).
    """
    path = Path(settings.path)
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    for row in read_rows(path, settings.limit):
        try:
            problems.append(_problem(row, settings, sentences.printable(path.name)))
        except Unusable as reason:
            set_aside(rejected, str(path), row.line, str(reason))
    if not problems:
        if rejected:
            raise UserError(f"{path} holds no usable problem; first reason, line {rejected[0].line}: {rejected[0].reason}")
        raise UserError(f"{path} is empty; it must hold one problem a line or row")
    return problems, Quarantine(tuple(rejected))


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
    used = (fields.question, fields.answer, fields.solution, fields.id)
    return {name: value for name, value in values.items() if name not in used and carried(name, value)}
