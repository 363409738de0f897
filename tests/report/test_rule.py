"""The rule that turns intervals into answers: the same for every run, blind to scores."""

import itertools
import random
from typing import Any

import pytest
from test_report_verdict import BETWEEN, NO, YES, difference, ladder, run

from w2sr_jax.report import rule
from w2sr_jax.report.schema_verdict import ANSWERS

MEASURED = {"yes": YES, "no": NO, "not shown": BETWEEN, "unknown": None}


def verdicts(results: dict[str, Any]) -> list[str]:
    return [rung["verdict"] for rung in rule.verdict(results)["rungs"]]


@pytest.mark.parametrize("answers", itertools.product(MEASURED, repeat=3))
def test_the_answer_is_the_one_on_which_all_rungs_agree(answers: tuple[str, ...]) -> None:
    found = rule.verdict(ladder(*({"vs_teacher": MEASURED[answer]} for answer in answers)))
    assert [rung["verdict"] for rung in found["rungs"]] == list(answers)
    assert found["overall"] == (answers[0] if len(set(answers)) == 1 else "not shown")


def test_without_rungs_the_answer_is_unknown() -> None:
    for empty in ({}, {"rungs": []}, {"rungs": None}):
        assert rule.verdict(empty)["overall"] == "unknown"


def test_one_clear_gain_among_many_tries_is_no_yes() -> None:
    """Twenty students that are no better than their teachers, one of them ahead by chance."""
    rungs = [{"vs_teacher": YES if index == 13 else BETWEEN} for index in range(4)]
    rungs[3] = {"vs_teacher": YES}
    assert rule.verdict(ladder(*rungs))["overall"] == "not shown"


def test_a_yes_for_all_is_wrong_no_more_often_than_one_interval_is() -> None:
    """Rungs without any gain: the share of ladders that claim one falls with their number instead of growing."""
    rng = random.Random(0)

    def claims(rungs: int) -> float:
        tries = 4000
        found = 0
        for _ in range(tries):
            values = [rng.gauss(0, 1) for _ in range(rungs)]
            made = ladder(*({"vs_teacher": difference(v / 100, (v - 1.96) / 100, (v + 1.96) / 100)} for v in values))
            found += rule.verdict(made)["overall"] == "yes"
        return found / tries

    assert 0.015 < claims(1) < 0.035
    assert claims(2) < 0.005


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(1e-9, 0.1, "yes"), (0.0, 0.1, "not shown"), (-0.1, 0.0, "not shown"), (-0.1, -1e-9, "no"), (None, 0.1, "unknown")],
)
def test_a_bound_at_zero_is_not_beyond_it(low: float | None, high: float, answer: str) -> None:
    assert rule.outcome({"difference": 0.0, "low": low, "high": high}) == answer


def test_the_headline_arm_is_fixed_and_not_the_best() -> None:
    results = run()
    rung = results["rungs"][0]
    comparisons = rung["comparisons"]
    comparisons["all"] = {"vs_teacher": difference(0.3, 0.2, 0.4)}
    comparisons["gold"] = {"vs_teacher": difference(0.4, 0.3, 0.5)}
    assert rule.headline_arm(rung) == "correct"
    del comparisons["correct"]
    assert rule.headline_arm(rung) == "all"
    comparisons["majority"] = {"vs_teacher": NO}
    assert rule.headline_arm(rung) == "majority"
    del comparisons["all"], comparisons["majority"]
    assert rule.headline_arm(rung) is None
    assert verdicts(results) == ["unknown"]


def test_the_field_names_student_and_teacher() -> None:
    found = rule.verdict(ladder({"vs_teacher": YES}, {"vs_teacher": NO, "teacher": "0-small.correct"}))
    assert found["rungs"][1] == {
        "rung": 1,
        "name": "medium",
        "arm": "correct",
        "student": "1-medium.correct",
        "teacher": "0-small.correct",
        "verdict": "no",
    }
    assert found["overall"] in ANSWERS
    assert "not shown" in found["rule"]


def test_a_rehearsal_answers_nothing_whatever_its_numbers() -> None:
    for measured in MEASURED.values():
        results = {**run(vs_teacher=measured), "rehearsal": True}
        assert rule.verdict(results)["overall"] == "unknown"
        assert verdicts(results) == ["unknown"]
