"""Questions of other files are matched to problems, also in another dress, and never to one of several."""

import json
from pathlib import Path

from question_copies import copies

from w2sr_jax.core.records import Problem
from w2sr_jax.problems.copies.duplicates import normalised
from w2sr_jax.problems.copies.matching import Questions
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


def test_recorded_traces_of_test_problems_are_known_in_another_dress(tmp_path: Path) -> None:
    rows = [
        {"question": f"Question: {PLAIN.question}\nAnswer:", "trace": "#### 1800", "gold": "1800"},
        {"question": PLAIN.question, "trace": "It is 1,800.", "gold": "1800"},
        {"question": f"Question: {OTHER.question}", "trace": "#### 1", "gold": "1"},
        {"question": "Another one?", "trace": "#### 1", "gold": "1"},
    ]
    path = tmp_path / "traces.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    loaded = recorded.load(Recorded("staff", str(path)), [], tested=[PLAIN, OTHER])
    assert loaded.problems == [PLAIN]
    assert [(trace.problem_id, trace.sample) for trace in loaded.traces] == [(PLAIN.id, 0), (PLAIN.id, 1)]
    assert loaded.unmatched == 1
    assert [(bad.line, "contradicts" in bad.reason) for bad in loaded.quarantine] == [(3, True)]
    learnt = recorded.load(Recorded("staff", str(path)), [PLAIN, OTHER])
    assert ([trace.text for trace in learnt.traces], learnt.unmatched) == (["It is 1,800."], 3)


def test_the_quick_look_loses_no_copy() -> None:
    """Every copy that has the same reading is found among a thousand other questions."""
    others = [Problem.of(f"Order {n} holds {n} nails and {2 * n} screws. How many pieces?", str(3 * n)) for n in range(1000)]
    bases = {base: Problem.of(base, "1") for base, _, _ in copies()}
    questions = Questions([*bases.values(), *others])
    pairs = [(base, copy) for base, copy, _ in copies() if normalised(base) == normalised(copy)]
    assert len(pairs) > 300
    assert [copy for base, copy in pairs if questions.find(copy) is not bases[base]] == []
