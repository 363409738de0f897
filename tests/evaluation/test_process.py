"""Process metrics on texts written by hand."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.core.records import Trace
from w2sr_jax.evaluation import process
from w2sr_jax.evaluation.process import Quantiles, Rate

GOOD = "16 - 4 = 12 ; 12 * 2 = 24 #### 24"
BAD = "16 - 4 = 11 ; 11 * 2 = 22 #### 22"


def trace(text: str, **changes: object) -> Trace:
    answer = text.rpartition("####")[2].strip() if "####" in text else None
    made = Trace("i", "p", "m", 0, text, answer, "correct", "stop", 12, None, "")
    return dataclasses.replace(made, **changes)


def test_step_validity_counts_equations_and_says_how_many_traces_have_any() -> None:
    found = process.step_validity([GOOD, BAD, "no idea"])
    assert (found.valid, found.parsed) == (3, 4)
    assert found.value == 0.75
    assert found.coverage == pytest.approx(2 / 3)


def test_step_validity_of_nothing_is_not_a_number() -> None:
    assert process.step_validity(["no idea"]).value is None
    assert process.step_validity([]).coverage is None


def test_consistency_is_over_traces_whose_steps_and_answer_can_be_compared() -> None:
    traces = [trace(GOOD), trace("16 - 4 = 12 #### 13"), trace("no idea")]
    assert process.process(traces).consistency == Rate(0.5, 2)


@pytest.mark.parametrize(
    ("text", "marked", "overruns"),
    [
        (GOOD, ["24"], False),
        ("#### 3\nwait\n#### 4", ["3", "4"], True),
        ("#### 1,200 . then #### $1200", ["1,200 . then", "$1200"], True),
        (r"\boxed{\frac{1}{2}} or rather \boxed{2}", [r"\frac{1}{2}", "2"], True),
        (r"\boxed{1,200} again \boxed{1200.0}", ["1,200", "1200.0"], False),
        ("nothing", [], None),
    ],
)
def test_overrun(text: str, marked: list[str], overruns: bool | None) -> None:
    assert process.marked_answers(text) == marked
    assert process.overruns(text) is overruns


@given(st.text(alphabet="#\\boxed{} 12\n", max_size=60))
def test_marked_answers_never_fail_on_damaged_text(text: str) -> None:
    assert all(isinstance(answer, str) for answer in process.marked_answers(text))


def test_truncation_and_unparsed_lengths() -> None:
    traces = [
        trace(GOOD, tokens=10),
        trace(BAD, tokens=30, verdict="incorrect"),
        trace("x", finish="length", tokens=50, verdict="unparsed"),
    ]
    found = process.process(traces)
    assert found.truncation.value == pytest.approx(1 / 3)
    assert found.length.unit == "tokens"
    assert found.length.correct == Quantiles(10, 10, 10, 1)
    assert found.length.incorrect == Quantiles(32, 40, 48, 2)


def test_lengths_are_in_words_where_tokens_are_unknown() -> None:
    found = process.length([trace("one two three", tokens=0)])
    assert found.unit == "words"
    assert found.correct is not None
    assert found.correct.p50 == 3
    assert found.incorrect is None


def test_self_consistency_is_the_chance_that_two_samples_agree() -> None:
    samples = [
        trace("#### 24"),
        trace("#### 24.0"),
        trace("#### 22", verdict="incorrect"),
        trace("none", verdict="unparsed"),
        *[trace("#### 5", problem_id="q", verdict="incorrect") for _ in range(2)],
    ]
    found = process.self_consistency(samples)
    assert found.value == pytest.approx(((2**2 + 1) / 16 + 1) / 2)
    assert found.n == 2
    assert process.self_consistency([]).value is None
