"""The rows of a file of recorded traces: which fields they have, and what each of them holds, or why it cannot be used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Finish
from w2sr_jax.problems.datasets import read_rows
from w2sr_jax.problems.rows import Rejected, Row, Unusable, belongs_in_meta, field_value, set_aside, text_field
from w2sr_jax.teachers import finish_columns, reasoning_columns, shapes, thoughts
from w2sr_jax.teachers.reasoning_columns import ReasoningColumns
from w2sr_jax.teachers.shapes import Shape

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Recorded

_FIELDS = 20  # names of fields that a message about a missing one lists
_SAMPLES = 2**31  # sample numbers are 32-bit


class RecordedTrace(NamedTuple):
    """One trace of a row, with the row's other fields that belong to it."""

    line: int
    question: str
    trace: str
    gold: str | None
    sample: int | None
    finish: Finish
    meta: dict[str, Any]


class _Reading(NamedTuple):
    """How a file's rows are read: their shape, their columns of reasoning, and the column that says how traces ended."""

    shape: Shape
    reasoning: ReasoningColumns
    finish: str | None


class Rows(NamedTuple):
    """What a file holds: its traces, the quarantined rows, the shape of its rows, and notes on what was done with columns of
    reasoning, with the number of rows of each."""

    traces: list[RecordedTrace]
    quarantine: list[Rejected]
    shape: Shape
    notes: Counter[str]


def read(settings: Recorded, most: int | None = None) -> Rows:
    """The rows of a teacher's file, or the first `most` of them. Raises `UserError` where the file, a field or every row is
    missing, and where the file can be read in several ways."""
    rows: list[RecordedTrace] = []
    quarantine: list[Rejected] = []
    source = islice(read_rows(settings.path), most)
    head = list(islice(source, shapes.HEAD))
    shape = shapes.recognise(settings, head)
    reading = _reading(settings, shape, [row.values for row in head if row.fault is None])
    notes: Counter[str] = Counter()
    wanted = _named(settings, shape)
    fields: dict[str, None] = {}
    seen: Counter[str] = Counter()
    question_of: dict[str, str] = {}
    sound = 0
    for raw in chain(head, source):
        if settings.limit is not None and sound >= settings.limit:
            break
        try:
            fields.update(
                dict.fromkeys(name for at, name in enumerate(raw.values, len(fields)) if name in wanted or at < _FIELDS)
            )
            looked = [*wanted, settings.reasoning] if settings.reasoning else wanted
            fields.update(dict.fromkeys(name for name in looked if _value(raw, name) is not None))
            if raw.fault is None and not _wanted(settings, raw, seen):
                continue
            traces, faults, noted = _read(settings, reading, raw)
            if settings.id is not None:
                identity = str(traces[0].meta["source_id"])
                question = " ".join(traces[0].question.split())
                if question_of.setdefault(identity, question) != question:
                    raise Unusable(f"its id {sentences.value(identity)} belongs to another question")
            rows += traces
            sound += 1
            notes.update(noted)
            for fault in faults:
                set_aside(quarantine, settings.path, raw.line, fault)
        except Unusable as bad:
            set_aside(quarantine, settings.path, raw.line, str(bad))
    if not rows:
        raise UserError(_nothing(settings, shape, quarantine, list(fields), seen))
    if settings.reasoning and settings.reasoning not in fields:
        shown = ", ".join(sentences.shown(name, 40) for name in fields)
        raise UserError(f"{settings.path} has no field {settings.reasoning!r}; its fields are {shown}")
    return Rows(rows, quarantine, shape, notes)


def _reading(settings: Recorded, shape: Shape, head: Sequence[Mapping[str, Any]]) -> _Reading:
    own = (*shape.fields, settings.id, settings.sample, *settings.meta, *(name for name, _ in settings.where))
    taken = [part for name in own if name for part in (name, name.partition(".")[0])]
    if shape.gold:
        taken.append(shape.gold)
    finish = finish_columns.find(head, taken) if settings.finish is None else settings.finish or None
    return _Reading(shape, reasoning_columns.find(head, settings.reasoning, [*taken, *([finish] if finish else [])]), finish)


