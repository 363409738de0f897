"""Recorded traces: read, checked row by row, and matched to problems."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from w2sr_jax import sentences
from w2sr_jax.answers.numbers import number
from w2sr_jax.errors import UserError
from w2sr_jax.problems import sources
from w2sr_jax.problems.rows import Rejected, Row, Unusable, carried, inner, set_aside, text_field
from w2sr_jax.problems.sources import read_rows
from w2sr_jax.records import Finish, Problem, Trace
from w2sr_jax.teachers import shapes
from w2sr_jax.teachers.settings import Recorded
from w2sr_jax.teachers.shapes import Shape

_FIELDS = 20  # names of fields that a message about a missing one lists
_SAMPLES = 2**31  # sample numbers are 32-bit


class Loaded(NamedTuple):
    """What a file held: problems in the order of their first trace, ungraded traces, rows left out, the number of sound traces
    whose question is not among the problems that were asked for, and how the rows were read, in words."""

    problems: list[Problem]
    traces: list[Trace]
    quarantine: list[Rejected]
    unmatched: int
    shape: str = ""


class _Row(NamedTuple):
    line: int
    question: str
    trace: str
    gold: str | None
    sample: int | None
    finish: Finish
    meta: dict[str, Any]


def load(settings: Recorded, problems: Sequence[Problem] | None = None) -> Loaded:
    """Read the traces of one teacher; without `problems` the file brings its own.

    Problems are matched by question, whitespace aside. A question that occurs with two golds is quarantined with all its rows, as
    is a row whose gold contradicts the given problem's. Traces are ungraded and, without `finish`, count as finished; a repeated
    (problem, sample) gets the next free number. Raises `UserError` where the file, a field or every row is missing, and where the
    file can be read in several ways.
    """
    if not settings.path:
        raise UserError(
            f"teacher {settings.name!r} has no path; give a file of recorded traces (.jsonl, .jsonl.gz or .parquet) or a data "
            "set (hf:NAME, tfds:NAME)"
        )
    name = sources.title(settings.path)
    rows, quarantine, shape = _rows(settings)
    golds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.gold is not None:
            golds[_question_key(row.question)].add(_gold_key(row.gold))
    known: dict[str, Problem] = {}
    for problem in problems or ():
        known.setdefault(_question_key(problem.question), problem)
    used: dict[str, Problem] = {}
    taken: dict[str, set[int]] = defaultdict(set)
    traces = []
    unmatched = 0
    first_gold = {_question_key(row.question): row.gold for row in reversed(rows) if row.gold is not None}
    for row in rows:
        key = _question_key(row.question)
        if len(golds[key]) > 1:
            set_aside(quarantine, settings.path, row.line, "the question occurs with different gold answers")
            continue
        if problems is None:
            problem = used.get(key) or Problem.of(row.question, first_gold.get(key), None, settings.task, row.meta)
        elif key not in known:
            unmatched += 1
            continue
        else:
            problem = known[key]
            if row.gold is not None and problem.answer is not None and _gold_key(row.gold) != _gold_key(problem.answer):
                given, known_gold = sentences.value(row.gold), sentences.value(problem.answer)
                set_aside(quarantine, settings.path, row.line, f"its gold answer {given} contradicts the problem's, {known_gold}")
                continue
        used[key] = problem
        sample = _free(taken[problem.id], row.sample)
        traces.append(_trace(settings.name, problem.id, sample, row, f"{name}:{row.line}"))
    quarantine.sort(key=lambda bad: bad.line)
    return Loaded(list(used.values()), traces, quarantine, unmatched, str(shape))


def load_all(teachers: Sequence[Recorded]) -> Loaded:
    """The files of several teachers, with the union of their problems; a question is one problem in all of them.

    Where files disagree about a question's gold, all their rows of that question are quarantined.
    """
    loaded = [load(teacher) for teacher in teachers]
    golds: dict[str, set[str]] = defaultdict(set)
    for found in loaded:
        for problem in found.problems:
            if problem.answer is not None:
                golds[_question_key(problem.question)].add(_gold_key(problem.answer))
    problems: dict[str, Problem] = {}
    for found in loaded:
        for problem in found.problems:
            key = _question_key(problem.question)
            if len(golds[key]) <= 1 and (key not in problems or problems[key].answer is None):
                problems[key] = problem
    agreed = list(problems.values())
    traces: list[Trace] = []
    quarantine: list[Rejected] = []
    for teacher, found in zip(teachers, loaded, strict=True):
        again = load(teacher, agreed)
        traces += again.traces
        quarantine += again.quarantine
        lines = {trace.provenance for trace in again.traces}
        for provenance in dict.fromkeys(trace.provenance for trace in found.traces):
            if provenance not in lines:
                line = int(provenance.rpartition(":")[2])
                set_aside(quarantine, teacher.path, line, "the question has another gold answer in another file")
    read_as = "; ".join(f"{teacher.name}: {found.shape}" for teacher, found in zip(teachers, loaded, strict=True))
    return Loaded(agreed, traces, quarantine, 0, read_as)


def _rows(settings: Recorded) -> tuple[list[_Row], list[Rejected], Shape]:
    rows: list[_Row] = []
    quarantine: list[Rejected] = []
    source = read_rows(settings.path)
    head = list(islice(source, shapes.HEAD))
    shape = shapes.recognise(settings, head)
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
            fields.update(dict.fromkeys(name for name in wanted if _value(raw, name) is not None))
            if raw.fault is None and not _wanted(settings, raw, seen):
                continue
            found, faults = _read(settings, shape, raw)
            if settings.id is not None:
                identity = str(found[0].meta["source_id"])
                if question_of.setdefault(identity, _question_key(found[0].question)) != _question_key(found[0].question):
                    raise Unusable(f"its id {sentences.value(identity)} belongs to another question")
            rows += found
            sound += 1
            for fault in faults:
                set_aside(quarantine, settings.path, raw.line, fault)
        except Unusable as bad:
            set_aside(quarantine, settings.path, raw.line, str(bad))
    if not rows:
        raise UserError(_nothing(settings, shape, quarantine, list(fields), seen))
    return rows, quarantine, shape


def _nothing(settings: Recorded, shape: Shape, quarantine: Sequence[Rejected], fields: Sequence[str], seen: Counter[str]) -> str:
    if not fields and not quarantine:
        return f"{settings.path} is empty"
    missing = [name for name in _named(settings, shape) if name not in fields]
    if fields and missing:
        found = ", ".join(sentences.shown(name, 40) for name in fields)
        return f"{settings.path} has no field {missing[0]!r}; its fields are {found}"
    if not quarantine:
        asked = " and ".join(f"{field} = {value!r}" for field, value in settings.where)
        found = ", ".join(name for name, _ in seen.most_common(5)) or "no such field"
        return f"{settings.path} has no row with {asked}; it has {found}"
    first = quarantine[0]
    return f"{settings.path} has no usable row: all {len(quarantine)} were rejected, line {first.line} because {first.reason}"


def _named(settings: Recorded, shape: Shape) -> list[str]:
    """The fields that the rows must have."""
    return [*shape.fields, *(name for name in (settings.id, settings.sample, settings.finish) if name)]


def _wanted(settings: Recorded, raw: Row, seen: Counter[str]) -> bool:
    """Whether a row passes `where`; the values met are counted in `seen`."""
    passed = True
    for field, wanted in settings.where:
        value = _value(raw, field)
        plain = None if value is None and field not in raw.values else _plain(value)
        seen[f"{field} = {sentences.value(plain, 40)}"] += 1
        passed = passed and plain == wanted
    return passed


def _read(settings: Recorded, shape: Shape, raw: Row) -> tuple[list[_Row], list[str]]:
    """A row's traces, at least one, and why others of the same row cannot be used. Raises Unusable."""
    question, traces = shapes.read(shape, raw)
    question = _stripped(question, settings.strip)
    gold = shapes.gold_of(shape, raw)
    sample = None
    if settings.sample is not None:
        sample = _value(raw, settings.sample)
        if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < _SAMPLES:
            raise Unusable(f"field {settings.sample!r} is not a sample number (0, 1, …)")
    asked = {name: _value(raw, name) for name in settings.meta}
    meta = {name: value for name, value in asked.items() if carried(name, value, math.inf)}
    if settings.id is not None:
        meta["source_id"] = text_field(raw, settings.id)
    finishes = _finishes(settings, raw, len(traces))
    rows = [
        _Row(raw.line, question, trace, gold, sample, finish, meta)
        for trace, finish in zip(traces, finishes, strict=True)
        if isinstance(trace, str)
    ]
    faults = [str(trace) for trace in traces if not isinstance(trace, str)]
    if not rows:
        raise Unusable(faults[0] if len(faults) == 1 else f"none of its {len(faults)} traces can be used: {faults[0]}")
    return rows, faults


