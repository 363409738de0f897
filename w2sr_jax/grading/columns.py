"""Read the rows of a file as texts with their gold answers and labels. Unusable rows are set aside with line and reason."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.problems.documents import read_rows
from w2sr_jax.problems.rows import Rejected, Row, Unusable, field_value, set_aside, text_field
from w2sr_jax.teachers import dialogue

_FIELDS = 30  # names of columns that a message lists
_LABELS = {
    **dict.fromkeys(("true", "1", "correct", "right", "yes", "equal", "pass", "passed"), True),
    **dict.fromkeys(("false", "0", "incorrect", "wrong", "no", "unequal", "fail", "failed"), False),
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The names of the columns; `a.b` and `a.0` name values within values."""

    gold: str
    """The gold answer, or a worked solution that marks it by `####` or a box."""
    text: str
    """The text to grade, a list of such texts, or the messages of a dialogue with one answer."""
    label: str | None = None
    """The verdict of somebody else: true or false, 1 or 0, correct or incorrect."""
    question: str | None = None
    """The question, which graders may read."""
    solution: str | None = None
    """The worked solution, from which `MathGrader` sees whether gold is one of several boxes."""
    options: str | None = None
    """The options of a multiple choice question, for `ChoiceGrader`."""


class Item(NamedTuple):
    """One text to grade. `line` is its row's, from 1; `sample` its index among the texts of the row, None where that has one."""

    line: int
    sample: int | None
    text: str
    problem: Problem
    label: bool | None


class Items(NamedTuple):
    """The texts of a file in order, the number of its rows, and the rows that were set aside."""

    items: list[Item]
    rows: int
    rejected: list[Rejected]


def read(path: str, columns: Columns, limit: int | None = None) -> Items:
    """The texts of a file or data set (`datasets.read_rows`, `documents.read_rows`).

    A row is set aside where its text or gold is missing or its label cannot be read. An empty text is a text without an answer,
    and a row need not have a label. Raises UserError where the file cannot be read, has no rows, lacks a column in all of them,
    or has no usable row.
    """
    items: list[Item] = []
    rejected: list[Rejected] = []
    rows, names, missing = 0, dict[str, None](), _wanted(columns)
    for row in read_rows(path, limit):
        rows += 1
        if len(names) < _FIELDS:
            names.update(dict.fromkeys(map(str, row.values)))
        missing = {name: role for name, role in missing.items() if not _has(row.values, name)}
        try:
            items += _items(row, columns)
        except Unusable as bad:
            set_aside(rejected, path, row.line, str(bad))
    if not rows:
        raise UserError(f"{path} is empty; it must hold one object or row a line")
    if missing and names:
        name, role = next(iter(missing.items()))
        raise UserError(f"{path} has no column {sentences.value(name)} ({role}); {_columns_there(name, list(names))}")
    if not items:
        first = rejected[0]
        raise UserError(
            f"{path} has no usable row: all {len(rejected):,} are set aside, line {first.line} because {first.reason}"
        )
    return Items(items, rows, rejected)


def _wanted(columns: Columns) -> dict[str, str]:
    named = {field.name: getattr(columns, field.name) for field in dataclasses.fields(columns)}
    return {name: f"--{role}" for role, name in reversed(named.items()) if name is not None}


def _columns_there(name: str, names: Sequence[str]) -> str:
    shown = ", ".join(sentences.shown(one, 40) for one in names[:_FIELDS])
    near = difflib.get_close_matches(name, names, 1)
    return f"did you mean {sentences.value(near[0])}? Its columns are {shown}" if near else f"its columns are {shown}"


def _has(values: Mapping[str, Any], name: str) -> bool:
    try:
        field_value(values, name)
    except KeyError:
        return False
    return True


def _items(row: Row, columns: Columns) -> Iterator[Item]:
    gold = text_field(row, columns.gold).strip()
    meta = {} if columns.options is None else {"options": _options(row, columns.options)}
    question = "" if columns.question is None else text_field(row, columns.question)
    solution = None if columns.solution is None else text_field(row, columns.solution)
    texts = _texts(row, columns.text)
    labels = _labels(row, columns.label, None if isinstance(texts, str) else len(texts))
    problem = Problem.of(question, gold, solution, "", meta)
    if isinstance(texts, str):
        return iter([Item(row.line, None, texts, problem, labels[0])])
    return iter([Item(row.line, number, text, problem, label) for number, (text, label) in enumerate(zip(texts, labels))])


def _texts(row: Row, name: str) -> str | list[str]:
    value = _value(row, name)
    if isinstance(value, str):
        return _sound(value, name)
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return [_sound(part, name) for part in value]
    if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
        turns = dialogue.turns(value, name)
        answers = [turn.text for turn in turns if turn.role == "assistant"]
        if len(answers) != 1:
            raise Unusable(f"field {name!r} holds a dialogue with {len(answers)} answers, not one")
        return _sound(answers[0], name)
    if value is None or isinstance(value, list | dict):
        raise Unusable(f"field {name!r} holds no text")
    return text_field(row, name)


def _value(row: Row, name: str) -> Any:
    if row.fault is not None:
        raise Unusable(row.fault)
    try:
        return field_value(row.values, name)
    except KeyError:
        raise Unusable(f"field {name!r} is missing") from None


def _sound(text: str, name: str) -> str:
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise Unusable(f"field {name!r} holds half a surrogate pair, which is no character")
    return text


def _labels(row: Row, name: str | None, several: int | None) -> list[bool | None]:
    if name is None or not _has(row.values, name):
        return [None] * (several or 1)
    value = _value(row, name)
    if several is None or not isinstance(value, list):
        return [_label(value, name)] * (several or 1)
    if len(value) != several:
        raise Unusable(f"field {name!r} holds {len(value)} labels for {several} texts")
    return [_label(one, name) for one in value]


def _label(value: Any, name: str) -> bool | None:
    if value is None or value == "":
        return None
    spelt = str(int(value)) if isinstance(value, float) and value in (0, 1) else str(value)
    label = _LABELS.get(spelt.strip().lower()) if isinstance(value, bool | int | float | str) else None
    if label is None:
        raise Unusable(f"field {name!r} holds {sentences.value(value, 40)}, which says neither correct nor incorrect")
    return label


def _options(row: Row, name: str) -> list[str]:
    value = _value(row, name)
    if isinstance(value, dict) and "text" in value:  # as in ARC: {"label": […], "text": […]}
        value = value["text"]
    value = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(option, str | int | float) for option in value):
        raise Unusable(f"field {name!r} holds no list of options")
    return [str(option) for option in value]
