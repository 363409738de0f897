"""Equations in a text: which are found, and whether they hold, against arithmetic of the test's own."""

import operator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from w2sr_jax.answers.steps import final_consistent, steps, validity
from w2sr_jax.problems.files import load
from w2sr_jax.problems.settings import Files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16 - 4 = 12 ; 12 * 2 = 25 #### 24", [("16 - 4", True), ("12 * 2", False)]),
        ("sells 16 - 3 - 4 = <<16-3-4=9>>9 eggs", [("16-3-4", True)]),
        ("half is <<4/2=3>>3", [("4/2", False)]),
        ("5 apples + 3 apples = 8 apples", [("5 apples + 3", True)]),
        ("12 cans x $0.05 = $0.60", [("12 cans x $0.05", True)]),
        ("2 × 3 = 6, 6 ÷ 4 = 1.5, 7 − 9 = −2", [("2 × 3", True), ("6 ÷ 4", True), ("7 − 9", True)]),
        ("\\frac{1}{2} \\times 4 = 2", [("\\frac{1}{2} \\times 4", True)]),
        ("20% of 50 = 10", [("20% of 50", True)]),
        ("50% + 20% = 70%", [("50% + 20%", True)]),
        ("5/20 = 25% and 5/20*100 = 25%", [("5/20", True), ("5/20*100", True)]),
        ("$1,234 × 2 = $2,468", [("$1,234 × 2", True)]),
        ("2 * 3 + 4 = 6 + 4 = 10", [("2 * 3 + 4", True), ("6 + 4", True)]),
        ("3*4 = 12 + 5 = 17", [("3*4", True), ("12 + 5", True)]),
        ("2 + 3 * 4 = 20", [("2 + 3 * 4", False)]),
        ("(2+3)*4=20", [("(2+3)*4", True)]),
        ("2(3+4)=14", [("2(3+4)", True)]),
        ("2^3 = 8", [("2^3", True)]),
        ("2 1/2 + 1 = 3.5", [("2 1/2 + 1", True)]),
        ("5 ÷ 0 = 7", [("5 ÷ 0", False)]),
        ("10 / 3 = 3.33", [("10 / 3", False)]),
        (
            "- 5 + 3 = 8\n* 6 / 2 = 3\n1. 1 + 1 = 2\n2) 2 + 2 = 4",
            [("5 + 3", True), ("6 / 2", True), ("1 + 1", True), ("2 + 2", True)],
        ),
        ("for a total of 25+8 = 33 classes", [("25+8", True)]),
        ("25 oranges is (20/100)*25 = 5", [("(20/100)*25", True)]),
        ("3 hours * 4 miles/hour = 12 miles", [("3 hours * 4", True)]),
        ("-5 + 3 = -2", [("-5 + 3", True)]),
        ("**5 + 3 = 8**", [("5 + 3", True)]),
        # Not steps: unknowns, nothing computed, other relations, parts that are not in the equation.
        ("2x + 3 = 7, y - 2 = 4, 25 + 20 = 2x", []),
        ("x = 5 and 7 = 7", []),
        ("3 + 4 >= 7, 3 + 4 == 7, 3 + 4 => 7", []),
        ("half of 4 + 2 = 4", []),
        ("25 boys + his 1 teacher + 1 = 27", []),
        ("2 * x + 3 * 4 = 20", []),
        ("no equation", []),
    ],
)
def test_examples(text: str, expected: list[tuple[str, bool]]) -> None:
    parsed = steps(text)
    assert [(step.left, step.valid) for step in parsed] == expected
    for step in parsed:
        assert text[step.start :].startswith(step.left)
        assert "=" in text[step.start : step.end]
    assert validity(text) == (sum(valid for _, valid in expected), len(expected))


OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
SIGNS = {"+": ["+"], "-": ["-", "−"], "*": ["*", "×", "x", "\\times"], "/": ["/", "÷", "\\div"]}


@given(
    st.lists(
        st.tuples(st.integers(0, 9999), st.sampled_from("+-*/"), st.integers(1, 9999), st.integers(-2, 2), st.integers(0, 3)),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([" ; ", "\n", ". ", " so that "]),
    st.booleans(),
)
def test_any_chain_of_single_operations(rows: list, separator: str, calculator: bool) -> None:
    lines, expected = [], []
    for a, op, b, error, style in rows:
        exact = Fraction(OPERATIONS[op](Fraction(a), Fraction(b)))
        stated = exact + error
        sign = SIGNS[op][style % len(SIGNS[op])]
        shown = str(stated)
        lines.append(f"<<{a}{op}{b}={shown}>>" if calculator else f"{a} {sign} {b} = {shown}")
        expected.append((op, stated, error == 0))
    assert [(s.operators, s.stated, s.valid) for s in steps(separator.join(lines))] == expected


expressions = st.recursive(
    st.integers(1, 30).map(lambda n: (str(n), Fraction(n))),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", Fraction(OPERATIONS[t[1]](t[0][1], t[2][1])))
    ),
    max_leaves=6,
)


@given(expressions, expressions, st.sampled_from("+-*"))
def test_nested_expressions(left: tuple[str, Fraction], right: tuple[str, Fraction], op: str) -> None:
    value = OPERATIONS[op](left[1], right[1])
    (right_one,) = steps(f"{left[0]} {op} {right[0]} = {value}")
    assert right_one.valid
    (wrong,) = steps(f"{left[0]} {op} {right[0]} = {value + 1}")
    assert not wrong.valid


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text: str) -> None:
    valid, parsed = validity(text)
    assert 0 <= valid <= parsed


@given(
    st.lists(
        st.sampled_from(
            ["=", "+", "-", "x", "(", ")", "%", "of", "<<", ">>", " ", "\n", "7", "0", "/", "^", "$", "a", "\\frac{1}{2}"]
        ),
        max_size=60,
    )
)
def test_no_mixture_of_marks_makes_it_fail(parts: list[str]) -> None:
    for step in steps("".join(parts)):
        assert step.operators
        assert step.start < step.end


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "1 = 2",
        "-" * 5000 + "1 + 1 = 2",
        "1+" * 20_000 + "1 = 3",
        "9" * 50_000 + " + 1 = 2",
        "9^9^9^9 = 1",
        "1 = " * 20_000,
    ],
)
def test_hostile_texts_end(text: str) -> None:
    steps(text)


@pytest.mark.parametrize(
    ("text", "answer", "expected"),
    [
        ("2 + 3 = 5 #### 5", "5", True),
        ("2 + 3 = 5 #### 6", "6", False),
        ("2 + 3 = 6 #### 6", "$6.00", True),
        ("1/4 = 0.25", "25%", True),
        ("it is 5", "5", None),
        ("2 + 3 = 5", "five", True),
        ("2 + 3 = 5", None, None),
    ],
)
def test_final_consistency(text: str, answer: str | None, expected: bool | None) -> None:
    assert final_consistent(text, answer) is expected


def test_gold_solutions_are_valid(shared_data: Path) -> None:
    """Human-written and calculator-checked: nearly all that is read must hold, and nearly all must be read."""
    problems, _ = load(Files(str(shared_data / "gsm8k" / "test.jsonl")))
    counts = [validity(p.solution or "") for p in problems]
    valid, parsed = sum(v for v, _ in counts), sum(n for _, n in counts)
    assert parsed > 4200
    assert valid / parsed > 0.998
    assert sum(n > 0 for _, n in counts) / len(counts) > 0.97
    agree = [final_consistent(p.solution or "", p.answer) for p in problems]
    assert sum(a is True for a in agree) / len(agree) > 0.92
