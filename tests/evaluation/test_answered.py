"""Recorded answers to some problems: their scores, and comparisons on the problems that have them."""

import numpy as np
import pytest

from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.evaluation.answered import answered, score_answers, unanimous
from w2sr_jax.evaluation.scores import compare
from w2sr_jax.evaluation.settings import Evaluation

SETTINGS = Evaluation(resamples=200)
PROBLEMS = [Problem.of(f"Question {number}?", None if number == 3 else str(number)) for number in range(6)]


def trace(number: int, verdict: VerdictName, sample: int = 0, text: str = "2 + 2 = 4 #### 4") -> Trace:
    problem = PROBLEMS[number].id
    answer = None if verdict == "unparsed" else "4"
    return Trace(f"{number}-{sample}", problem, "staff", sample, text, answer, verdict, "stop", 0, None, "staff.jsonl:1")


MIXED = [
    trace(4, "correct", 1),
    trace(0, "correct"),
    trace(4, "incorrect", 0),
    trace(4, "correct", 2),
    trace(2, "unparsed"),
    trace(3, "ungraded"),
]


def test_a_problem_counts_the_mean_of_its_answers() -> None:
    found = answered(PROBLEMS, MIXED)
    # Problem 3 has no gold answer, so that problem 4 is the fourth that counts.
    assert found.indices.tolist() == [0, 2, 3]
    assert found.shares.tolist() == pytest.approx([1, 0, 2 / 3])


def test_scores_are_over_the_problems_that_are_answered() -> None:
    scores = score_answers(PROBLEMS, MIXED, SETTINGS)
    assert scores is not None
    assert (scores.problems, scores.ungraded, scores.seeds) == (3, 1, 1)
    assert scores.accuracy.value == pytest.approx(5 / 9)
    assert (scores.unparsed.value, scores.unparsed.n) == (pytest.approx(1 / 5), 5)
    assert scores.process.self_consistency.n == 1
    assert (scores.avg_at_k, scores.pass_at_k, scores.maj_at_k) == (None, (), ())


@pytest.mark.parametrize("traces", [[], [trace(3, "ungraded")]])
def test_without_a_graded_answer_there_are_no_scores(traces: list[Trace]) -> None:
    assert score_answers(PROBLEMS, traces, SETTINGS) is None
    assert answered(PROBLEMS, traces).indices.size == 0


def test_what_is_partly_right_is_neither_right_nor_wrong() -> None:
    assert unanimous(MIXED) == {PROBLEMS[0].id: True, PROBLEMS[2].id: False}


def test_a_student_is_held_against_the_answers_on_their_problems_alone() -> None:
    student = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 1, 0]])
    base, gold = np.array([0, 0, 1, 0, 0]), np.ones(5)
    found = compare(student, [0.5, 0.0, 0.25], base, gold, SETTINGS, columns=[0, 2, 3])
    alone = compare(student[:, [0, 2, 3]], [0.5, 0.0, 0.25], None, np.ones(3), SETTINGS)
    assert found.vs_teacher == alone.vs_teacher
    assert found.pgr == alone.pgr
    assert found.vs_teacher is not None
    assert found.vs_base is not None
    assert (found.vs_teacher.n, found.vs_base.n) == (3, 5)
    assert found.vs_teacher.left == pytest.approx(5 / 6)
    assert found.vs_teacher.both is None  # half right is neither


def test_all_places_are_as_none() -> None:
    student, teacher, base = [1, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1]
    assert compare(student, teacher, base, [1, 1, 1, 1], SETTINGS) == compare(
        student, teacher, base, [1, 1, 1, 1], SETTINGS, columns=range(4)
    )
