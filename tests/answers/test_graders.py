"""Graders that a configuration can name: what each calls right, wrong and unparsed."""

import dataclasses
import random
import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.answers.choice import LETTERS, read
from w2sr_jax.answers.grade import grade_all
from w2sr_jax.answers.graders import ChoiceGrader, ExactGrader, NumericGrader, RegexGrader
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem

CITIES = ["Paris", "London", "Rome", "Paris, Texas"]


def problem(answer: str | None, options: list[str] | None = None) -> Problem:
    return Problem.of("q", answer, meta={"options": options} if options else {})


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Answer: C", "C"),
        ("\\boxed{C}", "C"),
        ("(C)", "C"),
        ("the answer is C.", "C"),
        ("The answer is Rome.", "C"),
        ("Rome", "C"),
        ("So it is Rome, of course.", "C"),
        ("**Answer:** **(B)**", "B"),
        ("The final answer is (C) Rome", "C"),
        ("The correct answer is:\nC", "C"),
        ("Option B is the correct answer", "B"),
        ("I would choose B", "B"),
        ("#### (d)", "D"),
        ("$\\boxed{\\text{(C) Rome}}$.", "C"),
        ("Answer: C because Rome is there", "C"),
        ("answer: c) rome", "C"),
        ("Therefore the capital is Paris, Texas", "D"),  # "Paris" is part of it
        ("The answer is A. Wait, no. The answer is C.", "C"),
        ("Answer: A\n\nOn reflection the answer is D.", "D"),
        ("Options:\nA) Paris\nB) London\nI think it is Rome", "C"),
        ("(C) Rome has been the capital since 1871", "C"),
        ("**C) Rome**", "C"),
    ],
)
def test_a_letter_is_read_however_it_is_said(text: str, letter: str) -> None:
    options = problem("C", CITIES)
    verdict = ChoiceGrader()(text, options)
    assert (verdict.answer, verdict.verdict) == (letter, "correct" if letter == "C" else "incorrect")
    assert ChoiceGrader()(text, dataclasses.replace(options, answer=None)).verdict == "ungraded"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no idea",
        "The answer is a city",
        "A dog ran by",
        "Answer: A or C",
        "Answer: (A), (C)",
        "Answer: Both A and B",
        "\\boxed{A} or \\boxed{C}",
        "Answer: C) Paris",  # the words are A's
        "It might be (A) or (B)",
        "The answer is not (A)",
        "A) is wrong. B) is wrong.",
        "Paris or London",
    ],
)
def test_what_is_ambiguous_is_unparsed(text: str) -> None:
    assert ChoiceGrader()(text, problem("A", CITIES)).verdict == "unparsed"


@given(st.permutations(["x^2", "17", "the mitochondrion", "none of the above", "\\frac{1}{2}"]), st.integers(0, 4))
def test_an_options_words_stand_for_its_letter(options: list[str], right: int) -> None:
    gold = problem(LETTERS[right], options)
    for text in (
        f"The answer is {options[right]}.",
        f"\\boxed{{{options[right]}}}",
        f"Answer: ({LETTERS[right]}) {options[right]}",
    ):
        assert ChoiceGrader()(text, gold).verdict == "correct"
        assert ChoiceGrader()(text, problem(LETTERS[(right + 1) % 5], options)).verdict == "incorrect"


def test_a_letter_beats_an_option_that_reads_like_one() -> None:
    assert read("Answer: B", ["A", "O", "B", "AB"], "ABCD").letter == "B"
    assert read("\\boxed{AB}", ["A", "O", "B", "AB"], "ABCD").letter == "D"


def test_numbers_within_numbers_are_no_options() -> None:
    assert read("we get 12 in all", ["12", "7"], "AB").letter == "A"
    for text in ("we get 12.5 in all", "we get 3.12 in all", "we get -12 in all", "we get 112 in all"):
        assert read(text, ["12", "7"], "AB").letter is None


@given(st.text(max_size=200) | st.text("ABCDabcd()[]{}*_\\ #:.,\nboxedanswr is", max_size=200))
@settings(deadline=None)
def test_no_text_breaks_choosing(text: str) -> None:
    verdict = read(text, CITIES, "ABCD")
    assert verdict.letter is None or verdict.letter in "ABCD"


