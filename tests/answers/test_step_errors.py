"""One wrong step: exactly one equation no longer holds, by a checker of the test's own, and the answer follows or stays."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.answers.step_errors import SLIPS, altered

EQUATION = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")


def holding(text: str) -> list[bool]:
    """Whether each equation of two whole numbers holds, computed with Python's integers."""
    apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}
    return [apply[op](int(a), int(b)) == int(c) for a, op, b, c in EQUATION.findall(text)]


def wrong(text: str, carry: bool, seed: int = 0) -> str | None:
    return altered(text, carry, np.random.default_rng(seed))


@st.composite
def chains(draw: st.DrawFn) -> str:
    """A chain whose steps each go on from the last result, and its answer."""
    value = draw(st.integers(1, 30))
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        op = draw(st.sampled_from("+*-"))
        other = draw(st.integers(1, 30 if op == "+" else 4 if op == "*" else max(value, 1)))
        new = {"+": value + other, "*": value * other, "-": value - other}[op]
        parts.append(f"{value} {op} {other} = {new}")
        value = max(new, 0)
    return " ; ".join(parts) + f" #### {value}"


@given(chains(), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_one_result_is_wrong_by_a_slip_and_the_answer_stays(text: str, seed: int) -> None:
    new = wrong(text, False, seed)
    assert new is not None
    assert holding(new).count(False) == 1
    assert new.split("####")[1] == text.split("####")[1]
    before, after = ([int(result) for *_, result in EQUATION.findall(one)] for one in (text, new))
    assert sorted(abs(a - b) for a, b in zip(after, before, strict=True))[:-1] == [0] * (len(before) - 1)
    assert sum(after) - sum(before) in SLIPS
    assert len(new.split()) == len(text.split())


@given(chains(), st.integers(0, 2**32))
@settings(max_examples=200, deadline=None)
def test_an_error_that_is_carried_on_leaves_one_wrong_equation_and_another_answer(text: str, seed: int) -> None:
    new = wrong(text, True, seed)
    if new is None:  # none reaches the answer without a negative number
        return
    assert holding(new).count(False) == 1
    assert new.split("####")[1] != text.split("####")[1]
    assert int(new.split("####")[1]) == int(EQUATION.findall(new)[-1][3])


@pytest.mark.parametrize(
    ("text", "equations"),
    [
        ("16-4=<<16-4=12>>12 eggs. 12*2=<<12*2=24>>24 dollars #### 24", r"16-4=<<16-4=(\d+)>>\1 eggs. \1\*2=<<\1\*2=(\d+)>>\2 d"),
        ("1,000 + 500 = 1,500 and 1,500 / 2 = 750. The answer is 750.", r"1,000 \+ 500 = (1,\d{3}) and \1 / 2 = ([\d.]+)\. The"),
    ],
)
def test_copies_of_an_altered_result_are_altered_as_they_are_spelt(text: str, equations: str) -> None:
    seen = set()
    for seed in range(20):
        new = wrong(text, True, seed)
        assert new is not None
        match = re.match(equations, new)
        assert match is not None
        seen.add(match[1])
        assert new.rstrip(".").endswith(match[2])
    assert len(seen) > 2


def test_a_result_that_the_rest_goes_on_from_can_only_be_carried_on() -> None:
    text = "3 + 4 = 7 * 2 = 14. The answer is 14."
    assert wrong(text, False) in {f"3 + 4 = 7 * 2 = {14 + slip}. The answer is 14." for slip in SLIPS}
    assert wrong(text, True) is not None


@pytest.mark.parametrize("text", ["no equations here #### 5", "3 + 4 = 8 #### 8", "3 + 4 = 7", "", "x + 3 = 7 #### 4"])
def test_a_text_without_an_equation_that_holds_or_without_an_answer_beside_it_stays(text: str) -> None:
    assert wrong(text, False) is None


def test_only_numbers_that_are_known_are_written() -> None:
    text = "8 + 8 = 16 ; 16 + 3 = 19 #### 19"

    def small(new: str) -> bool:
        return all(int(word) <= 19 for word in new.split() if word.isdigit())

    for seed in range(30):
        new = altered(text, False, np.random.default_rng(seed), small)
        assert new is not None
        assert small(new)
    assert altered(text, False, np.random.default_rng(0), lambda new: new == text) is None
