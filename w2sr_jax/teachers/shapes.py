"""The shapes in which traces are recorded: recognised by a file's first rows, and read row by row.

columns      question and trace; also question, problem or query and trace, response, generations or generated_solution
messages     messages or conversations: turns with role and content, or from and value
prompt       prompt and completion or response: texts, or lists of messages
instruction  instruction, input and output, LLaMA-Factory's
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from w2sr_jax.answers.extract import extract
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.rows import Row, Unusable, field_value, text_field
from w2sr_jax.teachers import dialogue

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Recorded, ShapeName

HEAD = 100
"""Rows by which the shape of a file is recognised."""

_QUESTIONS = ("question", "problem", "query")
_TRACES = ("trace", "response", "generations", "generated_solution")
_MESSAGES = ("messages", "conversations")
_COMPLETIONS = ("completion", "response")
_GOLDS = ("gold", "answer", "expected_answer", "solution")
_SOLUTION = "solution"  # a worked solution: only what it marks as its answer is gold
_MEDIA = ("image", "images", "video", "videos", "audio", "audios")


class Shape(NamedTuple):
    """How the rows of a file are read. `question` and `trace` are names of fields (of one, for messages); `named`: they are
    columns that the settings name; `must`: every row has the field `gold`; `many`: a row holds a list of traces."""

    kind: ShapeName
    question: str
    trace: str
    gold: str | None = None
    named: bool = False
    must: bool = False
    many: bool = False

    def __str__(self) -> str:
        """For reports: `prompt (prompt, completion)`."""
        fields = dict.fromkeys((self.question, self.trace))
        about = f"{self.kind} ({', '.join(sentences.shown(name, 40) for name in fields)})"
        return f"{about}, several traces a row" if self.many else about

    @property
    def fields(self) -> list[str]:
        """The fields that a row must have."""
        return list(dict.fromkeys((self.question, self.trace, *((self.gold,) if self.gold and self.must else ()))))


def recognise(settings: Recorded, head: Sequence[Row]) -> Shape:
    """The shape of a file whose first rows these are; what the settings name comes first.

    Names other than the defaults are names of columns, unless `shape` says otherwise. `UserError` where two shapes fit the rows
    equally well, naming them and the settings that decide.
    """
    rows = [row.values for row in head[:HEAD] if row.fault is None]
    named = Shape("columns", settings.question, settings.trace, settings.gold, named=True, must=True)
    if settings.shape in ("auto", "columns") and (any(_renamed(settings)) or any(_has(values, named) for values in rows)):
        return _completed(named, settings, rows)
    counts = Counter(shape for values in rows for shape in _candidates(values, settings))
    most = max(counts.values(), default=0)
    best = [shape for shape, count in counts.items() if count == most]
    if len(best) > 1:
        ways = "; ".join(f"{_decision(shape, best, settings, rows)} for {shape}" for shape in best)
        raise UserError(f"{settings.path} can be read in {len(best)} ways: set {ways}")
    return _completed(best[0] if best else _expected(settings), settings, rows)


def read(shape: Shape, row: Row) -> tuple[str, list[str | Unusable], list[str]]:
    """A row's question, its traces (of several some may be unusable), and notes on what was done with reasoning that messages
    hold beside their text. Raises Unusable."""
    if row.fault is not None:
        raise Unusable(row.fault)
    values = row.values
    if not shape.named:
        _check(shape, values)
    if shape.kind == "messages":
        turns = dialogue.turns(_value(row, shape.trace), shape.trace)
        question, trace = dialogue.exchange(turns)
        return question, [trace], [turn.note for turn in turns if turn.note]
    question = _question(shape, row)
    value = _value(row, shape.trace)
    if not shape.many:
        trace, notes = _one(shape, row, value)
        return question, [trace], notes
    if not isinstance(value, list):
        raise Unusable(f"field {shape.trace!r} holds {type(value).__name__} where other rows hold lists of traces")
    if not value:
        raise Unusable(f"field {shape.trace!r} is an empty list")
    traces: list[str | Unusable] = []
    for number, part in enumerate(value):
        try:
            traces.append(_text(part, f"trace {number} of field {shape.trace!r}"))
        except Unusable as bad:
            traces.append(bad)
    return question, traces, []


def gold_of(shape: Shape, row: Row) -> str | None:
    """A row's gold answer: what follows the last `####`, else the whole field; of a field `solution` that the settings do not
    name, the answer that it marks by `####` or a box. Raises Unusable."""
    if shape.gold is None or _field_or(row.values, shape.gold, "" if shape.must else None) is None:
        return None
    text = text_field(row, shape.gold)
    if shape.gold == _SOLUTION and not shape.must:
        extracted = extract(text)
        return extracted.answer if extracted.rule in ("####", "boxed") else None
    return text.rpartition("####")[2].strip() or None


def _question(shape: Shape, row: Row) -> str:
    if shape.kind == "prompt":
        return dialogue.only_question(dialogue.turns_or_text(_value(row, shape.question), shape.question, "user"))
    text = _field(row, shape.question)
    more = _field_or(row.values, "input") if shape.kind == "instruction" else None
    if more is None or more == "":
        return text
    return f"{text}\n" + _text(more, "field 'input'")


def _one(shape: Shape, row: Row, value: Any) -> tuple[str, list[str]]:
    """The trace of a row that holds one, and notes on what was done with reasoning in messages."""
    if shape.kind == "prompt":
        prompt = dialogue.turns_or_text(_value(row, shape.question), shape.question, "user")
        turns = [*prompt, *dialogue.turns_or_text(value, shape.trace, "assistant")]
        return dialogue.exchange(turns)[1], [turn.note for turn in turns if turn.note]
    return _field(row, shape.trace), []


def _check(shape: Shape, values: Mapping[str, Any]) -> None:
    """Raises Unusable for a row of another shape, and for images, sound and dialogues of several turns."""
    if not _has(values, shape):
        others = [one for one in _usual(values) if one.kind != shape.kind]
        if others:
            raise Unusable(f"it has the shape {others[0]}, where the first rows have {shape}")
    media = next((name for name in _MEDIA if _field_or(values, name)), None)
    if media is not None:
        raise Unusable(f"field {media!r} holds more than text")
    if shape.kind == "instruction" and _field_or(values, "history"):
        raise Unusable("field 'history' makes it a dialogue of several turns")


def _field(row: Row, name: str) -> str:
    text = text_field(row, name).strip()
    if not isinstance(field_value(row.values, name), str):
        raise Unusable(f"field {name!r} is not text")
    return text


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"{what} is not text")
    return dialogue.checked(value, what)


def _value(row: Row, name: str) -> Any:
    """A field's value, whatever it is. Raises Unusable where there is none."""
    try:
        return field_value(row.values, name)
    except KeyError:
        raise Unusable(f"field {name!r} is missing") from None


