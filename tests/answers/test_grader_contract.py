"""A grader of a user's own is tried before a run begins."""
# ruff: noqa: E501

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.answers import contract
from w2sr_jax.answers.contract import check_grader
from w2sr_jax.answers.grade import MathGrader, NumberGrader, grade_all
from w2sr_jax.answers.graders import ChoiceGrader, ExactGrader, NumericGrader, RegexGrader
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem

HEAD = """
import dataclasses, functools, random, time
from w2sr_jax.answers.grade import MathGrader, NumberGrader
from w2sr_jax.core.records import Problem, Verdict


def right(text, problem):
    return Verdict("correct" if problem.answer in text.split() else "incorrect", problem.answer, "words", "mine")


"""
PROBLEMS = [
    Problem.of("What is 20 + 22?", "42", "20 + 22 = 42\n#### 42", meta={"line": 1, "tests": [[1, 2]]}),
    Problem.of("Which city?", "New York", meta={"line": 2, "tests": []}),
]

WRONG = {
    "one argument": ("def grader(text):  # here\n    return right(text, None)", r"grader\(text\).*two arguments"),
    "three arguments": ("def grader(text, problem, rubric):  # here\n    return right(text, problem)", "two arguments"),
    "bool": ("def grader(text, problem):  # here\n    return problem.answer in text", "True, of type bool.*Verdict"),
    "nothing": ("def grader(text, problem):  # here\n    right(text, problem)", "None.*Verdict"),
    "name": ("def grader(text, problem):  # here\n    return 'correct'", "of type str"),
    "score": ("def grader(text, problem):  # here\n    return 1.0", "of type float"),
    "tuple": ("def grader(text, problem):  # here\n    return 'correct', problem.answer, 'a', 'b'", "of type tuple"),
    "list": ("def grader(text, problem):  # here\n    return [right(text, problem)]", "of type list"),
    "another verdict": ("def grader(text, problem):  # here\n    return Verdict('right', problem.answer, '', '')", "verdict.*'right'.*incorrect"),
    "capitals": ("def grader(text, problem):  # here\n    return Verdict('Correct', problem.answer, '', '')", "'Correct'"),
    "number as answer": ("def grader(text, problem):  # here\n    return Verdict('correct', 42, '', '')", "answer is 42"),
    "no rule": ("def grader(text, problem):  # here\n    return Verdict('correct', '42', None, '')", "rule is None"),
    "async": ("async def grader(text, problem):  # here\n    return right(text, problem)", "nobody awaits"),
    "generator": ("def grader(text, problem):  # here\n    yield right(text, problem)", "generator"),
    "the class": ("@dataclasses.dataclass\nclass grader:\n    x: int = 1\n\n    def __call__(self, text, problem):\n        pass", r"write grader\(\)"),
    "undefined": ("def grader(text, problem):\n    return rihgt(text, problem)  # here", "NameError"),
    "field": ("def grader(text, problem):\n    return right(text, problem.gold)  # here", "no attribute 'gold'"),
    "helper": ("def half(text):\n    return int(text.split()[0])  # here\n\n\ndef grader(text, problem):\n    return half(text)", "ValueError"),
    "empty text": ("def grader(text, problem):\n    text[-1]  # here\n    return right(text, problem)", "IndexError.*grading ''"),
    "gold in words": ("def grader(text, problem):\n    float(problem.answer)  # here\n    return right(text, problem)", "New York"),
    "lacking column": ("def grader(text, problem):\n    problem.meta['unit']  # here\n    return right(text, problem)", "KeyError: 'unit'"),
    "exits": ("def grader(text, problem):\n    raise SystemExit('no key')  # here", "SystemExit: no key"),
    "assertion": ("def grader(text, problem):\n    assert '####' in text  # here\n    return right(text, problem)", "AssertionError"),
    "random": ("def grader(text, problem):  # here\n    return Verdict('correct', str(random.random()), '', '')", "asked again"),
    "counts": (
        "calls = []\n\n\ndef grader(text, problem):  # here\n    calls.append(text)\n"
        "    return Verdict('correct' if len(calls) % 2 else 'incorrect', '', '', '')",
        "correct.*incorrect.*asked again",
    ),
    "changes the problem": (
        "def grader(text, problem):  # here\n    problem.meta['seen'] = True\n    return right(text, problem)",
        "changes the problem",
    ),
    "changes a list in it": (
        "def grader(text, problem):  # here\n    problem.meta['tests'].append(1)\n    return right(text, problem)",
        "changes the problem",
    ),
    "in a class": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    def __call__(self, text, problem):\n        return self.rule  # here\n\n\n"
        "grader = Mine()",
        "no attribute 'rule'",
    ),
    "partial": ("def inner(text, problem, unit, more):  # here\n    pass\n\n\ngrader = functools.partial(inner, unit='m')", "two arguments"),
    "decorated": (
        "def quiet(function):\n    @functools.wraps(function)\n    def inner(*args):\n        try:\n            function(*args)\n"
        "        except ValueError:\n            pass\n\n    return inner\n\n\n@quiet\ndef grader(text, problem):\n    return right(text, problem)",
        "None.*Verdict",
    ),
    "counts in itself": (
        "@dataclasses.dataclass\nclass Mine:\n    calls: int = 0\n\n    def __call__(self, text, problem):\n        self.calls += 1\n"
        "        return right(text, problem)\n\n\ngrader = Mine()",
        "changes its own fields",
    ),
    "subclass of ours": (
        "@dataclasses.dataclass(frozen=True)\nclass Mine(MathGrader):\n    def __call__(self, text, problem):\n"
        "        return super().__call__(text.no, problem)  # here\n\n\ngrader = Mine()",
        "no attribute 'no'",
    ),
}  # fmt: skip

