import dataclasses
from collections.abc import Callable
from typing import Any, Literal, Protocol

import pytest

from w2sr_jax.answers.grade import MathGrader
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.experiment import Experiment, Rung
from w2sr_jax.models.config import ModelConfig


class Called(Protocol):
    def __call__(self, text: str) -> str: ...


@dataclasses.dataclass(frozen=True)
class Inner:
    count: int = 1


@dataclasses.dataclass(frozen=True)
class Outer:
    number: float = 1.0
    flag: bool = False
    name: str | None = None
    choice: Literal["a", "b"] = "a"
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[str, ...] = ()
    inner: Inner | None = Inner()
    function: Callable[[int], int] = abs
    called: Called = MathGrader()
    free: Any = None


GOOD = [
    {},
    {
        "number": 3,
        "name": "x",
        "choice": "b",
        "pair": (0, 1),
        "many": ("a", "b"),
        "inner": None,
        "function": len,
        "free": Inner(3),
    },
    {"free": ((1, "a"), None)},
]
BAD = [
    ({"number": "3"}, "number is '3', of type str; it must be a number"),
    ({"number": True}, "number is True, of type bool; it must be a number"),
    ({"number": float("nan")}, "number is nan; it must be finite"),
    ({"flag": 1}, "flag is 1, of type int; it must be True or False"),
    ({"name": b"x"}, "name is b'x', of type bytes; it must be text or None"),
    ({"name": "a\0"}, r"name is 'a\x00'; it must be text without NUL and half surrogate pairs"),
    ({"name": "\ud800"}, r"name is '\ud800'; it must be text without NUL and half surrogate pairs"),
    ({"choice": "c"}, "choice is 'c', of type str; it must be 'a' or 'b'"),
    ({"pair": (1, 2, 3)}, "pair is (1, 2, 3), of type tuple; it must be a tuple of 2: a whole number, a number"),
    ({"pair": (1.5, 2)}, "pair.0 is 1.5, of type float; it must be a whole number"),
    ({"pair": [1, 2]}, "pair is [1, 2], of type list; it must be a tuple of 2: a whole number, a number"),
    ({"many": ("a", 2)}, "many.1 is 2, of type int; it must be text"),
    ({"many": "ab"}, "many is 'ab', of type str; it must be a tuple, each part text"),
    ({"inner": Inner("7")}, "inner.count is '7', of type str; it must be a whole number"),
    ({"inner": Outer}, "of type type; it must be Inner or None"),
    ({"function": 3}, "function is 3, of type int; it must be a function, or a dataclass that can be called"),
    ({"called": "x"}, "called is 'x', of type str; it must be a function, or a dataclass that can be called"),
    ({"free": Inner(10**30)}, "free.count is 1000000000000000000000000000000; it must be between -2**63 and 2**63"),
    ({"free": (float("inf"),)}, "free.0 is inf; it must be finite"),
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_is_declared_is_accepted(fields):
    assert mistyped(Outer(**fields), Outer) is None


@pytest.mark.parametrize(("fields", "words"), BAD)
def test_the_setting_its_value_and_the_right_type_are_named(fields, words):
    sentence = mistyped(Outer(**fields), Outer)
    assert sentence is not None
    assert words in sentence


def test_places_are_those_of_the_command_line():
    experiment = Experiment("e", (Rung("a", ModelConfig()), Rung("b", ModelConfig(layers="3"))))
    assert mistyped(experiment, Experiment) == "rungs.1.model.layers is '3', of type str; it must be a whole number"


def test_annotations_that_mean_nothing_are_not_checked():
    kind = dataclasses.make_dataclass("Odd", [("x", "NowhereDefined")])
    assert mistyped(kind("anything"), kind) is None


class Sized(Protocol):
    size: int

    def grow(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Box:
    size: int

    def grow(self) -> None: ...


@dataclasses.dataclass(frozen=True)
class Derived(Sized):
    size: int = 1


class Flat:
    size = 1


@dataclasses.dataclass(frozen=True)
class Holder:
    sized: Sized | None = None
    derived: Derived = Derived()


def test_what_has_all_members_of_a_protocol_is_accepted_and_others_hear_what_they_lack():
    assert mistyped(Holder(Box(1)), Holder) is None
    assert mistyped(Holder(Derived()), Holder) is None
    assert str(mistyped(Holder(Flat()), Holder)).endswith("of type Flat; it must be a Sized or None; it lacks grow")
    assert str(mistyped(Holder(Box), Holder)).endswith("it must be a Sized or None: write Box(…)")
    assert str(mistyped(Holder(Box("1")), Holder)).startswith("sized.size is '1', of type str")


def test_a_class_that_extends_a_protocol_is_no_protocol():
    assert str(mistyped(Holder(derived=Box(1)), Holder)).endswith("of type Box; it must be Derived")