def _nothing(settings: Recorded, shape: Shape, quarantine: Sequence[Rejected], fields: Sequence[str], seen: Counter[str]) -> str:
    if not fields and not quarantine:
        return f"{settings.path} is empty"
    missing = [name for name in _named(settings, shape) if name not in fields]
    if fields and missing:
        names = ", ".join(sentences.shown(name, 40) for name in fields)
        return f"{settings.path} has no field {missing[0]!r}; its fields are {names}"
    if not quarantine:
        asked = " and ".join(f"{field} = {value!r}" for field, value in settings.where)
        names = ", ".join(name for name, _ in seen.most_common(5)) or "no such field"
        return f"{settings.path} has no row with {asked}; it has {names}"
    first = quarantine[0]
    return f"{settings.path} has no usable row: all {len(quarantine)} were rejected, line {first.line} because {first.reason}"


def _named(settings: Recorded, shape: Shape) -> list[str]:
    """The fields that the rows must have."""
    return [*shape.fields, *(name for name in (settings.id, settings.sample, settings.finish) if name)]


def _wanted(settings: Recorded, raw: Row, seen: Counter[str]) -> bool:
    """Whether a row passes `where`; its values are counted in `seen`."""
    passed = True
    for field, wanted in settings.where:
        value = _value(raw, field)
        plain = None if value is None and field not in raw.values else _written(value)
        seen[f"{field} = {sentences.value(plain, 40)}"] += 1
        passed = passed and plain == wanted
    return passed


def _read(settings: Recorded, reading: _Reading, raw: Row) -> tuple[list[RecordedTrace], list[str], list[str]]:
    """A row's traces, at least one; the reasons why others of the same row cannot be used; notes on what was done with its
    reasoning. Raises Unusable."""
    question, bare, notes = shapes.read(reading.shape, raw)
    question = _stripped(question, settings.strip)
    gold = shapes.gold_of(reading.shape, raw)
    traces, noted = reading.reasoning.prepend(raw.values, bare)
    notes += noted
    sample = None
    if settings.sample is not None:
        sample = _value(raw, settings.sample)
        if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < _SAMPLES:
            raise Unusable(f"field {settings.sample!r} is not a sample number (0, 1, …)")
    asked = {name: _value(raw, name) for name in settings.meta}
    meta = {name: value for name, value in asked.items() if belongs_in_meta(name, value, math.inf)}
    if settings.id is not None:
        meta["source_id"] = text_field(raw, settings.id)
    finishes: list[Finish] = ["stop"] * len(traces)
    if reading.finish is not None and (settings.finish is not None or _value(raw, reading.finish) is not None):
        finishes = finish_columns.finishes(raw.values, reading.finish, len(traces))
        notes.append(f"how it ended is read in column {sentences.value(reading.finish, 40)}")
    silent = [isinstance(trace, str) and thoughts.unanswered(trace) for trace in traces]
    if any(silent):
        finishes = ["length" if bare else finish for bare, finish in zip(silent, finishes, strict=True)]
        notes.append("trace of thoughts without an answer, which counts as not finished")
    rows = [
        RecordedTrace(raw.line, question, trace, gold, sample, finish, meta)
        for trace, finish in zip(traces, finishes, strict=True)
        if isinstance(trace, str)
    ]
    faults = [str(trace) for trace in traces if not isinstance(trace, str)]
    if not rows:
        raise Unusable(faults[0] if len(faults) == 1 else f"none of its {len(faults)} traces can be used: {faults[0]}")
    return rows, faults, notes


def _stripped(question: str, affixes: Sequence[str]) -> str:
    """A question without the texts `affixes` before and behind it. Raises Unusable where nothing is left."""
    rest = question
    for affix in affixes:
        rest = rest.removeprefix(affix.strip()).removesuffix(affix.strip()).strip()
    if not rest:
        raise Unusable("its question is nothing but what strip takes off")
    return rest


def _value(raw: Row, name: str) -> Any:
    """A field's value; None where it is missing."""
    try:
        return field_value(raw.values, name)
    except KeyError:
        return None


def _written(value: Any) -> str:
    """A value as it is written in `where`."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else sentences.value(value)
