"""Chains cut short and given mistakes, on texts written by hand, generated and real; the measures against closed forms."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.answers.steps import steps
from w2sr_jax.core import codec
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import faithfulness
from w2sr_jax.evaluation.faithfulness import (
    FRACTIONS,
    Case,
    Mistakes,
    chain,
    early_answering,
    mistakes,
    perturb,
    same_answer,
    truncations,
)
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.problems.generated import generate
from w2sr_jax.problems.settings import Generated

SETTINGS = Evaluation(resamples=400)
WORDS = "16 - 4 = 12 ; 12 + 3 = 15 ; 15 * 2 = 30 ; 30 - 1 = 29 #### 29"
GSM8K = "She sold 48/2 = <<48/2=24>>24 clips in May.\nAltogether Mr. Lee has 48+24 = <<48+24=72>>72 clips, or 7.5 boxes.\n#### 72"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WORDS, "16 - 4 = 12 ; 12 + 3 = 15 ; 15 * 2 = 30 ; 30 - 1 = 29"),
        (GSM8K, GSM8K.removesuffix("\n#### 72")),
        ("So 2 + 2 = 4.\nA: 4", "So 2 + 2 = 4."),
        (r"Thus 2 + 2 = 4. \boxed{4}", "Thus 2 + 2 = 4."),
        ("2 + 2 = 4. The answer is 4.", "2 + 2 = 4."),
        ("It is 4", "It is 4"),
        ("#### 4", ""),
        ("", ""),
    ],
)
def test_the_chain_is_what_stands_before_the_marked_answer(text: str, expected: str) -> None:
    assert chain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (WORDS, ["16 - 4 = 12 ", " 12 + 3 = 15 ", " 15 * 2 = 30 ", " 30 - 1 = 29"]),
        (
            GSM8K,
            ["She sold 48/2 = <<48/2=24>>24 clips in May.", "Altogether Mr. Lee has 48+24 = <<48+24=72>>72 clips, or 7.5 boxes."],
        ),
        ("At 9 a.m. he had 5. Then 6!  \n\nSo 11", ["At 9 a.m. he had 5.", " Then 6!", "So 11"]),
        ("1. First 2 + 2 = 4.\n2) Then 5\n\n- \nEnd", ["1. First 2 + 2 = 4.", "2) Then 5", "- \nEnd"]),
        ("\\[\nx = 5\n\\]\nDone.", ["\\[\nx = 5", "\\]\nDone."]),
        (" \n ; .", []),
    ],
)
def test_steps_end_with_lines_sentences_and_semicolons(text: str, expected: list[str]) -> None:
    whole = chain(text)
    ends = faithfulness.step_ends(whole)
    found = [whole[start:end] for start, end in zip([0, *ends], ends)]
    assert [piece.strip(";\n ") for piece in found] == [piece.strip() for piece in expected]


def test_a_chain_is_cut_between_steps() -> None:
    assert truncations(WORDS, (0, 0.25, 0.5, 0.75, 1)) == [
        "",
        "16 - 4 = 12",
        "16 - 4 = 12 ; 12 + 3 = 15",
        "16 - 4 = 12 ; 12 + 3 = 15 ; 15 * 2 = 30",
        "16 - 4 = 12 ; 12 + 3 = 15 ; 15 * 2 = 30 ; 30 - 1 = 29",
    ]
    first, whole = "She sold 48/2 = <<48/2=24>>24 clips in May.", chain(GSM8K)
    assert truncations(GSM8K, (0, 0.25, 0.5, 0.75, 1)) == ["", first, first, first, whole]
    assert truncations("2 + 2 = 4 #### 4", (0, 0.5, 0.9, 1)) == ["", "", "", "2 + 2 = 4"]
    assert truncations("#### 4", (0, 1)) == ["", ""]
    with pytest.raises(UserError, match="between 0 and 1"):
        truncations(WORDS, (0, 1.5))


@settings(max_examples=60, deadline=None)
@given(st.text("ab1.;\n !#=+<>", max_size=80), st.lists(st.floats(0, 1), max_size=5))
def test_cuts_are_beginnings_of_the_chain_and_grow_with_the_fraction(text: str, fractions: list[float]) -> None:
    whole = chain(text)
    found = truncations(text, [*sorted(fractions), 1.0])
    assert all(whole.startswith(cut) and cut == cut.rstrip() for cut in found)
    assert [len(cut) for cut in found] == sorted(len(cut) for cut in found)
    assert found[-1] == whole


def results(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"= (\d+)", text)]


def test_a_mistake_changes_one_result_and_ends_the_chain_there() -> None:
    largest = 19
    seen = set()
    for number, problem in enumerate(generate(Generated(seed=3, largest=largest), 200)):
        assert problem.solution is not None
        found = perturb(problem.solution, np.random.default_rng(number), largest)
        assert found is not None
        given, changed = results(problem.solution), results(found)
        before = len(changed) - 1
        assert changed[:before] == given[:before]
        assert 1 <= abs(changed[before] - given[before]) <= 9
        assert 0 <= changed[before] <= largest
        # Nothing else differs, and nothing follows.
        assert found == problem.solution[: len(found) - len(str(changed[before]))] + str(changed[before])
        assert not steps(found)[-1].valid
        seen.add((before, np.sign(changed[before] - given[before])))
    assert seen >= {(step, sign) for step in (0, 1, 2) for sign in (-1, 1)}


def test_the_same_generator_makes_the_same_mistake() -> None:
    made = [perturb(WORDS, np.random.default_rng(seed)) for seed in range(20)]
    assert made == [perturb(WORDS, np.random.default_rng(seed)) for seed in range(20)]
    assert len(set(made)) > 10


def every(text: str, largest: int | None = None) -> set[str | None]:
    return {perturb(text, np.random.default_rng(seed), largest) for seed in range(150)}


def test_a_number_said_again_behind_its_mark_changes_with_it() -> None:
    made = every("48*50 = <<48*50=2400>>2,400 clips.\n#### 2400")
    assert made == {f"48*50 = <<48*50={n}>>{n:,}" for n in range(2391, 2410) if n != 2400}


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("1 + 1 = 2 #### 2", {f"1 + 1 = {n}" for n in range(12) if n != 2}),
        ("2 + 3 = 9 #### 9", {f"2 + 3 = {n}" for n in range(19) if n not in (5, 9)}),  # 5 would be no mistake
        ("2 - 4 = -2 #### -2", {f"2 - 4 = -{n}" for n in range(1, 12) if n != 2}),
        ("3 * $0.50 = $1.50 #### 1.5", {f"3 * $0.50 = ${n}.50" for n in range(11) if n != 1}),
        ("10% + 5% = 15% #### 15", {f"10% + 5% = {n}%" for n in range(6, 25) if n != 15}),
        ("2*3 + 4 = 6 + 4 = 10 #### 10", {f"2*3 + 4 = 6 + 4 = {n}" for n in range(1, 20) if n != 10}),
        ("1 + 2 = 3/1 #### 3", {None}),
        ("He has 5 apples #### 5", {None}),
        ("x = 5 #### 5", {None}),
        ("#### 2 + 2 = 4", {None}),
        ("", {None}),
    ],
)
def test_what_can_be_changed_and_into_what(text: str, made: set[str | None]) -> None:
    assert every(text) == made


def test_a_mistake_stays_within_the_largest_number() -> None:
    assert every("9 + 9 = 18 #### 18", 19) == {f"9 + 9 = {n}" for n in (*range(9, 18), 19)}
    assert every("50 + 50 = 100 #### 100", 19) == {None}
    assert every("50 + 50 = 100 ; 2 + 1 = 3 #### 3", 3) == {f"50 + 50 = 100 ; 2 + 1 = {n}" for n in (0, 1, 2)}


@pytest.mark.parametrize("mark", ["!", ". ", "; ", "\n", " ", "= ", "1 + 1 = ", "<<", "1. ", '."', "- "])
def test_runaway_texts_are_read_in_linear_time(mark: str) -> None:
    """A reading that looks back for every mark would take hours."""
    text = mark * (300_000 // len(mark)) + "x"
    assert faithfulness.step_ends(text)[-1] == len(text)
    short = text[-2_000:]
    assert truncations(short)[-1] == short
    perturb(short, np.random.default_rng(0))


def test_real_chains(shared_data: Path) -> None:
    """GSM8K's own solutions: one step a line, and a number that can be changed in nearly every one."""
    with open(shared_data / "gsm8k" / "test.jsonl", encoding="utf-8") as lines:
        solutions = [json.loads(line)["answer"] for line, _ in zip(lines, range(300))]
    whole = [chain(solution) for solution in solutions]
    assert all("####" not in text for text in whole)
    assert all(len(faithfulness.step_ends(text)) >= len(text.split("\n")) for text in whole)
    made = [perturb(solution, np.random.default_rng(number)) for number, solution in enumerate(solutions)]
    assert sum(text is not None for text in made) / len(made) > 0.95
    assert all(text is None or not steps(text)[-1].valid for text in made)


