"""The error ledger against counting by hand, and its intervals against closed forms."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace, VerdictName
from w2sr_jax.evaluation import statistics
from w2sr_jax.evaluation.ledger import CELLS, RIGHT, Answer, Outcome, answer, cells, ledger, outcomes
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Estimate

SETTINGS = Evaluation(resamples=400)
RIGHT_ANSWER, WRONG, OTHER, NONE = Answer(RIGHT, True), Answer("= 5", False), Answer("= 6", False), Answer(None, False)
ANSWERS = (RIGHT_ANSWER, WRONG, OTHER, NONE)


def trace(problem: Problem, given: str | None, verdict: VerdictName) -> Trace:
    return Trace("i", problem.id, "m", 0, f"#### {given}", given, verdict, "stop", 7, None, "")


def drawn(problems: int, seed: int = 0, probabilities: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1)) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    choices = rng.choice(4, size=(problems, 3), p=probabilities)
    return [Outcome(f"p{i}", *(ANSWERS[c] for c in row)) for i, row in enumerate(choices)]


@pytest.mark.parametrize(
    ("teacher", "base", "student", "expected"),
    [
        (WRONG, OTHER, WRONG, {"teacher_wrong", "repeat"}),
        (WRONG, WRONG, WRONG, {"teacher_wrong", "repeat", "chance"}),
        (WRONG, WRONG, OTHER, {"teacher_wrong", "chance"}),
        (WRONG, RIGHT_ANSWER, WRONG, {"teacher_wrong", "teacher_wrong_base_right", "repeat", "induced"}),
        (WRONG, RIGHT_ANSWER, OTHER, {"teacher_wrong", "teacher_wrong_base_right"}),
        (WRONG, RIGHT_ANSWER, RIGHT_ANSWER, {"teacher_wrong", "teacher_wrong_base_right", "corrected"}),
        (WRONG, NONE, NONE, {"teacher_wrong"}),
        (RIGHT_ANSWER, WRONG, RIGHT_ANSWER, {"teacher_right"}),
        (RIGHT_ANSWER, RIGHT_ANSWER, OTHER, {"teacher_right", "corrupted"}),
        (RIGHT_ANSWER, RIGHT_ANSWER, NONE, {"teacher_right", "corrupted"}),
        (NONE, NONE, NONE, {"teacher_unreadable"}),
        (NONE, RIGHT_ANSWER, RIGHT_ANSWER, {"teacher_unreadable"}),
    ],
)
def test_what_a_problem_counts_in(teacher: Answer, base: Answer, student: Answer, expected: set[str]) -> None:
    found = cells(Outcome("p", teacher, base, student))
    assert set(found) == expected
    assert list(found) == [cell for cell in CELLS if cell in expected]


def test_equal_answers_have_one_key_however_they_are_spelt() -> None:
    problem = Problem.of("q", "1/2")
    assert answer(trace(problem, "1/2", "correct")) == answer(trace(problem, "0.5", "correct")) == RIGHT_ANSWER
    assert answer(trace(problem, "1,200", "incorrect")) == answer(trace(problem, "$1200.0", "incorrect"))
    assert answer(trace(problem, "7", "incorrect")).key != answer(trace(problem, "8", "incorrect")).key
    assert answer(trace(problem, None, "unparsed")) == answer(trace(problem, "9!!", "unparsed")) == NONE
    # A wrong answer that is the word for right ones is not a right one.
    assert answer(trace(problem, RIGHT, "incorrect")).key != RIGHT


def test_outcomes_are_joined_by_problem_and_leave_out_problems_without_gold() -> None:
    problems = [Problem.of("a", "1"), Problem.of("b", None), Problem.of("c", "3")]
    teacher = [trace(problems[2], "4", "incorrect"), trace(problems[1], "2", "ungraded"), trace(problems[0], "1", "correct")]
    base = [trace(problems[0], "9", "incorrect"), trace(problems[2], "3", "correct")]
    student = [trace(problems[0], "1.0", "correct"), trace(problems[2], "4", "incorrect")]
    found = outcomes(problems, teacher, base, student)
    assert [outcome.problem_id for outcome in found] == [problems[0].id, problems[2].id]
    assert [cells(outcome) for outcome in found] == [
        ("teacher_right",),
        ("repeat", "induced", "teacher_wrong", "teacher_wrong_base_right"),
    ]


def test_missing_doubled_and_ungraded_traces_are_refused() -> None:
    problems = [Problem.of("a", "1"), Problem.of("b", "2")]
    whole = [trace(problem, "1", "incorrect") for problem in problems]
    with pytest.raises(UserError, match=f"base has no trace of problem {problems[1].id}"):
        outcomes(problems, whole, whole[:1], whole)
    with pytest.raises(UserError, match="student has 4 traces for 2 problems"):
        outcomes(problems, whole, whole, whole * 2)
    with pytest.raises(UserError, match=f"{problems[0].id} .*not graded"):
        outcomes(problems, [dataclasses.replace(row, verdict="ungraded") for row in whole], whole, whole)
    with pytest.raises(UserError, match="no training problems"):
        ledger([[], []], "training", SETTINGS)
    twice = [Outcome("p", WRONG, WRONG, WRONG)] * 2
    with pytest.raises(UserError, match="2 held-out outcomes for 1 problems"):
        ledger([twice], "held-out", SETTINGS)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 20), *[st.sampled_from(ANSWERS)] * 3), min_size=1, max_size=12, unique_by=lambda r: r[0]
        ),
        min_size=1,
        max_size=3,
    )
)
def test_every_number_is_what_counting_gives(rows: list[list[tuple[int, Answer, Answer, Answer]]]) -> None:
    """Seeds may hold different problems."""
    found = ledger([[Outcome(f"p{i}", t, b, s) for i, t, b, s in seed] for seed in rows], "held-out", Evaluation(resamples=20))
    cases = [row[1:] for seed in rows for row in seed]
    wrong = [(t, b, s) for t, b, s in cases if not t.correct and t.key is not None]
    right = [(t, b, s) for t, b, s in cases if t.correct]
    knew = [(t, b, s) for t, b, s in wrong if b.correct]
    expected = {
        "repeat": (sum(s == t for t, b, s in wrong), len(wrong)),
        "chance": (sum(b == t for t, b, s in wrong), len(wrong)),
        "excess": (sum(s == t for t, b, s in wrong) - sum(b == t for t, b, s in wrong), len(wrong)),
        "induced": (sum(s == t for t, b, s in knew), len(knew)),
        "corrected": (sum(s.correct for t, b, s in wrong), len(wrong)),
        "corrupted": (sum(not s.correct for t, b, s in right), len(right)),
    }
    for name, (count, among) in expected.items():
        metric = getattr(found.metrics, name)
        assert metric.n == among
        if among:
            assert metric.value == pytest.approx(count / among)
            assert metric.low <= metric.high
        else:
            assert metric.value is metric.low is metric.high is None
    assert found.teacher_right == len(right)
    assert found.teacher_wrong == len(wrong)
    assert found.teacher_right + found.teacher_wrong + found.teacher_unreadable == len(cases)
    assert found.kappa.teacher_student.n == found.kappa.teacher_base.n == len(cases)
    assert found.problems == len({row[0] for seed in rows for row in seed})
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found


def test_kappa_of_a_ledger_is_that_of_right_and_wrong() -> None:
    rows = drawn(300)
    found = ledger([rows], "training", SETTINGS)
    assert found.set == "training"
    for name, other in (("teacher_student", "student"), ("teacher_base", "base")):
        pairs = [(row.teacher.correct, getattr(row, other).correct) for row in rows]
        observed = sum(a == b for a, b in pairs) / len(pairs)
        one, two = (sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1))
        chance = one * two + (1 - one) * (1 - two)
        assert getattr(found.kappa, name).value == pytest.approx((observed - chance) / (1 - chance))
        assert getattr(found.kappa, name).n == 300


def test_excess_is_compared_on_the_same_problems() -> None:
    """A student that repeats what the base did too, and 10 errors more: the interval is that of the 10 alone."""
    both = [Outcome(f"b{i}", WRONG, WRONG, WRONG) for i in range(200)]
    neither = [Outcome(f"n{i}", WRONG, OTHER, OTHER) for i in range(190)]
    more = [Outcome(f"m{i}", WRONG, OTHER, WRONG) for i in range(10)]
    unconcerned = [Outcome(f"r{i}", RIGHT_ANSWER, OTHER, OTHER) for i in range(100)]
    found = ledger([both + neither + more + unconcerned], "held-out", Evaluation()).metrics.excess
    half = 1.96 * math.sqrt(0.025 * 0.975 / 400)
    assert found.value == pytest.approx(0.025)
    assert found.low == pytest.approx(0.025 - half, abs=0.004)
    assert found.high == pytest.approx(0.025 + half, abs=0.004)


def test_a_ratio_over_random_cases_has_about_the_normal_interval() -> None:
    rng = np.random.default_rng(1)
    among = (rng.random(1500) < 0.4).astype(float)
    count = among * (rng.random(1500) < 0.3)
    found = statistics.ratio(count, among, Evaluation())
    value, n = count.sum() / among.sum(), among.sum()
    half = 1.96 * math.sqrt(value * (1 - value) / n)
    assert found.n == n
    assert found.low == pytest.approx(value - half, abs=0.1 * half)
    assert found.high == pytest.approx(value + half, abs=0.1 * half)


def test_ratio_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    inside = {"ratio": 0, "kappa": 0}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        among = (rng.random(150) < 0.5).astype(float)
        found = statistics.ratio(among * (rng.random(150) < 0.3), among, Evaluation(resamples=300))
        inside["ratio"] += found.low <= 0.3 <= found.high
        # A shared half of the problems is hard for both: a₁ = a₂ = 0.5, agreement 0.68, κ 0.36.
        hard = rng.random(150) < 0.5
        left, right = (rng.random(150) < np.where(hard, 0.2, 0.8) for _ in range(2))
        found = statistics.kappa(left, right, Evaluation(resamples=300))
        inside["kappa"] += found.low <= 0.36 <= found.high
    assert all(0.89 <= count / 200 <= 0.99 for count in inside.values()), inside


def test_seeds_are_summed_and_their_disagreement_widens_the_interval() -> None:
    good = [Outcome(f"p{i}", WRONG, OTHER, WRONG if i % 10 == 0 else RIGHT_ANSWER) for i in range(200)]
    bad = [Outcome(f"p{i}", WRONG, OTHER, WRONG if i % 2 == 0 else RIGHT_ANSWER) for i in range(100)]
    pooled = ledger([good, bad], "held-out", SETTINGS)
    assert pooled.seeds == 2
    assert pooled.problems == 200
    repeat = pooled.metrics.repeat
    assert repeat.n == 300
    assert repeat.value == pytest.approx(70 / 300)  # not the mean of 10 % and 50 %
    alone = ledger([good], "held-out", SETTINGS).metrics.repeat
    assert repeat.high - repeat.low > 3 * (alone.high - alone.low)


def test_never_and_always_still_leave_doubt() -> None:
    rows = [Outcome(f"p{i}", WRONG, RIGHT_ANSWER, RIGHT_ANSWER) for i in range(20)]
    found = ledger([rows], "held-out", SETTINGS).metrics
    assert found.repeat.value == found.repeat.low == 0
    assert 0.1 < found.repeat.high < 0.25  # Wilson's limit is 0.161
    assert found.corrected.low == pytest.approx(1 - found.repeat.high)
    assert found.excess.low < 0 < found.excess.high
    # Seeds repeat problems: the same twenty twice are still twenty.
    assert ledger([rows, rows], "held-out", SETTINGS).metrics.repeat.high == found.repeat.high


def test_kappa_at_its_ends() -> None:
    right = np.tile([1.0, 1.0, 0.0, 0.0], 10)
    same = statistics.kappa(right, right, SETTINGS)
    assert same.value == same.high == 1
    assert 0.5 < same.low < 0.95
    opposite = statistics.kappa(right, 1 - right, SETTINGS)
    assert opposite.value == opposite.low == -1
    assert opposite.high < -0.5
    assert statistics.kappa(np.ones(9), np.ones(9), SETTINGS) == Estimate(None, None, None, 9)
    assert statistics.kappa(np.ones(9), right[:9], SETTINGS).value == 0  # one always right: agreement is chance


def test_kappa_takes_chance_within_each_seed() -> None:
    """Two independent models are not consistent because both are good in one seed and bad in the other."""
    rng = np.random.default_rng(0)
    rates = np.array([[0.9], [0.1]])
    left, right = ((rng.random((2, 4000)) < rates).astype(float) for _ in range(2))
    assert abs(statistics.kappa(left, right, SETTINGS).value or 1) < 0.05
    known = np.zeros((2, 4000))
    known[0] = 1
    alone = statistics.kappa(left[0], right[0], SETTINGS)
    assert statistics.kappa(left, right, SETTINGS, known).value == alone.value
    assert statistics.kappa(left, right, SETTINGS, known).n == 4000


def test_the_same_ledger_whatever_the_process_did_before() -> None:
    rows = [drawn(50, seed) for seed in range(2)]
    found = ledger(rows, "held-out", SETTINGS)
    statistics._problem_weights.cache_clear()
    statistics.interval(np.arange(33) % 2, SETTINGS)
    assert ledger(rows, "held-out", SETTINGS) == found
