"""What the headline says for each way a run can end."""

from dataclasses import replace
from typing import Any

import pytest
from minimal_results import comparison, difference, gap, model, results, rung

from w2sr_jax.evaluation.statistics import Gap, Triple
from w2sr_jax.report import wording
from w2sr_jax.report.headline import headline
from w2sr_jax.report.notes import notes
from w2sr_jax.report.results import Climb, Results, TeacherTraces

YES, NO, BETWEEN = difference(0.12, 0.08, 0.165), difference(-0.1, -0.14, -0.06), difference(0.01, -0.02, 0.05)
NAMES = ("small", "medium", "large", "huge")


def run(arm: str = "correct", **found: Any) -> Results:
    return ladder({**{"vs_teacher": YES, "rgr_base": gap(0.81, 0.74, 0.88)}, **found}, arm=arm)


def ladder(*comparisons: dict[str, Any], arm: str = "correct") -> Results:
    """A run with one rung for each comparison."""
    names = [f"{index}-{name}.{arm}" for index, name in enumerate(NAMES[: len(comparisons)])]
    rungs = [
        rung(index, NAMES[index], ["tiny" if index == 0 else names[index - 1]], {arm: names[index]}, {arm: comparison(**found)})
        for index, found in enumerate(comparisons)
    ]
    return results(rungs, {name: model("student", index, arm) for index, name in enumerate(names)})


def with_rung(found: Results, **changes: Any) -> Results:
    """The same run with another first rung."""
    return replace(found, rungs=(replace(found.rungs[0], **changes), *found.rungs[1:]))


def said(results: Results) -> str:
    return " ".join(headline(results).lines()).replace(wording.THIN, " ")


def noted(results: Results) -> str:
    return " ".join(notes(results)).replace(wording.THIN, " ")


def test_a_clear_gain_of_a_single_student() -> None:
    assert headline(run()).question == "did the student outgrow its teacher?"
    assert headline(run()).overall == "yes"
    assert said(run()) == (
        "Yes: the student “small” (W2SR-P) outgrew its teacher “tiny”, answering 72.0 % right against 60.0 % on 600 test "
        "problems: +12.0 points (95 % interval +8.0 to +16.5)."
    )
    assert noted(run()).startswith(
        "It recovered 81 % (95 % interval 74 to 88 %, n = 600) of the gap between its own base (10.0 %) and gold SFT (85.0 %)."
    )


def test_every_rung_has_its_sentence_in_order_and_the_answer_comes_last() -> None:
    climbed = ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN})
    found = headline(replace(climbed, rungs=climbed.rungs[::-1]))
    assert found.question == "did the students outgrow their teachers?"
    assert [str(sentence).replace(wording.THIN, " ") for sentence in found.rungs] == [
        "Rung 0, yes: the student “small” (W2SR-P) outgrew its teacher “tiny”, answering 72.0 % right against 60.0 % on 600 test "
        "problems: +12.0 points (95 % interval +8.0 to +16.5).",
        "Rung 1, not shown: the student “medium” (W2SR-P) cannot be told apart from its teacher “small, W2SR-P”, answering "
        "61.0 % right against 60.0 % on 600 test problems: +1.0 points (95 % interval −2.0 to +5.0, which includes 0).",
    ]
    assert found.lines()[-1] == found.answer
    assert found.answer == (
        "Answer: yes on rung 0 (“small”) and not shown on rung 1 (“medium”); for the ladder as a whole, not shown."
    )
    assert found.overall == "not shown"


@pytest.mark.parametrize(
    ("measured", "answer"),
    [
        ((YES, YES, YES), "Answer: yes, on every rung."),
        ((NO, NO), "Answer: no, on no rung."),
        ((BETWEEN, BETWEEN), "Answer: not shown, on any rung."),
        ((None, None), "Answer: unknown, on every rung."),
        (
            (YES, NO, YES),
            "Answer: yes on rungs 0 (“small”) and 2 (“large”) and no on rung 1 (“medium”); for the ladder as a whole, not shown.",
        ),
        ((None, YES), "Answer: yes on rung 1 (“medium”) and unknown on rung 0 (“small”); for the ladder as a whole, not shown."),
    ],
)
def test_the_answer_names_the_rungs_where_they_differ(measured: tuple[Any, ...], answer: str) -> None:
    assert headline(ladder(*({"vs_teacher": found} for found in measured))).answer == answer