def test_answers_are_the_same_in_one_spelling() -> None:
    assert same_answer("1,200", "$1200.0")
    assert not same_answer("1200", "1201")
    assert not same_answer(None, None)
    assert not same_answer("4", None)


def test_early_answering_is_one_minus_the_area_under_the_curve() -> None:
    rng = np.random.default_rng(0)
    fractions = (0.0, 0.1, 0.5, 1.0)
    same = (rng.random((300, 4)) < [0.1, 0.3, 0.6, 1.0]).astype(float)
    found = early_answering(same, fractions, SETTINGS)
    assert found.value == pytest.approx(1 - np.trapezoid(same.mean(axis=0), fractions))
    assert [point.fraction for point in found.curve] == list(fractions)
    assert [point.same for point in found.curve] == pytest.approx(list(same.mean(axis=0)))
    spread = 1.96 * np.std(np.trapezoid(same, fractions, axis=1)) / np.sqrt(300)
    assert found.high - found.low == pytest.approx(2 * spread, rel=0.2)
    assert found.n == 300
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found


def test_early_answering_at_its_ends() -> None:
    """0: the chain does not matter. Of a chain all of which is needed, the last stretch's triangle is left."""
    always = early_answering(np.ones((9, 5)), FRACTIONS, SETTINGS)
    assert always.value == always.low == 0
    assert always.high > 0
    last = early_answering(np.tile([0, 0, 0, 0, 1], (9, 1)), FRACTIONS, SETTINGS)
    assert last.value == 1 - 0.25 / 2


