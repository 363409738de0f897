"""Results as JSON and back: dataclasses made of numbers, text, tuples, mappings and other dataclasses.

Who reads knows the type, so the JSON holds field names and values alone. (Settings name their types in the file, which
`configuration.encoding` writes and reads.) What is read may be a stranger's: every value is checked against its declared type,
and what does not fit is a `UserError` that names the file and the field.
"""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError

T = TypeVar("T")

DEEPEST = 64
"""Levels of nesting in a value of no declared type (`object`)."""
LARGEST = 1e100
"""The largest float in a result: whoever draws or prints it must not overflow."""
_BITS = 63
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "null"}
_LEFT_OUT, _INLINE = "left out", "inline"

LeftOut = Annotated[T, _LEFT_OUT]
"""The type of a field that the JSON lacks where it has its default."""
Inline = Annotated[T, _INLINE]
"""The type of a field whose own fields stand among those of the object that it belongs to."""


def encode(value: object) -> Any:
    """The value as plain JSON. A number that is not finite becomes None. `TypeError` for what is no result."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_fields(value)
    raise TypeError(f"a {type(value).__name__} cannot be a part of a result: {sentences.value(value)}")


def decode(kind: type[T], value: object, where: str, others: bool = False) -> T:
    """The inverse of `encode`: a value of type `kind` from JSON; `where` names the file. Fields that the JSON lacks have their
    defaults. `UserError` for a value of another shape, and for unknown fields unless `others` lets those of `kind` itself be."""
    try:
        return cast(T, _decode(kind, value, where, "", others))
    except RecursionError:
        raise UserError(f"{where} is nested too deeply") from None


def write(path: Path, value: object) -> None:
    """Write a result as a JSON file."""
    files.write_json(path, encode(value))


def read(kind: type[T], path: Path) -> T:
    """The result in a JSON file. `UserError` where there is none of type `kind`."""
    return decode(kind, files.read_json(path), str(path))


def _encode_fields(value: Any) -> dict[str, Any]:
    kind: Any = type(value)
    encoded, hints = dict[str, Any](), _hints(kind)
    for field in dataclasses.fields(value):
        part, mark = getattr(value, field.name), _mark(hints[field.name])
        if mark == _INLINE:
            encoded |= encode(part)
        elif mark != _LEFT_OUT or part != field.default:
            encoded[field.name] = encode(part)
    return encoded


def _decode(kind: Any, value: Any, where: str, at: str, others: bool = False) -> Any:
    origin = get_origin(kind)
    if origin is Annotated:
        return _decode(get_args(kind)[0], value, where, at)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _decode(_other_than_none(kind), value, where, at)
    if kind is object:
        _check_plain(value, where, at)
        return value
    if origin is tuple and isinstance(value, list):
        return _decode_list(get_args(kind), value, where, at)
    if origin in (dict, Mapping) and isinstance(value, dict):
        _, inner = get_args(kind)
        return {key: _decode(inner, item, where, _inside(at, key)) for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _decode_fields(kind, value, where, at, others)
    if origin is Literal and any(type(value) is type(one) and value == one for one in get_args(kind)):
        return value
    if kind in (str, bool) and isinstance(value, kind):
        return value
    if kind in (int, float) and _is_number(value, kind):
        return value
    raise UserError(f"{_named(where, at)} is {sentences.value(value, 60)}; it must be {_words(kind)}")


def _decode_list(kinds: tuple[Any, ...], value: list[Any], where: str, at: str) -> tuple[Any, ...]:
    if Ellipsis in kinds:
        return tuple(_decode(kinds[0], item, where, _inside(at, str(index))) for index, item in enumerate(value))
    if len(value) != len(kinds):
        raise UserError(f"{_named(where, at)} has {len(value)} entries; it must have {len(kinds)}")
    return tuple(_decode(kind, item, where, _inside(at, str(index))) for index, (kind, item) in enumerate(zip(kinds, value)))


def _decode_fields(kind: Any, value: dict[str, Any], where: str, at: str, others: bool) -> Any:
    if not others and (unknown := sorted(value.keys() - _names(kind))):
        raise UserError(f"{_named(where, at)} has an unknown field {sentences.value(unknown[0])}")
    hints, parts = _hints(kind), {}
    for field in dataclasses.fields(kind):
        if _mark(hints[field.name]) == _INLINE:
            parts[field.name] = _decode_fields(get_args(hints[field.name])[0], value, where, at, True)
        elif field.name in value:
            parts[field.name] = _decode(hints[field.name], value[field.name], where, _inside(at, field.name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UserError(f"{_named(where, at)} has no field {field.name!r}")
    return kind(**parts)


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def _names(kind: Any) -> frozenset[str]:
    """The fields that an object of this type may have in JSON."""
    names: set[str] = set()
    for field in dataclasses.fields(kind):
        hint = _hints(kind)[field.name]
        names |= _names(get_args(hint)[0]) if _mark(hint) == _INLINE else {field.name}
    return frozenset(names)


def _mark(hint: Any) -> str | None:
    return get_args(hint)[1] if get_origin(hint) is Annotated else None


def _other_than_none(kind: Any) -> Any:
    (other,) = (one for one in get_args(kind) if one is not types.NoneType)
    return other


def _is_number(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, float) else not abs(value) >> _BITS  # NaN is not


def _check_plain(value: Any, where: str, at: str) -> None:
    """`UserError` for a value without a declared type that is nested too deeply or holds a number that is not finite."""
    level = [value]
    for _ in range(DEEPEST):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise UserError(f"{_named(where, at)} holds a number that is not finite")
        level = [part for item in level if isinstance(item, dict | list) for part in _parts(item)]
        if not level:
            return
    raise UserError(f"{_named(where, at)} is nested too deeply")


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _inside(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _named(where: str, at: str) -> str:
    return f"{where}, {sentences.shown(at)}" if at else where


def _words(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(repr(one) for one in get_args(kind))
    return "a list" if origin is tuple else _WORDS.get(kind, "an object")