def test_hostile_texts_are_read_quickly() -> None:
    parts = ("answer: ", "\\text{", "A is ", "(A)", "\\boxed{", "A and ", "*_", "#### A ", "}", "option ", "[ ", "\n")
    texts = [part * (30_000 // len(part)) for part in parts]
    texts += ["".join(random.Random(seed).choices(parts, k=5000)) for seed in range(5)]
    started = time.process_time()
    for text in texts:
        read(text, CITIES, "ABCD")
    assert time.process_time() - started < 20  # quadratic reading takes minutes


def test_a_gold_that_is_no_letter_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"gold answer '42', which is no letter .*Fields.choices"):
        ChoiceGrader()("Answer: A", problem("42"))
    for gold in ("E", "AB", "Paris"):
        with pytest.raises(UserError, match="no letter"):
            ChoiceGrader()("Answer: A", problem(gold, CITIES))


@pytest.mark.parametrize(
    ("grader", "text", "gold", "verdict"),
    [
        (ExactGrader(), "The answer is Tuesday.", "tuesday", "correct"),
        (ExactGrader(case=True), "The answer is Tuesday.", "tuesday", "incorrect"),
        (ExactGrader(), "#### New   York", "New York", "correct"),
        (ExactGrader(spaces=True), "#### New   York", "New York", "incorrect"),
        (ExactGrader(), "#### it's", "its", "incorrect"),
        (ExactGrader(punctuation=False), "#### it's", "its", "correct"),
        (ExactGrader(), "#### the cat", "cat", "incorrect"),
        (ExactGrader(articles=False), "#### the cat", "cat", "correct"),
        (ExactGrader(), "#### 2.0", "2", "incorrect"),  # exact is exact
        (ExactGrader(), "", "2", "unparsed"),
        (ExactGrader(whole=True), " yes\n", "Yes", "correct"),
        (ExactGrader(whole=True), "I say yes", "yes", "incorrect"),
        (ExactGrader(whole=True), " ", "yes", "unparsed"),
        (ExactGrader(), "#### yes", None, "ungraded"),
        (NumericGrader(), "#### 0.5", "1/2", "correct"),
        (NumericGrader(), "#### 0.51", "0.5", "incorrect"),
        (NumericGrader(absolute=0.011), "#### 0.51", "0.5", "correct"),
        (NumericGrader(relative=0.01), "#### 1009", "1,000", "correct"),
        (NumericGrader(relative=0.01), "#### 1011", "1,000", "incorrect"),
        (NumericGrader(relative=0.01), "#### -1000", "1,000", "incorrect"),
        (NumericGrader(relative=0.05), "\\boxed{1.6 \\times 10^{5}}", "1.61e5", "correct"),
        (NumericGrader(relative=0.05), "\\boxed{1.6 \\times 10^{6}}", "1.61e5", "incorrect"),
        (NumericGrader(absolute=9), "#### x+1", "3", "unparsed"),
        (NumericGrader(absolute=9), "", "3", "unparsed"),
        (NumericGrader(absolute=9), "#### 3", "x+1", "ungraded"),
        (NumericGrader(absolute=9), "#### 3", None, "ungraded"),
        (RegexGrader(), "Answer: 7\nAnswer: 8", "8.0", "correct"),
        (RegexGrader(take="first"), "Answer: 7\nAnswer: 8", "8", "incorrect"),
        (RegexGrader(), "the result is 8", "8", "unparsed"),
        (RegexGrader(r"<(?P<answer>\w+)>(x)?"), "<Yes>", "Yes", "correct"),
        (RegexGrader(r"<(\w+)>"), "<yes>", "Yes", "incorrect"),
        (RegexGrader(r"<(\w+)>", ignore_case=True), "<yes>", "Yes", "correct"),
        (RegexGrader(r"\d+$"), "it is 12", "12", "correct"),
        (RegexGrader(r"=(.*)"), "x =  ", "12", "unparsed"),
        (RegexGrader(r"=(.*)"), "x = 3", None, "ungraded"),
    ],
)
def test_verdicts(grader: ExactGrader | NumericGrader | RegexGrader, text: str, gold: str | None, verdict: str) -> None:
    assert grader(text, problem(gold)).verdict == verdict
    assert [result.verdict for result in grade_all(grader, [text] * 2, [problem(gold)] * 2)] == [verdict] * 2


@given(
    st.decimals(-1000, 1000, places=3),
    st.decimals(-1000, 1000, places=3),
    st.integers(0, 64).map(lambda n: n / 64),
    st.integers(0, 64).map(lambda n: n / 64),
)
def test_tolerance_is_exact(answer: Decimal, gold: Decimal, absolute: float, relative: float) -> None:
    verdict = NumericGrader(absolute, relative)(f"#### {answer}", problem(f"{gold}"))
    near = abs(answer - gold) <= max(Decimal(absolute), Decimal(relative) * abs(gold))
    assert verdict.verdict == ("correct" if near else "incorrect")


@given(st.text(max_size=60))
def test_no_text_breaks_the_others(text: str) -> None:
    for grader in (ExactGrader(), NumericGrader(0.1), RegexGrader(r"(\w+)\W*$")):
        verdict = grader(text, problem("5"))
        assert (verdict.verdict == "unparsed") >= (verdict.answer is None)


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"^(([a-z])+.)+[A-Z]([a-z])+$", r"(x+x+)+y|(a|aa)+b"])
def test_a_pattern_that_takes_for_ever_is_given_up(pattern: str) -> None:
    grader = RegexGrader(pattern, timeout=0.2)
    started = time.process_time()
    verdict = grader("a" * 28_000 + "!", problem("5"))
    assert (verdict.verdict, verdict.grader) == ("unparsed", "timeout")
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RegexGrader("(unclosed"), r"'\(unclosed' is no regular expression: .*missing \)"),
        (lambda: RegexGrader(timeout=0.0), "timeout is 0.0; it must be more than 0 seconds"),
        (lambda: NumericGrader(absolute=-1.0), "absolute is -1.0; it must be a number of 0 or more"),
        (lambda: NumericGrader(relative=float("nan")), "relative is nan"),
    ],
)
def test_impossible_settings_are_one_sentence(make: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        make()  # type: ignore[operator]
