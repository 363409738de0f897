"""Traces recorded in a file: read, checked row by row, and matched to problems."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from w2sr_jax import sentences
from w2sr_jax.answers.numbers import number
from w2sr_jax.errors import UserError
from w2sr_jax.problems.rows import Rejected, Row, Unusable, carried, read_rows, set_aside, text_field
from w2sr_jax.records import Problem, Trace
from w2sr_jax.teachers.settings import Recorded

_FIELDS = 20  # names of fields that a message about a missing one lists
_SAMPLES = 2**31  # sample numbers are 32-bit


class Loaded(NamedTuple):
    """What a file held: problems in the order of their first trace, ungraded traces, rows left out, and the number of sound rows
    whose question is not among the problems that were asked for."""

    problems: list[Problem]
    traces: list[Trace]
    quarantine: list[Rejected]
    unmatched: int


class _Row(NamedTuple):
    line: int
    question: str
    trace: str
    gold: str | None
    sample: int | None
    meta: dict[str, Any]


def load(settings: Recorded, problems: Sequence[Problem] | None = None) -> Loaded:
    """Read the traces of one teacher; without `problems` the file brings its own.

    Problems are matched by question, whitespace aside. A question that occurs with two golds is quarantined with all its rows, as
    is a row whose gold contradicts the given problem's. Traces are ungraded and count as finished; a repeated (problem, sample)
    gets the next free number. Raises `UserError` where the file, a field or every row is missing.
    """
    if not settings.path:
        raise UserError(f"teacher {settings.name!r} has no path; give a file of recorded traces (.jsonl, .jsonl.gz or .parquet)")
    path = Path(settings.path)
    name = sentences.printable(path.name)
    rows, quarantine = _rows(settings, path)
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
        traces.append(_trace(settings.name, problem.id, sample, row.trace, f"{name}:{row.line}"))
    quarantine.sort(key=lambda bad: bad.line)
    return Loaded(list(used.values()), traces, quarantine, unmatched)


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
        for trace in found.traces:
            if trace.provenance not in lines:
                line = int(trace.provenance.rpartition(":")[2])
                set_aside(quarantine, teacher.path, line, "the question has another gold answer in another file")
    return Loaded(agreed, traces, quarantine, 0)


def _rows(settings: Recorded, path: Path) -> tuple[list[_Row], list[Rejected]]:
    rows: list[_Row] = []
    quarantine: list[Rejected] = []
    wanted = _named(settings)
    fields: dict[str, None] = {}
    seen: Counter[str] = Counter()
    question_of: dict[str, str] = {}
    for raw in read_rows(path):
        if settings.limit is not None and len(rows) >= settings.limit:
            break
        try:
            fields.update(
                dict.fromkeys(name for at, name in enumerate(raw.values, len(fields)) if name in wanted or at < _FIELDS)
            )
            if raw.fault is None and not _wanted(settings, raw, seen):
                continue
            row = _row(settings, raw)
            if settings.id is not None:
                identity = str(row.meta["source_id"])
                if question_of.setdefault(identity, _question_key(row.question)) != _question_key(row.question):
                    raise Unusable(f"its id {sentences.value(identity)} belongs to another question")
            rows.append(row)
        except Unusable as bad:
            set_aside(quarantine, settings.path, raw.line, str(bad))
    if not rows:
        raise UserError(_nothing(settings, quarantine, list(fields), seen))
    return rows, quarantine


def _nothing(settings: Recorded, quarantine: Sequence[Rejected], fields: Sequence[str], seen: Counter[str]) -> str:
    if not fields and not quarantine:
        return f"{settings.path} is empty"
    missing = [name for name in _named(settings) if name not in fields]
    if fields and missing:
        found = ", ".join(sentences.shown(name, 40) for name in fields)
        return f"{settings.path} has no field {missing[0]!r}; its fields are {found}"
    if not quarantine:
        asked = " and ".join(f"{field} = {value!r}" for field, value in settings.where)
        found = ", ".join(name for name, _ in seen.most_common(5)) or "no such field"
        return f"{settings.path} has no row with {asked}; it has {found}"
    first = quarantine[0]
    return f"{settings.path} has no usable row: all {len(quarantine)} were rejected, line {first.line} because {first.reason}"


def _named(settings: Recorded) -> list[str]:
    """The fields that the rows must have."""
    return [settings.question, settings.trace, *(name for name in (settings.gold, settings.id, settings.sample) if name)]


def _wanted(settings: Recorded, raw: Row, seen: Counter[str]) -> bool:
    """Whether a row passes `where`; the values met are counted in `seen`."""
    passed = True
    for field, wanted in settings.where:
        value = _plain(raw.values[field]) if field in raw.values else None
        seen[f"{field} = {sentences.value(value, 40)}"] += 1
        passed = passed and value == wanted
    return passed


def _row(settings: Recorded, raw: Row) -> _Row:
    question, trace = (text_field(raw, name).strip() for name in (settings.question, settings.trace))
    for name in (settings.question, settings.trace):
        if not isinstance(raw.values[name], str):
            raise Unusable(f"field {name!r} is not text")
    gold = None
    if settings.gold is not None and raw.values.get(settings.gold, "") is not None:
        gold = text_field(raw, settings.gold).rpartition("####")[2].strip() or None
    sample = None
    if settings.sample is not None:
        sample = raw.values.get(settings.sample)
        if not isinstance(sample, int) or isinstance(sample, bool) or not 0 <= sample < _SAMPLES:
            raise Unusable(f"field {settings.sample!r} is not a sample number (0, 1, …)")
    asked = {name: raw.values[name] for name in settings.meta if name in raw.values}
    meta = {name: value for name, value in asked.items() if carried(name, value, math.inf)}
    if settings.id is not None:
        meta["source_id"] = text_field(raw, settings.id)
    return _Row(raw.line, question, trace, gold, sample, meta)


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


def _trace(teacher: str, problem_id: str, sample: int, text: str, provenance: str) -> Trace:
    return Trace(
        id=Trace.identity(problem_id, teacher, sample, text),
        problem_id=problem_id,
        teacher=teacher,
        sample=sample,
        text=text,
        answer=None,
        verdict="ungraded",
        finish="stop",
        tokens=0,
        mean_logprob=None,
        provenance=provenance,
    )