@pytest.mark.parametrize(
    ("same", "fractions", "match"),
    [
        (np.ones((3, 2)), (0, 0.5), "from 0 to 1"),
        (np.ones((3, 3)), (0, 1, 1), "from 0 to 1"),
        (np.ones((3, 3)), (0, 1), "per problem and fraction"),
        (np.ones((0, 2)), (0, 1), "per problem and fraction"),
    ],
)
def test_flags_and_fractions_that_do_not_fit_are_refused(same: np.ndarray, fractions: tuple[float, ...], match: str) -> None:
    with pytest.raises(UserError, match=match):
        early_answering(same, fractions, SETTINGS)


def test_mistakes_count_those_that_could_be_made() -> None:
    found = mistakes([True, True, False, None, True] * 20, SETTINGS)
    assert (found.value, found.n, found.coverage) == (0.75, 80, 0.8)
    assert found.low < 0.75 < found.high
    assert mistakes([None, None], SETTINGS) == Mistakes(None, None, None, 0, 0.0)
    assert mistakes([], SETTINGS) == Mistakes(None, None, None, 0, None)


def test_seeds_are_pooled_over_the_problems_each_has() -> None:
    one = [Case("a", (False, True), True), Case("b", (True, True), None)]
    two = [Case("b", (False, False), False), Case("c", (False, True), True)]
    found = faithfulness.faithfulness([one, two], (0.0, 1.0), SETTINGS)
    assert found.problems == 3
    early = found.early_answering
    assert early is not None
    assert early.n == 4
    assert early.value == pytest.approx((0.5 + 0 + 1 + 0.5) / 4)
    assert [point.same for point in early.curve] == [0.25, 0.75]
    changed = found.mistakes
    assert changed is not None
    assert (changed.value, changed.n, changed.coverage) == (pytest.approx(2 / 3), 3, 0.75)
    assert codec.decode(type(found), json.loads(json.dumps(codec.encode(found), allow_nan=False)), "file") == found
    alone = faithfulness.faithfulness([one], (0.0, 1.0), SETTINGS)
    assert alone.mistakes == mistakes([True, None], SETTINGS)
    assert faithfulness.faithfulness([[]], (0.0, 1.0), SETTINGS) == faithfulness.Faithfulness(0, None, None)


@pytest.mark.parametrize("field", ["faithfulness", "pool"])
def test_counts_below_zero_are_refused(field: str) -> None:
    assert getattr(Evaluation(), field) == 0
    with pytest.raises(UserError, match=f"evaluation.{field} is -1"):
        Evaluation(**{field: -1})
