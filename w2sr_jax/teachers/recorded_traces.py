"""The traces of a teacher that is a file, for the problems of a rung; and the check of the file before a run."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.copies.matching import single_spaced
from w2sr_jax.problems.datasets import read_rows
from w2sr_jax.teachers.teacher import Findings
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces
from w2sr_jax.teachers.written import write

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Recorded

SCANNED = 50_000
"""Rows that are read before a run to find `HEAD` that count."""
HEAD = 1000
"""Rows that are checked before a run."""
_MUCH = 0.05  # share of rows set aside that is worth a remark


def write_recorded(teacher: Recorded, work: TeacherWork) -> WrittenTraces:
    """Grade and write the file's traces for the problems. Traces of test problems are set aside: they are the teacher's
    evaluation, and no rung has them."""
    wanted = {problem.id for problem in work.problems}
    loaded = teacher.load(list(work.problems), tested=work.tested)
    traces = [trace for trace in loaded.traces if trace.problem_id in wanted]
    aside = len(loaded.traces) - len(traces)
    result = write(work, traces)
    measures = {"read_as": loaded.shape, "of_test_problems": aside, "of_other_problems": loaded.unmatched}
    notes = {"beside": dict(loaded.notes)} if loaded.notes else {}
    note = f"; {aside:,} more answer test problems and are set aside for its evaluation" if aside else ""
    note += f"; {loaded.unmatched:,} more answer other problems" if loaded.unmatched else ""
    note += "".join(f"; {note_} ({count:,} rows)" for note_, count in loaded.notes.items())
    return WrittenTraces(result.paths, {**measures, **notes}, note)


def inspect_recorded(teacher: Recorded, where: str, findings: Findings, questions: Callable[[], set[str] | None]) -> None:
    """Read the file's first rows as the run will. `UserError` where none can be read."""
    from w2sr_jax.teachers.recorded import load

    try:
        loaded = load(teacher.head(HEAD), most=SCANNED)
    except UserError:
        if teacher.where and sum(1 for _ in islice(read_rows(teacher.path), SCANNED + 1)) > SCANNED:
            findings.remark(
                f"{where}: none of the first {SCANNED:,} rows of {teacher.path} is one of those that `where` asks for"
            )
            return
        raise
    rows = len(loaded.traces) + len(loaded.quarantine)
    findings.see(
        f"{where}: {len(loaded.traces):,} traces in the first rows of {teacher.path} ({loaded.shape}), "
        f"{_share(len(loaded.quarantine), rows)} set aside"
    )
    if len(loaded.quarantine) > _MUCH * rows:
        first = loaded.quarantine[0]
        findings.remark(
            f"{where}: {len(loaded.quarantine):,} of {rows:,} cannot be used, the first in line {first.line}: {first.reason}"
        )
    asked_of = questions()
    if asked_of is None:
        return
    asked = {single_spaced(problem.question) for problem in loaded.problems}
    matched = len(asked & asked_of)
    findings.see(f"{where}: {matched:,} of {len(asked):,} questions are among the problems")
    if not matched:
        findings.remark(
            f"{where}: none of its first {len(asked):,} questions is among the problems; they count as problems of their own. If "
            "a prompt is wrapped around them, name its text in the teacher's strip"
        )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if part and whole else "none"