@pytest.mark.parametrize("bounds", [(-0.02, 0.05), (0.0, 0.05), (-0.05, 0.0)])
def test_an_interval_that_holds_zero_claims_nothing(bounds: tuple[float, float]) -> None:
    close = run(vs_teacher=difference(0.01, *bounds))
    assert headline(close).overall == "not shown"
    assert said(close).startswith("Not shown: ")
    assert "outgrew" not in said(close)
    assert "includes 0" in said(close)


def test_a_clear_loss() -> None:
    lost = run(vs_teacher=NO)
    assert headline(lost).overall == "no"
    assert "No: the student “small” (W2SR-P) stayed below its teacher" in said(lost)
    assert "−10.0 points (95 % interval −14.0 to −6.0)" in said(lost)


def test_a_teacher_without_a_score() -> None:
    untested = run(vs_teacher=None)
    assert headline(untested).overall == "unknown"
    assert "cannot be said, since the teacher did not sit the same test." in said(untested)


def recorded(*paths: str, others: int = 0, kind: str = "Recorded") -> Results:
    """A run whose teachers are files, and `others` that are not."""
    names = [f"file-{index}" for index in range(len(paths))]
    types = f"w2sr_jax.teachers.settings:{kind}"
    settings = [{"type": types, "name": name, "path": path} for name, path in zip(names, paths)]
    untested = with_rung(run(vs_teacher=None), teachers=(*names, *["tiny"] * others))
    return replace(untested, experiment={"teachers": settings})


def test_a_recorded_teacher_without_answers_to_the_test_says_what_file_would_have_them() -> None:
    text = said(recorded("data/staff.jsonl"))
    assert "its teacher “file-0” cannot be said, since staff.jsonl holds no answers to the test problems" in text
    assert "the file that also has a trace for each of the 600 test questions would tell" in text
    assert "no student is trained on them" in text
    both = said(recorded("a.jsonl", "b.parquet"))
    assert "its teachers “file-0” and “file-1” cannot be said, since a.jsonl and b.parquet hold no answers" in both
    assert "hf:owner" not in said(recorded("hf:owner/name:train"))
    assert "name:train holds no answers" in said(recorded("hf:owner/name:train"))
    assert "a.jsonl" not in said(replace(recorded("a.jsonl"), rehearsal=True))


def test_files_are_not_asked_for_where_another_kind_of_teacher_is_missing() -> None:
    assert "did not sit the same test" in said(recorded("a.jsonl", others=1))
    assert "did not sit the same test" in said(recorded("a.jsonl", kind="Served"))
    odd: tuple[object, ...] = (["odd"], "odd", None)
    for teachers in odd:
        assert "did not sit the same test" in said(replace(recorded("a.jsonl"), experiment={"teachers": teachers}))


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (gap(None, suppressed="gap not distinguishable from 0"), "cannot be told apart from its own base"),
        (gap(None, suppressed="ceiling below anchor"), "lies below its own base"),
        (gap(0.05, -0.02, 0.12), "cannot be said to have recovered any"),
        (gap(-0.2, -0.3, -0.1), "recovered nothing"),
        (gap(1.1, 1.02, 1.2), "more than all of the gap"),
        (gap(1.01, 0.95, 1.08), "recovered 101 %"),
        (gap(0.5, 0.2, None), "20 to no bound %"),
    ],
)
def test_the_gap_in_words(found: Gap, words: str) -> None:
    assert words in noted(run(rgr_base=found))


def test_an_unknown_gap_is_not_talked_about() -> None:
    assert "recover" not in noted(run(rgr_base=None))


