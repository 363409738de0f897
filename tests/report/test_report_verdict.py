"""What the two sentences say for each way a run can end."""

from typing import Any

import pytest

from w2sr_jax.report import wording
from w2sr_jax.report.verdict import headline_arm, verdict


def difference(value: float, low: float, high: float, **more: Any) -> dict[str, Any]:
    return {"difference": value, "low": low, "high": high, "n": 600, "left": 0.6 + value, "right": 0.6, **more}


def gap(
    value: float | None, low: float | None = None, high: float | None = None, suppressed: str | None = None
) -> dict[str, Any]:
    return {
        "value": value,
        "low": low,
        "high": high,
        "suppressed": suppressed,
        "raw": {"student": 0.7, "anchor": 0.1, "ceiling": 0.85},
    }


def run(arm: str = "correct", **comparison: Any) -> dict[str, Any]:
    made = {"vs_teacher": difference(0.12, 0.08, 0.165), "rgr_base": gap(0.81, 0.74, 0.88), "confidence": 0.95, **comparison}
    return {
        "seeds": [0],
        "test_problems": 600,
        "rungs": [{"index": 0, "name": "small", "teachers": ["tiny"], "models": {}, "comparisons": {arm: made}}],
    }


def said(results: dict[str, Any]) -> str:
    found = verdict(results)
    return f"{found.growth} {found.recovery}".replace(wording.THIN, " ")


def test_a_clear_gain() -> None:
    found = verdict(run())
    assert found.tone == "yes"
    assert said(run()) == (
        "Yes: the student “small” (W2SR-P) outgrew its teacher “tiny”, answering 72.0 % right against 60.0 % on 600 test "
        "problems: +12.0 points (95 % interval +8.0 to +16.5). It recovered 81 % (95 % interval 74 to 88 %) of the gap between "
        "its own base (10.0 %) and gold SFT (85.0 %)."
    )


@pytest.mark.parametrize("bounds", [(-0.02, 0.05), (0.0, 0.05), (-0.05, 0.0)])
def test_an_interval_that_holds_zero_claims_nothing(bounds: tuple[float, float]) -> None:
    results = run(vs_teacher=difference(0.01, *bounds))
    assert verdict(results).tone == "unclear"
    assert "Not shown" in said(results)
    assert "outgrew" not in said(results)
    assert "includes 0" in said(results)


def test_a_clear_loss() -> None:
    results = run(vs_teacher=difference(-0.1, -0.14, -0.06))
    assert verdict(results).tone == "no"
    assert "stayed below its teacher" in said(results)
    assert "−10.0 points (95 % interval −14.0 to −6.0)" in said(results)


def test_a_teacher_without_a_score() -> None:
    results = run(vs_teacher=None)
    assert verdict(results).tone == "missing"
    assert "cannot be said" in said(results)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "is not known"),
        (gap(None, suppressed="gap not distinguishable from 0"), "cannot be told apart from its own base"),
        (gap(None, suppressed="ceiling below anchor"), "lies below its own base"),
        (gap(0.05, -0.02, 0.12), "cannot be said to have recovered any"),
        (gap(-0.2, -0.3, -0.1), "recovered nothing"),
        (gap(1.1, 1.02, 1.2), "more than all of the gap"),
        (gap(1.01, 0.95, 1.08), "recovered 101 %"),
        (gap(0.5, 0.2, None), "20 to no bound %"),
    ],
)
def test_the_gap_in_words(found: dict[str, Any] | None, words: str) -> None:
    assert words in said(run(rgr_base=found))


def test_a_share_of_next_to_nothing_is_not_announced() -> None:
    tiny = {**gap(4.0, 2.0, 12.5), "raw": {"student": 0.018, "anchor": 0.0, "ceiling": 0.005}}
    assert "too little to recover" in said(run(rgr_base=tiny))
    assert "400" not in said(run(rgr_base=tiny))


def test_pooled_seeds_say_in_how_many_the_student_is_ahead() -> None:
    seeds = [difference(0.1, 0.05, 0.15), difference(0.12, 0.06, 0.2), difference(0.01, -0.03, 0.06)]
    results = {**run(vs_teacher=difference(0.08, 0.02, 0.14, by_seed=seeds)), "seeds": [0, 1, 2]}
    assert "3 seeds pooled (clearly ahead in 2 of 3)" in said(results)
    assert any("3 seeds are few" in note for note in verdict(results).notes)


def test_the_headline_arm_is_fixed_and_not_the_best() -> None:
    results = run()
    comparisons = results["rungs"][0]["comparisons"]
    comparisons["all"] = {"vs_teacher": difference(0.3, 0.2, 0.4)}
    comparisons["gold"] = {"vs_teacher": difference(0.4, 0.3, 0.5)}
    assert headline_arm(results["rungs"][0]) == "correct"
    del comparisons["correct"]
    assert headline_arm(results["rungs"][0]) == "all"
    del comparisons["all"]
    assert headline_arm(results["rungs"][0]) is None
    assert "has not been compared" in said(results)


def test_the_last_rung_speaks_and_lower_ones_are_noted() -> None:
    results = run()
    results["rungs"].insert(
        0, {"index": 1, "name": "large", "comparisons": {"correct": {"vs_teacher": difference(-0.01, -0.05, 0.03)}}}
    )
    found = verdict(results)
    assert "“large”" in found.growth
    assert found.tone == "unclear"
    assert any("“small” (W2SR-P) outgrew its teacher" in note for note in found.notes)


def test_a_base_that_was_already_better_is_admitted() -> None:
    base = {"difference": 0.02, "low": -0.01, "high": 0.05, "left": 0.72, "right": 0.70, "n": 600}
    notes = " ".join(verdict(run(vs_base=base)).notes)
    assert "already no worse than this teacher" in notes
    assert "not clearly above its own base" in notes


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (360_000, "360 k"),
        (1.2e6, "1.20 M"),
        (99_960, "100 k"),
        (7.28e12, "7.28 T"),
    ],
)
def test_quantities(number: float | None, text: str) -> None:
    assert wording.quantity(number).replace(wording.THIN, " ") == text.replace("1.00", "1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds).replace(wording.THIN, " ") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.1234, "+12.3"), (-0.1234, "−12.3"), (0.0, "0.0"), (-0.0001, "0.0"), (0.0001, "0.0"), (None, "–")]
)
def test_signed_points(share: float | None, text: str) -> None:
    assert wording.points(share) == text
