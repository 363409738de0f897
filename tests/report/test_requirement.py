"""The language of `--require`: what it reads, what it refuses, and when a requirement holds."""

import math
import operator
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.report.requirements.language import (
    OPERATORS,
    QUANTITIES,
    Names,
    Requirement,
    RungNames,
    Target,
    holds,
    parsed,
    target,
)

ARMS = ("base", "base-direct", "all", "correct", "gold")
NAMES = Names((RungNames(0, "small", ARMS), RungNames(1, "1.5b", ARMS)), ("teacher", "gemma-2b"))
BOUNDED = [name for name, quantity in QUANTITIES.items() if quantity.most == 1.0]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("vs_teacher>0", ("", "vs_teacher", ">", 0.0)),
        ("  vs_teacher  >=  0.05 ", ("", "vs_teacher", ">=", 0.05)),
        ("vs_teacher > 5%", ("", "vs_teacher", ">", 0.05)),
        ("vs_teacher>=-2%", ("", "vs_teacher", ">=", -0.02)),
        ("vs_teacher ≥ −2 %", ("", "vs_teacher", ">=", -0.02)),
        ("rgr>.5", ("", "rgr", ">", 0.5)),
        ("pgr<=1e-2", ("", "pgr", "<=", 0.01)),
        ("accuracy<1", ("", "accuracy", "<", 1.0)),
        ("0.accuracy>=0.8", ("0", "accuracy", ">=", 0.8)),
        ("0-small.correct.vs_base>0", ("0-small.correct", "vs_base", ">", 0.0)),
        ("1.5b.gold.accuracy>0", ("1.5b.gold", "accuracy", ">", 0.0)),
        ("gemma-2b.accuracy<50%", ("gemma-2b", "accuracy", "<", 0.5)),
        ("verdict==yes", ("", "verdict", "==", "yes")),
        ("small.verdict == not shown", ("small", "verdict", "==", "not shown")),
        ("verdict==not_shown", ("", "verdict", "==", "not shown")),
        ("verdict==Not-Shown", ("", "verdict", "==", "not shown")),
        ("verdict=='no'", ("", "verdict", "==", "no")),
        ("test_problems==1000", ("", "test_problems", "==", 1000.0)),
        ("seeds>=3", ("", "seeds", ">=", 3.0)),
        ("vs_first_teacher>0", ("", "vs_first_teacher", ">", 0.0)),
    ],
)
def test_what_is_read(text: str, meaning: tuple[Any, ...]) -> None:
    found = parsed(text)
    assert found.text == text
    assert (found.subject, found.quantity, found.operator) == meaning[:3]
    assert found.value == pytest.approx(meaning[3]) if isinstance(meaning[3], float) else found.value == meaning[3]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no comparison"),
        ("vs_teacher", "in quotes, since the shell takes > for itself"),
        ("vs_teacher>", "the number is missing"),
        (">0", "names no quantity"),
        ("vs_teachers>0", "did you mean 'vs_teacher'?"),
        ("VS_TEACHER>0", "there is no quantity 'VS_TEACHER'; did you mean 'vs_teacher'?"),
        ("small.correct.acuracy>0", "did you mean 'accuracy'?"),
        ("zzz>0", "there are vs_teacher, vs_base"),
        ("vs_teacher=0", "= is no comparison"),
        ("vs_teacher!=0", "!= is no comparison"),
        ("vs_teacher=>0", "= is no comparison"),
        ("vs_teacher>>0", "'>0' is no number"),
        ("vs_teacher>0>1", "'0>1' is no number"),
        ("0<vs_teacher", "there is no quantity '0'"),
        ("vs_teacher>nan", "'nan' is no number"),
        ("rgr>inf", "'inf' is no number"),
        ("rgr>1e999", "rgr is finite"),
        ("vs_teacher>1_0", "'1_0' is no number"),
        ("vs_teacher>0x1", "'0x1' is no number"),
        ("vs_teacher>0,5", "'0,5' is no number"),
        ("vs_teacher>٣", "is no number"),
        ("vs_teacher>5%%", "is no number"),
        ("vs_teacher>__import__('os').getcwd()", "is no number"),
        ("vs_teacher==0", "which no single number equals"),
        ("verdict>yes", "compared with == alone"),
        ("verdict==maybe", "a verdict is yes, no, not shown or unknown"),
        ("verdict==1", "a verdict is yes, no, not shown or unknown"),
        ("vs_teacher==yes", "is no number"),
        ("accuracy>50", "between 0 and 1; 50% is written 50% or 0.5"),
        ("vs_teacher>5", "between -1 and 1"),
        ("accuracy>-0.1", "between 0 and 1"),
        ("seeds>50%", "a count, not a share"),
        (".vs_teacher>0", "nothing before its first point"),
    ],
)
def test_what_is_refused_with_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)) as refused:
        parsed(text)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=60) | st.from_regex(r"[a-z_.0-9]{0,12}[<>=!]{1,3}[-+0-9.e%a-z ]{0,8}", fullmatch=True))
