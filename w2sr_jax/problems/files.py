"""Problems from the rows of files and data sets. Rows that are none are set aside with source, line and reason."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from w2sr_jax.answers.extract import extract, tidy
from w2sr_jax.answers.reading.boxes import filled
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems import datasets
from w2sr_jax.problems.choices import multiple_choice
from w2sr_jax.problems.datasets import read_rows
from w2sr_jax.problems.rows import Quarantine, Rejected, Row, Unusable, belongs_in_meta, field_value, set_aside, text_field

if TYPE_CHECKING:
    from w2sr_jax.problems.settings import Fields, Files, Transform

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_JOINED = " + "
_FIELDS = 20  # names of fields that a message about a missing one lists


def load(settings: Files) -> tuple[list[Problem], Quarantine]:
    """The problems of a file or data set in order, and the rows set aside.

    An answer field with a worked solution that ends in `#### N` (GSM8K) gives the answer N and, without calculator marks, the
    solution, unless `fields.answer_by` says otherwise. With `fields.choices` the question lists the options, the answer is a
    letter, and `meta` has `options` and `permutation`. `meta` also has the source's name (`file`), the `line`, and the fields
    that `fields.meta` names, or else all other fields with short plain values. Raises UserError where the source is missing,
    empty, of another format or damaged, or has no usable row; the message states the first reason, and the names of all fields
    where one is missing.
    """
    path, title = settings.path, datasets.title(settings.path)
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    names: list[str] = []
    for row in read_rows(path, settings.limit):
        try:
            problems.append(_problem(row, settings, title))
        except Unusable as reason:
            set_aside(rejected, path, row.line, str(reason))
            names = names or [str(name) for name in row.values]
    if not problems:
        if rejected:
            fields = ", ".join(sentences.shown(name, 40) for name in names[:_FIELDS])
            there = f"; its fields are {fields}" if fields and "is missing" in rejected[0].reason else ""
            raise UserError(f"{path} holds no usable problem; first reason, line {rejected[0].line}: {rejected[0].reason}{there}")
        raise UserError(f"{path} is empty; it must hold one problem a line or row")
    return problems, Quarantine(tuple(rejected))


def _problem(row: Row, settings: Files, source: str) -> Problem:
    fields = settings.fields
    question = _text(row, fields.question)
    solution = _text(row, fields.solution) if fields.solution is not None else None
    meta: dict[str, Any] = {**_others(row.values, fields), "file": source, "line": row.line}
    if fields.id is not None:
        meta["id"] = text_field(row, fields.id)
    if fields.choices:
        item = multiple_choice(row, fields, question)
        meta |= {"options": list(item.options), "permutation": list(item.permutation)}
        return Problem.of(item.question, item.answer, solution, settings.task, meta)
    answer = _text(row, fields.answer)
    if fields.answer_by:
        answer = transformed(answer, fields.answer_by, fields.answer)
    elif "####" in answer:
        last = answer.rpartition("####")[2]
        if not last.strip():
            raise Unusable(f"field {fields.answer!r} has no answer after its last ####")
        if solution is None:
            solution = _CALCULATOR.sub("", answer)
        answer = last.strip()
    return Problem.of(question, answer, solution, settings.task, meta)


def _text(row: Row, field: str) -> str:
    """The text of a field, or of several whose names are joined by ` + `."""
    if _JOINED not in field or field in row.values:
        return text_field(row, field).strip()
    return " ".join(text_field(row, part.strip()).strip() for part in field.split(_JOINED))


def _others(values: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    if fields.meta is not None:
        asked = {name: _inner_or_none(values, name) for name in fields.meta}
        return {name: value for name, value in asked.items() if belongs_in_meta(name, value, float("inf"))}
    used = {fields.answer, fields.solution, fields.id, *fields.question.split(_JOINED), fields.question, *fields.choices}
    return {name: value for name, value in values.items() if name not in used and belongs_in_meta(name, value)}


def _inner_or_none(values: Mapping[str, Any], name: str) -> Any:
    try:
        return field_value(values, name)
    except KeyError:
        return None


def transformed(text: str, by: Sequence[Transform], field: str) -> str:
    """A field's text after the transforms `by`, one after another. Raises Unusable where one of them gives nothing."""
    for step in by:
        part = _transformed(text, step)
        if part is None or not part.strip():
            raise Unusable(f"field {field!r} {_LACKS[step]}")
        text = part.strip()
    return text


_LACKS: dict[Transform, str] = {
    "hashes": "has no answer after a ####",
    "boxed": "has no answer in a \\boxed{}",
    "last_line": "has no line",
    "extract": "has nothing that reads as a final answer",
    "tidy": "holds delimiters and nothing else",
}


def _transformed(text: str, step: Transform) -> str | None:
    match step:
        case "hashes":
            return text.rpartition("####")[2] if "####" in text else None
        case "boxed":
            boxes = filled(text)
            return boxes[-1].content if boxes else None
        case "last_line":
            return text.strip().splitlines()[-1] if text.strip() else None
        case "extract":
            return extract(text).answer
        case "tidy":
            return tidy(text)
