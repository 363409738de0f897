"""Settings in words: of a loss or any other settings, of a function, and of their JSON."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from w2sr_jax.configuration.encoding import importable
from w2sr_jax.core.code.unloaded import Unloaded
from w2sr_jax.core.errors import UserError

ABSENT = "–"
LONGEST = 60


def words(value: Any) -> str:
    """Settings such as a loss in a few words: the type's or function's name, and the fields that are not at their defaults."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        if isinstance(value, tuple):
            return " + ".join(words(item) for item in value)
        return getattr(value, "__name__", None) or str(value)
    fields = dataclasses.fields(value)
    own = {field.name: getattr(value, field.name) for field in fields}
    if set(own) == {"terms"}:
        return words(own["terms"])
    if set(own) == {"coefficient", "loss"}:
        return f"{words(own['coefficient'])} · {words(own['loss'])}"
    changed = [f"{field.name} {words(own[field.name])}" for field in fields if own[field.name] != field.default]
    return type(value).__name__ + (f"({', '.join(changed)})" if changed else "")


def name_of(value: Any) -> str:
    """How a function, or an object that can be called, is called in a sentence."""
    if isinstance(value, Unloaded):
        return value.reference.name.partition(":")[2]
    if isinstance(value, functools.partial):
        arguments = [*map(repr, value.args), *(f"{name}={item!r}" for name, item in value.keywords.items())]
        return f"{name_of(value.func)}({', '.join(arguments)})"
    if dataclasses.is_dataclass(value) or not callable(value):
        return repr(value)
    try:
        return importable(value, "")[1]
    except UserError:
        return str(getattr(value, "__qualname__", type(value).__qualname__))


def in_words(value: Any, longest: int = LONGEST) -> str:
    """A setting as `encoding.encode` writes it, shortened: the name of its type or function, or its JSON; `ABSENT` for `...`,
    which stands for none."""
    if value is ...:
        return ABSENT
    if isinstance(value, Mapping) and ("type" in value or "function" in value):
        return str(value.get("type") or value.get("function")).rpartition(":")[2]
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