def test_a_share_of_next_to_nothing_is_not_announced() -> None:
    tiny = gap(4.0, 2.0, 12.5, raw=Triple(0.018, 0.0, 0.005))
    assert "too little to recover" in noted(run(rgr_base=tiny))
    assert "400" not in noted(run(rgr_base=tiny))


def test_notes_name_the_student_where_there_are_several() -> None:
    gaps = [{"vs_teacher": YES, "rgr_base": gap(0.8, 0.7, 0.9)}, {"vs_teacher": NO, "rgr_base": gap(0.3, 0.2, 0.4)}]
    assert "“small” recovered 80 %" in noted(ladder(*gaps))
    assert "“medium” recovered 30 %" in noted(ladder(*gaps))


def test_pooled_seeds_say_in_how_many_the_student_is_ahead() -> None:
    seeds = (difference(0.1, 0.05, 0.15), difference(0.12, 0.06, 0.2), difference(0.01, -0.03, 0.06))
    pooled = replace(run(vs_teacher=difference(0.08, 0.02, 0.14, by_seed=seeds)), seeds=(0, 1, 2))
    assert "3 seeds pooled (clearly ahead in 2 of 3)" in said(pooled)
    assert "3 seeds are few" in noted(pooled)


def test_both_ends_of_the_ladder_are_held_against_each_other() -> None:
    bare = ladder({"vs_teacher": YES}, {"vs_teacher": BETWEEN})
    assert headline(bare).climb == ""
    climb = Climb("1-medium.correct", "tiny", difference(0.13, 0.09, 0.17))
    assert headline(replace(bare, climb=climb)).climb.replace(wording.THIN, " ") == (
        "From end to end: the last student “medium, W2SR-P” answered 73.0 % right against 60.0 % of the first teacher “tiny” "
        "on 600 test problems: +13.0 points (95 % interval +9.0 to +17.0)."
    )
    assert headline(replace(run(), climb=climb)).climb == ""


def test_a_rehearsal_says_so_first_and_answers_nothing() -> None:
    rehearsed = replace(run(), rehearsal=True)
    lines = headline(rehearsed).lines()
    assert lines[0].startswith("Rehearsal: tiny models that began with random weights")
    assert headline(rehearsed).overall == "unknown"
    assert lines[-1] == "Answer: unknown, since this is a rehearsal."
    assert not {"outgrew", "Yes"} & set(said(rehearsed).split())
    assert "+12.0 points" in said(rehearsed)
    assert "Rehearsal" not in said(run())


def test_without_a_student_there_is_no_answer() -> None:
    assert said(results()) == "Unknown: no student has been trained yet, so there is nothing to compare with the teacher."
    ceiling = run(arm="gold")
    assert "has not been compared" in said(ceiling)
    assert headline(ceiling).overall == "unknown"
    assert noted(ceiling) == ""


def test_a_base_that_was_already_better_is_admitted() -> None:
    base = difference(0.02, -0.01, 0.05, left=0.72, right=0.70)
    text = noted(run(vs_base=base))
    assert "was already no worse than its teacher before fine-tuning (70.0 % against 60.0 %, n = 600)" in text
    assert "is not clearly above its own base (+2.0 points, −1.0 to +5.0, n = 600)" in text
    assert "own base" not in noted(run(vs_base=difference(0.5, 0.4, 0.6, right=0.1), rgr_base=None))


def test_the_texts_that_a_student_learnt_from_are_counted() -> None:
    counted = TeacherTraces("tiny", 4200, 4000, 1760, 0.44)
    assert "could learn from: “tiny” 44.0 % of 4,000." in noted(with_rung(run(), traces=(counted,)))
    assert "could learn from" not in noted(with_rung(run(), traces=(replace(counted, accuracy=None),)))


def test_a_small_test_is_admitted_with_its_size() -> None:
    assert "Only 60 test problems" in noted(replace(run(), test_problems=60))
    assert "test problems" not in noted(replace(run(), test_problems=200)).replace("choice of test problems", "")