RIGHT = {
    "function": "grader = right",
    "printing": "def grader(text, problem):\n    print(text)\n    return right(text, problem)",
    "partial": "def inner(unit, text, problem):\n    return right(text, problem)\n\n\ngrader = functools.partial(inner, 'm')",
    "dataclass": "@dataclasses.dataclass(frozen=True)\nclass Mine:\n    def __call__(self, text, problem):\n        return right(text, problem)\n\n\ngrader = Mine()",
    "around ours": "def grader(text, problem):\n    return NumberGrader()(text.replace(',', ''), problem)",
    "cached": "@functools.cache\ndef look(text, gold):\n    return Verdict('correct' if gold in text.split() else 'unparsed', None, '', '')\n\n\n"
    "def grader(text, problem):\n    return look(text, problem.answer)",
    "with a column": "def grader(text, problem):\n    problem.meta['tests']\n    return right(text, problem)",
    "copies": "def grader(text, problem):\n    meta = {**problem.meta, 'x': 1}\n    return right(text, problem)",
    "decorated": "def plain(function):\n    @functools.wraps(function)\n    def inner(text, problem):\n        return function(text, problem)\n\n    return inner\n\n\ngrader = plain(right)",
    "method": "class Tools:\n    def grade(self, text, problem):\n        return right(text, problem)\n\n\ngrader = Tools().grade",
}  # fmt: skip


@pytest.fixture
def load(user_module: Callable[..., Path]) -> Callable[[str], Any]:
    count = itertools.count()
    return lambda text: usercode.load(user_module(HEAD + text + "\n", f"config_of_graders_{next(count)}"))


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_grader_is_refused(load: Callable[[str], Any], case: str) -> None:
    source, words = WRONG[case]
    module = load(source)
    with pytest.raises(UserError) as caught:
        check_grader(module.grader, PROBLEMS)
    message = str(caught.value)
    assert re.search(words, message), message
    assert message.startswith("grader")
    assert "\n" not in message
    if "# here" in source:
        line = next(number for number, text in enumerate((HEAD + source).splitlines(), 1) if "# here" in text)
        assert f"{Path(module.__file__).name}, line {line}: " in message, message
    elif case == "decorated":
        assert f"{Path(module.__file__).name}, line " in message


@pytest.mark.parametrize("case", RIGHT)
def test_a_right_grader_is_accepted_without_a_word(load: Callable[[str], Any], case: str) -> None:
    assert check_grader(load(RIGHT[case]).grader, PROBLEMS) == []


@pytest.mark.parametrize("grader", [MathGrader(), NumberGrader(), ExactGrader(), NumericGrader(), RegexGrader(), ChoiceGrader()])
def test_graders_of_the_package_are_not_tried(grader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(grader), "__call__", None)
    assert check_grader(grader, PROBLEMS) == []


def test_a_class_of_the_package_is_no_grader() -> None:
    with pytest.raises(UserError, match=r"class MathGrader.*MathGrader\(\)"):
        check_grader(MathGrader)  # type: ignore[arg-type]


def test_an_exception_over_an_invented_problem_is_only_remarked_upon(load: Callable[[str], Any]) -> None:
    grader = load("def grader(text, problem):\n    return right(problem.meta['tests'], problem)").grader
    (remark,) = check_grader(grader)
    assert "KeyError: 'tests'" in remark
    assert "invented" in remark
    with pytest.raises(UserError, match="NameError"):
        check_grader(load("def grader(text, problem):\n    return rihgt(text, problem)").grader)


def test_recorded_texts_are_tried_too(load: Callable[[str], Any]) -> None:
    grader = load("def grader(text, problem):\n    1 / len(text.replace('7', ''))\n    return right(text or 'x', problem)").grader
    with pytest.raises(UserError, match=r"ZeroDivisionError.*'777'"):
        check_grader(grader, PROBLEMS, [("777", PROBLEMS[0])])


def test_odd_graders_are_remarked_upon(load: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    always = load("def grader(text, problem):\n    return Verdict('correct', problem.answer, '', '')").grader
    never = load("def grader(text, problem):\n    return Verdict('incorrect', problem.answer, '', '')").grader
    assert ["every text correct" in remark for remark in check_grader(always, PROBLEMS)] == [True]
    assert ["none of " in remark for remark in check_grader(never, PROBLEMS)] == [True]
    monkeypatch.setattr(contract, "SLOW", 0.0)
    monkeypatch.setattr(contract, "PATIENCE", 0.0)
    assert "s for a text" in check_grader(load("grader = right").grader, PROBLEMS)[0]


def test_a_subclass_of_the_default_grader_grades_as_it_says(load: Callable[[str], Any]) -> None:
    module = load(
        "@dataclasses.dataclass(frozen=True)\nclass Mine(MathGrader):\n    def __call__(self, text, problem):\n"
        "        return Verdict('unparsed', None, 'never', 'mine')\n\n\ngrader = Mine()"
    )
    assert [verdict.grader for verdict in grade_all(module.grader, ["#### 42"], PROBLEMS[:1])] == ["mine"]