def _field_or(values: Mapping[str, Any], name: str, otherwise: Any = None) -> Any:
    try:
        return field_value(values, name)
    except KeyError:
        return otherwise


def _has(values: Mapping[str, Any], shape: Shape) -> bool:
    return _field_or(values, shape.question) is not None and _field_or(values, shape.trace) is not None


def _usual(values: Mapping[str, Any]) -> list[Shape]:
    """The shapes that a row's fields allow under the usual names."""
    present = {name for name in (*_QUESTIONS, *_TRACES) if values.get(name) is not None}
    columns = [Shape("columns", q, t) for q in _QUESTIONS if q in present for t in _TRACES if t in present]
    messages = [Shape("messages", name, name) for name in _MESSAGES if isinstance(values.get(name), list | dict)]
    prompts = [Shape("prompt", "prompt", name) for name in _COMPLETIONS]
    instruction = Shape("instruction", "instruction", "output")
    return [*columns, *messages, *(one for one in (*prompts, instruction) if _has(values, one))]


def _candidates(values: Mapping[str, Any], settings: Recorded) -> list[Shape]:
    """The shapes that a row's fields and the settings allow."""
    if any(_renamed(settings)):
        expected = _expected(settings)
        return [expected] if _has(values, expected) else []
    return [shape for shape in _usual(values) if settings.shape in ("auto", shape.kind)]


def _expected(settings: Recorded) -> Shape:
    """The shape that is asked for, where rows do not show it."""
    question, trace = _renamed(settings)
    if settings.shape == "messages":
        name = trace or question or _MESSAGES[0]
        return Shape("messages", name, name)
    if settings.shape == "prompt":
        return Shape("prompt", question or "prompt", trace or _COMPLETIONS[0])
    if settings.shape == "instruction":
        return Shape("instruction", question or "instruction", trace or "output")
    return Shape("columns", settings.question, settings.trace, settings.gold, named=True, must=True)


def _renamed(settings: Recorded) -> tuple[str | None, str | None]:
    """The names of fields that the settings give beside the defaults."""
    asked = None if settings.question == _default(settings).question else settings.question
    return asked, None if settings.trace == _default(settings).trace else settings.trace


def _completed(shape: Shape, settings: Recorded, rows: Sequence[Mapping[str, Any]]) -> Shape:
    """The shape with the field of the gold answer, and with whether rows hold lists of traces."""
    values = [_field_or(row, shape.trace) for row in rows]
    lists, texts = sum(map(_list_of_texts, values)), sum(isinstance(value, str) for value in values)
    # Under the usual name a list among texts is a broken row, however many there are.
    many = lists > texts and (texts == 0 or shape.trace != _default(settings).trace)
    if shape.named:
        return shape._replace(many=many)
    own_gold = settings.gold != _default(settings).gold
    gold = settings.gold if own_gold else _gold(rows)
    return shape._replace(gold=gold, must=own_gold, many=many and shape.kind != "messages")


def _gold(rows: Sequence[Mapping[str, Any]]) -> str | None:
    return next((name for name in _GOLDS if any(_field_or(row, name) is not None for row in rows)), None)


def _list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) for part in value)


def _decision(shape: Shape, among: Sequence[Shape], settings: Recorded, rows: Sequence[Mapping[str, Any]]) -> str:
    """The settings by which a file is read in one shape rather than in the others `among` them, in words."""
    if shape.kind == "columns":
        gold = _gold(rows) if settings.gold == _default(settings).gold else settings.gold
        return f"question = {shape.question!r}, trace = {shape.trace!r}, gold = {None if gold == _SOLUTION else gold!r}"
    alone = sum(other.kind == shape.kind for other in among) == 1
    return f"shape = {shape.kind!r}" + ("" if alone else f", trace = {shape.trace!r}")


def _default(settings: Recorded) -> Recorded:
    """Settings of the same type with all fields at their defaults."""
    return type(settings)()
