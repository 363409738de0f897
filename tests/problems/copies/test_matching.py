"""Questions of other files are matched to problems, also in another dress, and never to one of several."""

import json
from pathlib import Path

from w2sr_jax.problems.copies.matching import Questions
from w2sr_jax.records import Problem
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

PLAIN = Problem.of("A lamp costs $1,200 and a chair costs half of it. What do both cost?", "1800")
OTHER = Problem.of("A lamp costs $1,300 and a chair costs half of it. What do both cost?", "1950")


def test_the_same_text_comes_first() -> None:
    dressed = Problem.of(f"7. {PLAIN.question}", "1800")
    questions = Questions([dressed, PLAIN, OTHER])
    assert questions.find(f" {PLAIN.question}\n") is PLAIN
    assert questions.find(f"7.  {PLAIN.question}") is dressed
    assert questions.find(OTHER.question) is OTHER


def test_another_dress_finds_the_only_one() -> None:
    questions = Questions([PLAIN, OTHER])
    assert (
        questions.find("Problem 3. A lamp costs 1200 dollars, and a chair costs half of it. What do both cost? (5 points)")
        is PLAIN
    )
    assert questions.find(PLAIN.question.replace("half", "twice")) is None
    assert questions.find("A lamp") is None
    assert Questions([]).find(PLAIN.question) is None


def test_one_of_several_is_not_chosen() -> None:
    assert Questions([PLAIN, Problem.of(f"7. {PLAIN.question}", "1800")]).find(f"(a) {PLAIN.question}") is None


def test_recorded_traces_in_another_dress_are_read_as_the_problem_s(tmp_path: Path) -> None:
    rows = [
        {"question": f"Question: {PLAIN.question}\nAnswer:", "trace": "#### 1800", "gold": "1800"},
        {"question": PLAIN.question, "trace": "It is 1,800.", "gold": "1800"},
        {"question": f"Question: {OTHER.question}", "trace": "#### 1", "gold": "1"},
        {"question": "Another one?", "trace": "#### 1", "gold": "1"},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = recorded.load(Recorded("staff", str(path)), [PLAIN, OTHER])
    assert found.problems == [PLAIN]
    assert [(trace.problem_id, trace.sample) for trace in found.traces] == [(PLAIN.id, 0), (PLAIN.id, 1)]
    assert found.unmatched == 1
    assert [(bad.line, "contradicts" in bad.reason) for bad in found.quarantine] == [(3, True)]
