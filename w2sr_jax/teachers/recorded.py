"""Recorded traces: read, checked row by row, and matched to problems."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from w2sr_jax.answers.numbers import number
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.problems import datasets
from w2sr_jax.problems.copies.matching import Questions, single_spaced
from w2sr_jax.problems.rows import Rejected, set_aside
from w2sr_jax.teachers import reading
from w2sr_jax.teachers.reading import RecordedTrace
from w2sr_jax.teachers.teacher import Teacher

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Recorded


class Loaded(NamedTuple):
    """What a file holds: problems in the order of their first trace, ungraded traces, quarantined rows, the number of sound
    traces whose question is not among the problems, the shape of the rows in words, and notes on what was done with columns of
    reasoning, with the number of rows of each."""

    problems: list[Problem]
    traces: list[Trace]
    quarantine: list[Rejected]
    unmatched: int
    shape: str = ""
    notes: Mapping[str, int] = MappingProxyType({})


def load(
    settings: Recorded, problems: Sequence[Problem] | None = None, tested: Sequence[Problem] = (), most: int | None = None
) -> Loaded:
    """Read the traces of one teacher, in the first `most` rows (None: in all); without `problems` the file's questions are the
    problems.

    Problems are matched by question, whitespace aside; those of a test, which come last, also in another dress
    (`copies.matching.Questions`). A question that occurs with two golds is quarantined with all its rows, as is a row whose gold
    contradicts its problem's. Traces are ungraded; where no column says how they ended, they count as finished. Reasoning in a
    column of its own is put in front of the trace (see `reasoning_columns`). A repeated (problem, sample) gets the next free
    number. Raises `UserError` where the file, a field or every row is missing, and where the file can be read in several ways.
    """
    if not settings.path:
        raise UserError(
            f"teacher {settings.name!r} has no path; give a file of recorded traces (.jsonl, .jsonl.gz or .parquet) or a data "
            "set (hf:NAME, tfds:NAME)"
        )
    name = datasets.title(settings.path)
    rows, quarantine, shape, notes = reading.read(settings, most)
    golds: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.gold is not None:
            golds[single_spaced(row.question)].add(_gold_key(row.gold))
    problem_of: dict[str, Problem] = {}
    for problem in problems or ():
        problem_of.setdefault(single_spaced(problem.question), problem)
    tests = Questions(tested)
    used: dict[str, Problem] = {}
    taken: dict[str, set[int]] = defaultdict(set)
    traces = []
    unmatched = 0
    first_gold = {single_spaced(row.question): row.gold for row in reversed(rows) if row.gold is not None}
    for row in rows:
        key = single_spaced(row.question)
        if len(golds[key]) > 1:
            set_aside(quarantine, settings.path, row.line, "the question occurs with different gold answers")
            continue
        if problems is None:
            problem = used.get(key) or Problem.of(row.question, first_gold.get(key), None, settings.task, row.meta)
        elif (matched := problem_of.get(key) or tests.find(row.question)) is None:
            unmatched += 1
            continue
        else:
            problem = matched
            if row.gold is not None and problem.answer is not None and _gold_key(row.gold) != _gold_key(problem.answer):
                row_gold, problem_gold = sentences.value(row.gold), sentences.value(problem.answer)
                set_aside(
                    quarantine, settings.path, row.line, f"its gold answer {row_gold} contradicts the problem's, {problem_gold}"
                )
                continue
        used[key] = problem
        sample = _free(taken[problem.id], row.sample)
        traces.append(_trace(settings.name, problem.id, sample, row, f"{name}:{row.line}"))
    quarantine.sort(key=lambda bad: bad.line)
    unique = {problem.id: problem for problem in used.values()}
    return Loaded(list(unique.values()), traces, quarantine, unmatched, str(shape), MappingProxyType(notes))


def load_all(teachers: Sequence[Teacher]) -> Loaded:
    """The files of several teachers, with the union of their problems; a question is one problem in all of them.

    Where files disagree about a question's gold, all their rows of that question are quarantined.
    """
    loaded = [teacher.load(None) for teacher in teachers]
    golds: dict[str, set[str]] = defaultdict(set)
    for file in loaded:
        for problem in file.problems:
            if problem.answer is not None:
                golds[single_spaced(problem.question)].add(_gold_key(problem.answer))
    problems: dict[str, Problem] = {}
    for file in loaded:
        for problem in file.problems:
            key = single_spaced(problem.question)
            if len(golds[key]) <= 1 and (key not in problems or problems[key].answer is None):
                problems[key] = problem
    agreed = list(problems.values())
    traces: list[Trace] = []
    quarantine: list[Rejected] = []
    notes: Counter[str] = Counter()
    for teacher, file in zip(teachers, loaded, strict=True):
        again = teacher.load(agreed)
        notes.update({f"{teacher.name}: {note}": count for note, count in again.notes.items()})
        traces += again.traces
        quarantine += again.quarantine
        lines = {trace.provenance for trace in again.traces}
        for provenance in dict.fromkeys(trace.provenance for trace in file.traces):
            if provenance not in lines:
                line = int(provenance.rpartition(":")[2])
                set_aside(quarantine, teacher.path, line, "the question has another gold answer in another file")
    read_as = "; ".join(f"{teacher.name}: {file.shape}" for teacher, file in zip(teachers, loaded, strict=True))
    return Loaded(agreed, traces, quarantine, 0, read_as, MappingProxyType(notes))


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


def _trace(teacher: str, problem_id: str, sample: int, row: RecordedTrace, provenance: str) -> Trace:
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
