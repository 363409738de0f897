"""What a teacher of a user's own gives is refused in a sentence where it is not traces, and written where it is."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.answers.grade import NumberGrader
from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.teachers.work import TeacherWork

PROBLEM = Problem.of("What is 2 + 2 ?", "4", "2 + 2 = 4 #### 4")


@dataclasses.dataclass(frozen=True)
class Gives(Teacher):
    given: Any = None
    name: str = "gives"

    def traces(self, work: TeacherWork) -> Any:
        return self.given


def work(folder: Path) -> TeacherWork:
    silent: Callable[..., None] = lambda *_: None  # noqa: E731
    stop = contextlib.nullcontext(lambda: False)
    return TeacherWork([PROBLEM], [], NumberGrader(), 0, folder, folder, "", silent, silent, silent, lambda: stop)


def trace(**fields: Any) -> Trace:
    return dataclasses.replace(Trace.of(PROBLEM.id, "gives", 0, "4"), **fields)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, r"returned None \(is there a return\?\); it must give traces: yield Trace\.of"),
        (5, "returned 5; it must give traces"),
        ("4", "returned '4'; it must give traces"),
        ({"a": trace()}, "returned a value of type dict"),
        (["4"], "gave '4'; it must give traces alone"),
        ([trace(), None], "gave None"),
        ([trace(), trace(text=4)], r"gave a trace \(number 2\) whose text is 4; it must be text"),
        ([trace(sample="0")], r"gave a trace \(number 1\) whose sample is '0'; it must be a whole number"),
    ],
)
def test_what_is_no_trace_is_refused_where_it_is_defined(tmp_path: Path, given: Any, words: str) -> None:
    with pytest.raises(UserError, match=rf"test_own_teachers\.py, line \d+: Gives\.traces {words}"):
        Gives(given).write(work(tmp_path))


def test_traces_are_graded_and_written_whatever_collection_they_come_in(tmp_path: Path) -> None:
    for index, given in enumerate(([trace()], (trace(),), iter([trace()]))):
        (path,) = Gives(given).write(work(tmp_path / str(index))).paths
        assert [row.verdict for row in records.iterate(path, Trace)] == ["correct"]
