"""Whether what a user's own code returned is what it must be. What is not is refused in one sentence: where the member is
defined, what it returned, and what would be right."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from w2sr_jax.core import sentences
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import UserError

T = TypeVar("T")


def fitting(value: object, kind: type[T], owner: object, member: str, right: str) -> T:
    """`value`, which the method `member` of `owner` returned, where it is of a kind. `UserError` otherwise; `right` says in words
    what it must do."""
    if not isinstance(value, kind):
        raise refusal(owner, member, value, right)
    return value


def each(value: object, owner: object, member: str, right: str) -> Iterator[object]:
    """What is in a collection that the method `member` of `owner` returned. `UserError` where it is none, or text."""
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
        raise refusal(owner, member, value, right)
    return iter(value)


def refusal(owner: object, member: str, value: object, right: str, verb: str = "returned") -> UserError:
    """The refusal of what the method `member` of `owner` returned, or of one of the things that it `verb`."""
    return of_function(getattr(type(owner), member, owner), f"{type(owner).__name__}.{member}", value, right, verb)


def of_function(function: object, name: str, value: object, right: str, verb: str = "returned") -> UserError:
    """The same of a function that is called `name` in sentences."""
    hint = " (is there a return?)" if value is None and verb == "returned" else ""
    return UserError(f"{usercode.defined(function)}: {name} {verb} {_shown(value)}{hint}; it must {right}")


def _shown(value: object) -> str:
    """A value in a few words: parameters of a model, for one, are not written out."""
    if value is None or isinstance(value, bool | int | float | str):
        return sentences.value(value, 60)
    return f"a value of type {type(value).__name__}"
