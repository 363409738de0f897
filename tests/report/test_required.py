"""Requirements held against a report's numbers."""

from dataclasses import replace
from typing import Any

import fabricated_run
import pytest
from minimal_results import difference, gap
from minimal_results import results as minimal
from test_report_verdict import BETWEEN, NO, YES, ladder, with_rung

from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.report import wording
from w2sr_jax.report.requirements.judging import Finding, judged
from w2sr_jax.report.requirements.language import Target, parsed
from w2sr_jax.report.results import Climb, Results

CLIMBED = Climb("1-medium.correct", "tiny", difference(0.1, 0.05, 0.15))


def found(text: str, results: Results, meant: Target | None = None) -> Finding:
    return judged(parsed(text), meant or Target(), results)


def said(finding: Finding) -> str:
    return " | ".join(finding.lines).replace(wording.THIN, " ")


def test_without_a_place_every_rung_must_hold() -> None:
    both = found("vs_teacher>0", ladder({"vs_teacher": YES}, {"vs_teacher": YES}))
    assert both.met
    assert len(both.lines) == 2
    one = found("vs_teacher>0", ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN}))
    assert not one.met
    assert said(one) == (
        "vs_teacher>0: met on rung 0 (“small”, W2SR-P): +12.0 points (+8.0 to +16.5) | "
        "vs_teacher>0: not met on rung 1 (“medium”, W2SR-P): +1.0 points (−2.0 to +5.0), and the lower end decides"
    )


@pytest.mark.parametrize("order", [(YES, BETWEEN), (BETWEEN, YES)])
def test_a_place_asks_of_that_rung_alone(order: tuple[Difference, ...]) -> None:
    results = ladder(*({"vs_teacher": one} for one in order))
    assert [found("0.vs_teacher>0", results, Target(index)).met for index in (0, 1)] == [one is YES for one in order]


@pytest.mark.parametrize(
    ("text", "measured", "met"),
    [
        ("vs_teacher>0", difference(0.1, 0.0, 0.2), False),  # a bound at 0 is not above it
        ("vs_teacher>=0", difference(0.1, 0.0, 0.2), True),
        ("vs_teacher>5%", YES, True),
        ("vs_teacher>8%", YES, False),  # the value is above, the lower end is not
        ("vs_teacher>=-3%", BETWEEN, True),  # not worse by more than three points
        ("vs_teacher>=-1%", BETWEEN, False),
        ("vs_teacher<0", NO, True),
        ("vs_teacher<0", BETWEEN, False),
        ("vs_teacher<=-6%", NO, True),
        ("vs_teacher>0", NO, False),
    ],
)
def test_the_end_of_the_interval_decides(text: str, measured: Difference, met: bool) -> None:
    assert found(text, ladder({"vs_teacher": measured})).met is met


@pytest.mark.parametrize(
    ("text", "comparison", "why"),
    [
        ("vs_teacher>0", {"vs_teacher": None}, "the teacher did not sit the same test"),
        ("pgr>0", {"vs_teacher": None}, "the teacher did not sit the same test"),
        ("vs_base>0", {"vs_teacher": YES}, "its base was not evaluated"),
        ("vs_ceiling<0", {"vs_teacher": YES}, "gold SFT was not evaluated"),
        ("rgr>0", {"vs_teacher": YES}, "base or gold SFT was not evaluated"),
        ("rgr>0", {"rgr_base": gap(None, suppressed="ceiling below anchor")}, "ceiling below anchor"),
        ("accuracy>0", {"vs_teacher": YES}, "it was not evaluated on the test problems"),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_what_is_not_known_is_not_met_either_way_and_says_why(
    text: str, comparison: dict[str, Any], why: str, turned: bool
) -> None:
    text = text.translate(str.maketrans("<>", "><")) if turned else text
    finding = found(text, replace(ladder(comparison), models={}))
    assert not finding.met
    assert "is not known there: " + why in said(finding)


def test_a_share_without_an_upper_bound_is_below_nothing() -> None:
    results = ladder({"rgr_base": gap(0.5, 0.2, None)})
    assert found("rgr>0.1", results).met
    assert not found("rgr<10", results).met
    assert found("rgr<10", ladder({"rgr_base": gap(0.5, 0.2, 0.8)})).met


def test_verdicts_are_of_a_rung_or_of_the_ladder() -> None:
    results = ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN})
    assert found("verdict==not shown", results).met
    assert not found("verdict==yes", results).met
    assert found("0.verdict==yes", results, Target(0)).met
    assert said(found("1.verdict==yes", results, Target(1))) == "1.verdict==yes: not met on rung 1, the verdict is not shown"
    assert not found("9.verdict==yes", results, Target(9)).met


def test_a_rehearsal_is_no_yes() -> None:
    results = replace(ladder({"vs_teacher": YES}), rehearsal=True)
    assert not found("verdict==yes", results).met
    assert found("verdict==unknown", results).met


def test_both_ends_of_the_ladder() -> None:
    results = ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN})
    assert not found("vs_first_teacher>0", results).met
    assert found("vs_first_teacher>0", replace(results, climb=CLIMBED)).met
    assert found("vs_first_teacher>0", ladder({"vs_teacher": YES})).met
    assert not found("vs_first_teacher>0", ladder({"vs_teacher": NO})).met


def test_counts_are_exact() -> None:
    results = ladder({"vs_teacher": YES})
    assert found("test_problems==600", results).met
    assert not found("test_problems>600", results).met
    assert found("seeds==1", results).met
    assert not found("seeds>=3", results).met
    assert not found("test_problems>0", minimal(test_problems=0)).met


def test_other_models_of_a_rung_and_teachers_have_accuracies() -> None:
    results = fabricated_run.results(count=40)
    for meant, name in (
        (Target(0, "gold"), "0-small.gold"),
        (Target(1, "base"), "1-medium.base"),
        (Target(teacher="teacher"), "teacher"),
    ):
        low = results.models[name].scores.accuracy.low
        assert found(f"accuracy>={low!r}", results, meant).met
        assert not found(f"accuracy>{low!r}", results, meant).met
    ceiling = results.rungs[0].comparisons["gold"].vs_teacher
    assert ceiling is not None
    assert found("vs_teacher>0", results, Target(0, "gold")).met == (ceiling.low > 0)
    assert "held against no other" in said(found("vs_teacher>0", results, Target(0, "base")))


def test_nothing_trained_meets_nothing() -> None:
    for text in ("vs_teacher>0", "vs_teacher<0", "accuracy>=0", "verdict==yes"):
        assert not found(text, minimal()).met
    bare = with_rung(ladder({"vs_teacher": YES}), comparisons={})
    assert "no student learnt from a teacher there" in said(found("vs_teacher>0", bare))
    assert "rung 3 is not in the report yet" in said(found("vs_teacher>0", bare, Target(3)))