def _finishes(settings: Recorded, raw: Row, count: int) -> list[Finish]:
    """How each of a row's traces ended; a field without a value says nothing."""
    if settings.finish is None:
        return ["stop"] * count
    try:
        value = inner(raw.values, settings.finish)
    except KeyError:
        raise Unusable(f"field {settings.finish!r} is missing") from None
    values = value if isinstance(value, list) else [value] * count
    if len(values) != count:
        raise Unusable(f"field {settings.finish!r} holds {len(values)} values for {count} traces")
    for one in values:
        if one not in ("stop", "length", None):
            raise Unusable(f"field {settings.finish!r} holds {sentences.value(one, 40)}, which is neither 'stop' nor 'length'")
    return ["length" if one == "length" else "stop" for one in values]


def _stripped(question: str, affixes: Sequence[str]) -> str:
    """A question without the texts that may stand before and behind it. Raises Unusable where nothing is left."""
    rest = question
    for affix in affixes:
        rest = rest.removeprefix(affix.strip()).removesuffix(affix.strip()).strip()
    if not rest:
        raise Unusable("its question is nothing but what strip takes off")
    return rest


def _value(raw: Row, name: str) -> Any:
    """A field's value; None where it is missing."""
    try:
        return inner(raw.values, name)
    except KeyError:
        return None


def _plain(value: Any) -> str:
    """A value as it is written in `where`."""
    if isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else sentences.value(value)


def _question_key(question: str) -> str:
    return " ".join(question.split())


def _gold_key(gold: str) -> str:
    if len(gold) < 100 and gold.isascii() and gold.isdigit():
        return str(int(gold))
    value = number(gold)
    return " ".join(gold.split()) if value is None else f"{value.value}{'%' if value.percent else ''}"


def _free(taken: set[int], sample: int | None) -> int:
    """The sample's own number if it is free, else the next free one."""
    chosen = len(taken) if sample is None else sample
    while chosen in taken:
        chosen += 1
    taken.add(chosen)
    return chosen


def _trace(teacher: str, problem_id: str, sample: int, row: _Row, provenance: str) -> Trace:
    return Trace(
        id=Trace.identity(problem_id, teacher, sample, row.trace),
        problem_id=problem_id,
        teacher=teacher,
        sample=sample,
        text=row.trace,
        answer=None,
        verdict="ungraded",
        finish=row.finish,
        tokens=0,
        mean_logprob=None,
        provenance=provenance,
    )
