"""Problems from rows of files and data sets. Unusable rows are set aside with source, line and reason."""

import re
from collections.abc import Mapping
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems import sources
from w2sr_jax.problems.choices import choice
from w2sr_jax.problems.rows import Quarantine, Rejected, Row, Unusable, carried, inner, set_aside, text_field
from w2sr_jax.problems.settings import Fields, Files
from w2sr_jax.problems.sources import read_rows
from w2sr_jax.problems.transforms import taken

_CALCULATOR = re.compile(r"<<[^<>\n]*>>")
_JOINED = " + "
_FIELDS = 20  # names of fields that a message about a missing one lists


def load(settings: Files) -> tuple[list[Problem], Quarantine]:
    """The problems of a file or data set in order, and the rows set aside.

    An answer field that holds a worked solution ending in `#### N` (GSM8K) gives answer N and, without calculator marks, the
    solution, unless `fields.answer_by` says what to take of it. With `fields.choices` the question lists the options, the answer
    is a letter, and `meta` has `options` and `permutation`. Short plain values of other fields (or `fields.meta`), the source's
    name and the line go to `meta`. Raises UserError where the source is missing, empty, of another format, damaged, or has no
    usable row (naming the first reason, and the fields that there are where one is missing).
    """
    path, title = settings.path, sources.title(settings.path)
    problems: list[Problem] = []
    rejected: list[Rejected] = []
    known: list[str] = []
    for row in read_rows(path, settings.limit):
        try:
            problems.append(_problem(row, settings, title))
        except Unusable as reason:
            set_aside(rejected, path, row.line, str(reason))
            known = known or [str(name) for name in row.values]
    if not problems:
        if rejected:
            fields = ", ".join(sentences.shown(name, 40) for name in known[:_FIELDS])
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
        made = choice(row, fields, question)
        meta |= {"options": list(made.options), "permutation": list(made.permutation)}
        return Problem.of(made.question, made.answer, solution, settings.task, meta)
    answer = _text(row, fields.answer)
    if fields.answer_by:
        answer = taken(answer, fields.answer_by, fields.answer)
    elif "####" in answer:
        last = answer.rpartition("####")[2]
        if not last.strip():
            raise Unusable(f"field {fields.answer!r} has no answer after its last ####")
        if solution is None:
            solution = _CALCULATOR.sub("", answer)
        answer = last.strip()
    return Problem.of(question, answer, solution, settings.task, meta)


def _text(row: Row, field: str) -> str:
    """The text of a field, or of several that ` + ` joins."""
    if _JOINED not in field or field in row.values:
        return text_field(row, field).strip()
    return " ".join(text_field(row, part.strip()).strip() for part in field.split(_JOINED))


def _others(values: Mapping[str, Any], fields: Fields) -> dict[str, Any]:
    if fields.meta is not None:
        asked = {name: _there(values, name) for name in fields.meta}
        return {name: value for name, value in asked.items() if carried(name, value, float("inf"))}
    used = {fields.answer, fields.solution, fields.id, *fields.question.split(_JOINED), fields.question, *fields.choices}
    return {name: value for name, value in values.items() if name not in used and carried(name, value)}


def _there(values: Mapping[str, Any], name: str) -> Any:
    try:
        return inner(values, name)
    except KeyError:
        return None