@example("vs_teacher>" + "9" * 5000)
@example("a" * 100_000 + ">0")
def test_any_text_is_a_requirement_or_one_sentence(text: str) -> None:
    try:
        found = parsed(text)
    except UserError as error:
        refused = str(error)
    else:
        assert found.quantity in QUANTITIES
        assert found.operator in OPERATORS
        assert isinstance(found.value, str) == (found.quantity == "verdict")
        return
    assert len(refused.splitlines()) == 1
    assert len(refused) < 1000


subjects = st.sampled_from(["", "0", "small", "1-1.5b.correct", "a.b.c", "x-y_z"])


@given(subjects, st.sampled_from(BOUNDED), st.sampled_from(OPERATORS[:4]), st.floats(0, 1), st.sampled_from(["", " ", "  "]))
def test_what_is_written_is_read_back(subject: str, quantity: str, sign: str, value: float, room: str) -> None:
    text = f"{subject}{'.' if subject else ''}{quantity}{room}{sign}{room}{value!r}"
    found = parsed(text)
    assert (found.subject, found.quantity, found.operator, found.value) == (subject, quantity, sign, value)


COMPARED = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
numbers = st.floats(-1, 1, allow_nan=False)


@given(numbers, numbers, numbers, st.sampled_from(OPERATORS), st.floats(0, 1))
def test_a_requirement_holds_where_every_point_of_the_interval_does(
    a: float, b: float, value: float, sign: Any, share: float
) -> None:
    low, high = sorted((a, b))
    found = holds(Requirement("", "", "vs_teacher", sign, value), low, high)
    inside = min(max(low + share * (high - low), low), high)
    assert found == (COMPARED[sign](low, value) and COMPARED[sign](high, value))
    assert not found or COMPARED[sign](inside, value)


@given(numbers, numbers, numbers, numbers)
def test_what_is_above_a_number_is_above_smaller_ones(a: float, b: float, value: float, less: float) -> None:
    low, high = sorted((a, b))
    if less <= value and holds(Requirement("", "", "vs_teacher", ">", value), low, high):
        assert holds(Requirement("", "", "vs_teacher", ">", less), low, high)
        assert not holds(Requirement("", "", "vs_teacher", "<=", value), low, high)


def test_an_unbounded_interval_lies_beyond_nothing_on_that_side() -> None:
    above = Requirement("", "", "rgr", ">", 0.5)
    assert holds(above, 0.6, math.inf)
    assert not holds(Requirement("", "", "rgr", "<", 2.0), 0.6, math.inf)
    assert not holds(above, -math.inf, 0.9)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("vs_teacher>0", Target()),
        ("0.vs_teacher>0", Target(0)),
        ("small.vs_teacher>0", Target(0)),
        ("1-1.5b.vs_teacher>0", Target(1)),
        ("1.5b.correct.vs_teacher>0", Target(1, "correct")),
        ("0.gold.accuracy>0", Target(0, "gold")),
        ("0-small.base-direct.accuracy>0", Target(0, "base-direct")),
        ("gemma-2b.accuracy>0", Target(teacher="gemma-2b")),
        ("1.verdict==yes", Target(1)),
    ],
)
def test_subjects(text: str, meant: Target) -> None:
    assert target(parsed(text), NAMES) == meant


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2.vs_teacher>0", "there is no '2' here"),
        ("smal.vs_teacher>0", "did you mean 'small'?"),
        ("small.corect.vs_teacher>0", "did you mean 'small.correct'?"),
        ("small.majority.vs_teacher>0", "there is no 'small.majority'"),
        ("small.correct.verdict==yes", "there is no 'small.correct' here; did you mean"),
        ("gemma-2b.vs_teacher>0", "there is no 'gemma-2b' here"),
        ("0.test_problems>0", "is of the whole run; name it without '0'"),
        ("small.vs_first_teacher>0", "is of the whole run"),
    ],
)
def test_subjects_that_are_not_there_are_refused(text: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        target(parsed(text), NAMES)


def test_a_rung_that_is_called_as_another_is_numbered_must_be_named_in_full() -> None:
    odd = Names((RungNames(0, "1", ARMS), RungNames(1, "2", ARMS)))
    with pytest.raises(UserError, match="can mean several things"):
        target(parsed("1.vs_teacher>0"), odd)
    assert target(parsed("0-1.vs_teacher>0"), odd) == Target(0)
    assert target(parsed("2.vs_teacher>0"), odd) == Target(1)
