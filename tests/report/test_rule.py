"""The rule that turns intervals into answers: the same for every run, blind to scores."""

import itertools
import random
from dataclasses import replace

import pytest
from minimal_results import comparison, difference, results
from test_report_verdict import BETWEEN, NO, YES, ladder, run, with_rung

from w2sr_jax.evaluation.arms import ArmTraining, Signal
from w2sr_jax.report import rule
from w2sr_jax.report.results import ANSWERS, Results, RungVerdict

MEASURED = {"yes": YES, "no": NO, "not shown": BETWEEN, "unknown": None}


def verdicts(found: Results) -> list[str]:
    return [rung.verdict for rung in rule.verdict(found).rungs]


@pytest.mark.parametrize("answers", itertools.product(MEASURED, repeat=3))
def test_the_answer_is_the_one_on_which_all_rungs_agree(answers: tuple[str, ...]) -> None:
    found = rule.verdict(ladder(*({"vs_teacher": MEASURED[answer]} for answer in answers)))
    assert [rung.verdict for rung in found.rungs] == list(answers)
    assert found.overall == (answers[0] if len(set(answers)) == 1 else "not shown")


def test_without_rungs_the_answer_is_unknown() -> None:
    assert rule.verdict(results()).overall == "unknown"


def test_one_clear_gain_among_many_tries_is_no_yes() -> None:
    """Twenty students that are no better than their teachers, one of them ahead by chance."""
    rungs = [{"vs_teacher": YES if index == 13 else BETWEEN} for index in range(4)]
    rungs[3] = {"vs_teacher": YES}
    assert rule.verdict(ladder(*rungs)).overall == "not shown"


def test_a_yes_for_all_is_wrong_no_more_often_than_one_interval_is() -> None:
    """Rungs without any gain: the share of ladders that claim one falls with their number instead of growing."""
    rng = random.Random(0)

    def claims(rungs: int) -> float:
        tries = 4000
        found = 0
        for _ in range(tries):
            values = [rng.gauss(0, 1) for _ in range(rungs)]
            made = ladder(*({"vs_teacher": difference(v / 100, (v - 1.96) / 100, (v + 1.96) / 100)} for v in values))
            found += rule.verdict(made).overall == "yes"
        return found / tries

    assert 0.015 < claims(1) < 0.035
    assert claims(2) < 0.005


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [(1e-9, 0.1, "yes"), (0.0, 0.1, "not shown"), (-0.1, 0.0, "not shown"), (-0.1, -1e-9, "no")],
)
def test_a_bound_at_zero_is_not_beyond_it(low: float, high: float, answer: str) -> None:
    assert rule.outcome(difference(0.0, low, high)) == answer
    assert rule.outcome(None) == "unknown"


def test_the_headline_arm_is_fixed_and_not_the_best() -> None:
    better = {"all": comparison(vs_teacher=difference(0.3, 0.2, 0.4)), "gold": comparison(vs_teacher=difference(0.4, 0.3, 0.5))}

    def speaks(**comparisons: object) -> str | None:
        return rule.headline_arm(with_rung(run(), comparisons=comparisons).rungs[0])

    assert speaks(**better, correct=comparison(vs_teacher=NO)) == "correct"
    assert speaks(**better) == "all"
    assert speaks(**better, majority=comparison(vs_teacher=NO)) == "majority"
    assert speaks(gold=better["gold"]) is None
    assert verdicts(with_rung(run(), comparisons={"gold": better["gold"]})) == ["unknown"]


def test_the_field_names_student_and_teacher() -> None:
    found = rule.verdict(ladder({"vs_teacher": YES}, {"vs_teacher": NO, "teacher": "0-small.correct"}))
    assert found.rungs[1] == RungVerdict(1, "medium", "correct", "1-medium.correct", "0-small.correct", "no")
    assert found.overall in ANSWERS
    assert "not shown" in found.rule


def test_a_rehearsal_answers_nothing_whatever_its_numbers() -> None:
    for measured in MEASURED.values():
        rehearsed = replace(run(vs_teacher=measured), rehearsal=True)
        assert rule.verdict(rehearsed).overall == "unknown"
        assert verdicts(rehearsed) == ["unknown"]


def trained(*signals: Signal, after: str | None = None) -> ArmTraining:
    return ArmTraining(signals, after, after is None and signals[0] == "traces", 100, ())


def test_an_arm_that_last_learned_from_anything_but_traces_speaks_only_where_no_other_does() -> None:
    def speaks(**arms: ArmTraining) -> str | None:
        comparisons = dict.fromkeys(arms, comparison(vs_teacher=YES))
        return rule.headline_arm(with_rung(run(), comparisons=comparisons, arms=arms).rungs[0])

    for signal in ("rewards", "answers", "pairs"):
        assert speaks(correct=trained("traces", signal), incorrect=trained("traces")) == "incorrect"
        assert speaks(correct=trained("traces", signal), zzz=trained("traces")) == "zzz"
        assert speaks(correct=trained(signal), rl=trained("rewards")) == "correct"
    assert speaks(correct=trained("rewards", "traces"), all=trained("traces")) == "correct"


def test_reinforcement_alone_is_the_ceiling_else_whatever_ends_in_it() -> None:
    correct, goes_on = trained("traces"), trained("rewards", after="correct")
    both = trained("traces", "rewards")
    alone, more = trained("rewards"), trained("rewards", "rewards", after="rl")
    assert rule.reinforcement({"correct": correct, "correct-rl": goes_on, "both": both}) == ("correct-rl", "both")
    assert rule.reinforcement({"correct-rl": goes_on, "correct": correct, "rl": alone, "rl-more": more}) == ("rl", "rl-more")
    assert rule.reinforcement({"correct": correct, "shift": trained("answers", after="correct")}) == ()
    assert rule.reinforcement({"undone": trained("rewards", "traces")}) == ()
    assert rule.reinforcement({"lost": trained("rewards", after="missing"), "both": both}) == ("lost", "both")
