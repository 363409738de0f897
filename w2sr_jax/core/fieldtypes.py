"""Whether the values in settings have the types that their dataclasses declare, which Python itself does not check."""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin

from w2sr_jax.core import sentences

WHERE_SET = {"where_set": True}
"""Metadata of a field that is a setting only where its value is not its default: without it, all is as if it did not exist."""
_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "True or False", NoneType: "None"}
_BITS = 63


def mistyped(value: Any, kind: Any, where: str = "") -> str | None:
    """A sentence about the first setting in `value` (at `where`, for example `rungs.0.training`) that is not of the type `kind`:
    where it is, its value, what would be right. None where all are.

    Whole numbers stand for numbers, never True and False for either. Numbers must be finite and fit 64 bits, text must be
    characters that can be written to a file.
    """
    if not _fits(value, kind):
        name = where or "the value"
        shown = sentences.value(value, 60)
        return f"{name} is {shown}, of type {type(value).__name__}; it must be {_words(kind)}{_lacking(value, kind)}"
    fault = unwritable(value)
    if fault is not None:
        return f"{where or 'the value'} is {sentences.value(value, 60)}; it must be {fault}"
    return next((fault for part, inner, at in _parts(value, kind, where) if (fault := mistyped(part, inner, at))), None)


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, its parts aside."""
    if kind is Any:
        return True
    origin = get_origin(kind)
    if origin in (typing.Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in get_args(kind))
    if origin is tuple:
        kinds = get_args(kind)
        return isinstance(value, tuple) and (Ellipsis in kinds or len(value) == len(kinds))
    if origin is Callable or _members(kind) == ("__call__",):
        return callable(value)
    if _members(kind):
        return not _missing(value, kind)
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if kind is None:
        return value is None
    return isinstance(value, kind) if isinstance(kind, type) else True


def _members(kind: Any) -> tuple[str, ...]:
    """Names of the methods and attributes that a protocol asks for; empty for everything that is no protocol."""
    if not getattr(kind, "_is_protocol", False):
        return ()
    bases = [base for base in kind.__mro__ if getattr(base, "_is_protocol", False)]
    names = [name for base in bases for name in (*vars(base), *getattr(base, "__annotations__", {}))]
    return tuple(dict.fromkeys(name for name in names if name == "__call__" or not name.startswith("_")))


def _missing(value: Any, kind: Any) -> tuple[str, ...]:
    """The members of a protocol that a value does not have. A class has none: its methods need an object of it. What stands for
    an object whose code was not executed has all."""
    if hasattr(type(value), "unloaded"):
        return ()
    members, fields = _members(kind), getattr(type(value), "__dataclass_fields__", {})
    if isinstance(value, type):
        return members
    return tuple(name for name in members if not hasattr(type(value), name) and name not in fields)


def _lacking(value: Any, kind: Any) -> str:
    """The end of a sentence about a value that is of no protocol among the alternatives: what it lacks of the last of them."""
    protocols = [one for one in _alternatives(kind) if _members(one) not in ((), ("__call__",))]
    if not protocols:
        return ""
    if isinstance(value, type):
        return f": write {value.__name__}(…)"
    return f"; it lacks {', '.join(_missing(value, protocols[-1]))}"


def unwritable(value: Any) -> str | None:
    """What a plain value must be so that it can be saved, in words; None where it can."""
    if isinstance(value, float) and not math.isfinite(value):
        return "finite"
    if isinstance(value, int) and abs(value) >> _BITS:
        return f"between -2**{_BITS} and 2**{_BITS}"
    if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
        return "text without NUL and half surrogate pairs"
    return None


def _parts(value: Any, kind: Any, where: str) -> list[tuple[Any, Any, str]]:
    """The parts of a value of the right type, each with its declared type and its path."""
    if isinstance(value, tuple):
        kinds = next((get_args(one) for one in _alternatives(kind) if get_origin(one) is tuple and _fits(value, one)), (Any, ...))
        each = [kinds[0]] * len(value) if Ellipsis in kinds else list(kinds)
        return [(part, inner, _at(where, str(index))) for index, (part, inner) in enumerate(zip(value, each, strict=True))]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = _hints(type(value))
        names = [field.name for field in dataclasses.fields(value)]
        return [(getattr(value, name), hints.get(name, Any), _at(where, name)) for name in names if hasattr(value, name)]
    return []


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (typing.Union, UnionType) else (kind,)


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    """Declared types of a dataclass; none where a user's own annotations cannot be evaluated."""
    try:
        return typing.get_type_hints(kind)
    except Exception:
        return {}


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin in (typing.Union, UnionType):
        return " or ".join(_words(one) for one in get_args(kind))
    if origin is Literal:
        return " or ".join(repr(one) for one in get_args(kind))
    if origin is tuple:
        kinds = get_args(kind)
        if Ellipsis in kinds:
            return f"a tuple, each part {_words(kinds[0])}"
        return f"a tuple of {len(kinds)}: {', '.join(map(_words, kinds))}"
    if origin is Callable or _members(kind) == ("__call__",):
        return "a function, or a dataclass that can be called"
    if _members(kind):
        return f"a {kind.__name__}"
    return _WORDS[kind] if kind in _WORDS else str(getattr(kind, "__name__", kind))
