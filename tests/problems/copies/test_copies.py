"""Copies of questions are found in other dress, and questions that are nearly the same are told apart."""

import gzip
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from question_copies import CHOICE, NEAR_MISSES, READER, STORY, copies

from w2sr_jax.core.records import Problem
from w2sr_jax.curation.settings import Curation
from w2sr_jax.problems.copies.duplicates import CopyIndex, normalised
from w2sr_jax.problems.settings import Copies, Splits
from w2sr_jax.problems.splits import split

PLAIN = Copies()


def match(original: str, asked: str, settings: Copies = PLAIN) -> str | None:
    return CopyIndex([Problem.of(original, "1")], settings).match(Problem.of(asked, "1"))


def both_ways(one: str, other: str, settings: Copies = PLAIN) -> tuple[bool, bool]:
    return match(one, other, settings) is not None, match(other, one, settings) is not None


def test_recall_and_precision_on_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    reasons = {(one, other): both_ways(one, other) for one, other, _ in copies()}
    mistaken = {pair: both_ways(*pair) for pair in NEAR_MISSES}
    hits, false = (sum(map(sum, pairs.values())) for pairs in (reasons, mistaken))
    recall, precision = hits / (2 * len(reasons)), hits / (hits + false)
    with capsys.disabled():
        print(f"\n{len(reasons)} copies, {len(mistaken)} near misses: recall {recall:.1%}, precision {precision:.1%}")
    assert min(len(reasons), len(mistaken)) >= 60
    assert recall >= 0.95, [pair for pair, says in reasons.items() if not all(says)]
    # The list has four times as many copies as near misses, so the share of near misses is bounded, too.
    assert precision >= 0.98
    assert false <= 0.02 * 2 * len(mistaken), [pair for pair, says in mistaken.items() if any(says)]


def test_the_near_misses_stay_apart_among_all_other_questions() -> None:
    """Against one another and all copies at once, as in a run, nothing is taken for what it is not."""
    index = CopyIndex([Problem.of(one, "1") for one, _, _ in copies()])
    bases = {one for one, _, _ in copies()}
    for _, other in NEAR_MISSES:
        assert other in bases or index.match(Problem.of(other, "1")) is None, other


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (STORY.upper().replace("$2,400", "2400"), "exact"),
        (f"Problem 7. {STORY}", "overlap"),
        (STORY.replace("the end of", "end of"), "overlap"),
        (STORY.replace("18", "17"), None),
    ],
)
def test_the_reason_says_how_it_is_a_copy(asked: str, reason: str | None) -> None:
    assert match(STORY, asked) == reason


NAMES, NUMBERS = Copies(other_names=True), Copies(other_numbers=True)
RENAMED = READER.replace("Lena", "Mia Rose").replace("Paul", "Otto")


@pytest.mark.parametrize(
    ("original", "asked", "copies", "reason"),
    [
        (READER, RENAMED, NAMES, "other_names"),
        (READER, RENAMED, NUMBERS, None),
        (READER, RENAMED, Copies(), None),
        ("Ann has 3 cats. How many legs have they?", "Bob has 3 cats. How many legs have they?", NAMES, "other_names"),
        (READER, READER.replace("24", "25").replace("40", "41"), NUMBERS, "other_numbers"),
        (READER, READER.replace("24", "25"), NAMES, None),
        (READER, RENAMED.replace("24", "25"), Copies(other_names=True, other_numbers=True), "other_numbers"),
        (STORY, "Problem 3. " + STORY.replace("18", "twenty").replace("2,400", "3,300"), NUMBERS, "other_numbers"),
        ("What is 5 + 8?", "What is 6 + 9?", NUMBERS, "other_numbers"),
        ("What is 5 + 8?", "What is 5 - 8?", NUMBERS, None),
        # who asks for other names does not ask for names that change their parts
        (
            "Ann has 3 cats and Bob has 5. How many does Ann have?",
            "Ann has 3 cats and Bob has 5. How many does Bob have?",
            NAMES,
            None,
        ),
        (READER, READER.replace("pages fewer", "pages more"), Copies(other_names=True, other_numbers=True), None),
        (READER, READER, Copies(other_names=True, other_numbers=True), "exact"),
    ],
)
def test_other_names_and_numbers_count_where_they_are_asked_for(
    original: str, asked: str, copies: Copies, reason: str | None
) -> None:
    assert match(original, asked, copies) == reason


def test_splits_and_curation_are_asked_for_what_counts_as_a_copy() -> None:
    pair = [Problem.of(READER, "1"), Problem.of(READER.replace("24", "25"), "1"), Problem.of("a", "1"), Problem.of("b", "1")]
    _, report = split(pair, Splits(pool=2, test=2), 0)
    assert not any(report.removed.values())
    dealt, report = split(pair, Splits(pool=-1, test=1, copies=NUMBERS), 0, test=None)
    assert report.sizes["pool"] + sum(sum(counts.values()) for counts in report.removed.values()) == 3
    assert Curation().copies == Copies()
    assert dealt["test"]


