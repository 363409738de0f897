"""The kinds of texts that graders of this field got wrong, each read and compared as a person would."""

from fractions import Fraction

import pytest
from grading_cases import KINDS, Case

from w2sr_jax.answers.equality import Equality
from w2sr_jax.answers.grade import MathGrader, grade
from w2sr_jax.answers.numbers import number
from w2sr_jax.core.records import Problem, Verdict

CASES = [case for cases in KINDS.values() for case in cases]


@pytest.fixture(scope="module")
def verdicts() -> dict[Case, Verdict]:
    return dict(zip(CASES, grade([(case.text, case.gold) for case in CASES], workers=2, timeout=30), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind(kind: str, verdicts: dict[Case, Verdict]) -> None:
    wrong = [(case, verdicts[case]) for case in KINDS[kind] if (verdicts[case].verdict == "correct") != case.right]
    assert not wrong


def test_there_are_enough_of_both_sorts() -> None:
    assert len(CASES) == len(set(CASES)) >= 350
    assert sum(not case.right for case in CASES) >= 120


def test_what_answers_rightly_answers_no_other_number() -> None:
    """Every text with a numeric answer, against golds that are near it: its value and one, its opposite, ten times it."""
    pairs = []
    for case in CASES:
        value = number(case.gold)
        if case.right and value is not None and not value.percent:
            for other in {value.value + 1, -value.value, 10 * value.value} - {value.value}:
                pairs.append((case.text, _written(other)))
    assert len(pairs) > 400
    wrong = [
        (pair, verdict) for pair, verdict in zip(pairs, grade(pairs, workers=2), strict=True) if verdict.verdict == "correct"
    ]
    assert not wrong


def _written(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{value.numerator}/{value.denominator}"


@pytest.mark.parametrize(
    ("text", "gold", "comma", "right"),
    [
        ("Die Antwort ist 3,5.", "3.5", "text", True),
        ("So it is $\\boxed{3,5}$.", "3.5", "text", False),
        ("So it is $\\boxed{3,5}$.", "3.5", "always", True),
        ("Die Antwort ist 3,5.", "3.5", "never", False),
        ("Die Antwort ist 3,5.", "3, 5", "never", True),
        ("Die Antwort ist 3,5.", "3, 5", "text", True),
        ("Die Antwort ist 1.234,5.", "1234.5", "always", True),
        ("Die Antwort ist 1.234,5.", "1234.5", "never", True),
        ("Die Antwort ist 1.234 Euro.", "1234", "always", True),
        ("Die Antwort ist 1.234 Euro.", "1234", "text", False),
        ("The answer is 1,234.", "1234", "text", True),
        ("The answer is 1,234.", "1234", "always", False),
        ("The answer is 3,6.", "3.5", "always", False),
    ],
)
def test_a_decimal_comma_is_a_convention(text: str, gold: str, comma: str, right: bool) -> None:
    verdict = MathGrader(workers=1, decimal_comma=comma)(text, Problem.of("q", gold))  # type: ignore[arg-type]
    assert (verdict.verdict == "correct") == right


@pytest.mark.parametrize(
    ("answer", "gold", "sets", "right"),
    [
        ("0 < x < 1", "(0,1)", False, False),
        ("0 < x < 1", "(0,1)", True, True),
        ("0 < x \\leq 1", "(0,1)", True, False),
        ("(0,1)", "0 < x < 1", False, True),
        ("(0,1)", "0 < x < 2", False, False),
    ],
)
def test_an_inequality_for_an_interval_is_a_convention(answer: str, gold: str, sets: bool, right: bool) -> None:
    verdict = MathGrader(workers=1, relations_as_sets=sets)(f"\\boxed{{{answer}}}", Problem.of("q", gold))
    assert (verdict.verdict == "correct") == right


def test_a_solution_of_several_boxes_is_right_about_its_own_problem() -> None:
    """MATH keeps the last box of a solution alone; a text that gives all of its boxes is as right as the solution."""
    solution = "They meet at $\\boxed{(-3,11)}$ and $\\boxed{(4,25)}$."
    problem = Problem.of("Where?", "(4,25)", solution)
    texts = [
        solution,
        "$\\boxed{(4,25)}$",
        "$\\boxed{(4,25)}$ or $\\boxed{(-3,11)}$",
        "$\\boxed{(-3,11)}$",
        "$\\boxed{(0,1), (4,25)}$",
    ]
    verdicts = MathGrader(workers=1).many(texts, [problem] * len(texts))
    assert [verdict.verdict for verdict in verdicts] == ["correct", "correct", "correct", "incorrect", "incorrect"]
    alone = Problem.of("Where?", "(4,25)")
    assert MathGrader(workers=1)(solution, alone).verdict == "incorrect"


@pytest.mark.parametrize(
    ("answers", "blocs"),
    [
        (["50\\%", "50", "50%", "0.5"], [[0, 1, 2], [3]]),
        (["50\\%", "0.5"], [[0, 1]]),
        (["x=5", "5", "5.0", "4"], [[0, 1, 2], [3]]),
        (["x+1", "1+x", "x+2"], [[0, 1], [2]]),
        (["0.333333", "1/3", "0.3333"], [[0, 1], [2]]),
        (["10^{-20}", "10^{-21}"], [[0], [1]]),
        (["2^{100}", "4^{50}"], [[0, 1]]),
        (["A", "a"], [[0], [1]]),
        (["Tuesday", "tuesday", "Monday"], [[0, 1], [2]]),
    ],
)
def test_equal_answers_are_one_bloc(answers: list[str], blocs: list[list[int]]) -> None:
    with Equality() as equality:
        for order in (answers, answers[::-1]):
            names = equality.groups(order)
            groups = {frozenset(answer for answer, other in zip(order, names, strict=True) if other == name) for name in names}
            assert groups == {frozenset(answers[index] for index in bloc) for bloc in blocs}