OPTIONS = "\n(A) 360\n(B) 400\n(C) 420"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (CHOICE + OPTIONS, CHOICE, True),
        (CHOICE + OPTIONS, CHOICE + "\nA. 420\nB. 360\nC. 400", True),
        (CHOICE + OPTIONS, CHOICE + OPTIONS.replace("420", "440"), False),
        ("Which of these is prime?" + OPTIONS, "Which of these is prime?", False),
        ("Which of these is prime?" + OPTIONS, "1. Which of these is prime?" + OPTIONS, True),
    ],
)
def test_options_may_be_left_out_but_not_differ(one: str, other: str, same: bool) -> None:
    assert both_ways(one, other) == (same, same)


def test_generated_problems_are_judged_by_their_signature_alone() -> None:
    signed = Problem.of(STORY, "1", meta={"signature": "a"})
    other = Problem.of(STORY.replace("the end of", "end of"), "1", meta={"signature": "b"})
    assert CopyIndex([signed]).match(other) is None
    assert CopyIndex([signed]).match(Problem.of("Something else", "1", meta={"signature": "a"})) == "renamed"
    assert CopyIndex([signed]).match(Problem.of(f"7) {STORY}", "1", meta={"signature": "b"})) == "overlap"


@given(st.text(max_size=80), st.sampled_from([Copies(), NAMES, NUMBERS]))
@settings(deadline=None, max_examples=200)
def test_any_text_is_a_copy_of_itself(text: str, copies: Copies) -> None:
    assert match(text, text, copies) in ("exact", "overlap")
    assert normalised(text) == normalised(f"  {text}\n")


@given(
    st.lists(
        st.sampled_from([*"()[]{}+-*/^=<>|!'.,:;?$ \n", "\\frac", "\\text{", "7", "A)", "x", "**", "<b>", "[asy]"]), max_size=30
    )
)
@settings(deadline=None, max_examples=200)
def test_broken_marks_do_no_harm(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert match(text, text) is not None


@pytest.mark.parametrize("hostile", ["1. ", "A) ", "*a", "{", "\\frac{", "<b ", "(", "x^{", "one hundred ", "\\text{", "[x]("])
def test_a_question_of_a_hundred_thousand_characters_is_read(hostile: str) -> None:
    assert normalised(hostile * (100_000 // len(hostile))) is not None


def real(path: Path) -> list[Problem]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
        return [Problem.of(json.loads(line)["question"], "1") for line in lines]


def copies_in(originals: Path, asked: Path) -> list[str]:
    seen = CopyIndex(real(originals))
    return [problem.question for problem in real(asked) if seen.match(problem)]


def test_what_real_data_sets_share(shared_data: Path) -> None:
    """Every pair found was read: each is one question in two dresses."""
    math = shared_data / "math"
    train, test = math / "math_train.jsonl.gz", math / "math_test.jsonl.gz"
    assert len(copies_in(test, math / "math500.jsonl")) == 500
    assert copies_in(shared_data / "gsm8k" / "test.jsonl", shared_data / "gsm8k" / "train.jsonl") == []
    assert len(copies_in(test, train)) == 10
    assert len(copies_in(math / "amc23.jsonl", math / "gaokao2023en.jsonl")) == 10
    assert len(copies_in(math / "olympiadbench.jsonl", train)) == 4
    assert len(copies_in(math / "olympiadbench.jsonl", test)) == 2
    assert copies_in(math / "college_math.jsonl.gz", train) == ["Simplify $\\sqrt{245}$."]
    assert copies_in(math / "aime24.jsonl", train) == []


def test_questions_of_one_data_set_with_other_answers_are_not_copies(shared_data: Path) -> None:
    """In data sets whose questions are distinct, all that is taken for a copy has the same answer."""
    for name in ("math/math_train.jsonl.gz", "math/math_test.jsonl.gz", "math/olympiadbench.jsonl", "math/svamp.jsonl"):
        path = shared_data / name
        with gzip.open(path, "rt") if path.suffix == ".gz" else open(path) as lines:
            rows = [json.loads(line) for line in lines]
        groups = itertools.groupby(sorted((normalised(row["question"]), row["answer"]) for row in rows), key=lambda row: row[0])
        answers = {
            text: {answer.replace("\\mathbf{2340}", "2340").replace(" ", "") for _, answer in group} for text, group in groups
        }
        assert [text for text, problems in answers.items() if len(problems) > 1] == []
