"""Columns of a file of traces that say how each trace ended, read by the same words as servers' answers are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.records import Finish
from w2sr_jax.problems.rows import Unusable, inner
from w2sr_jax.teachers import endings

FIELDS = ("finish_reason", "finish_reasons", "finish", "stop_reason", "done_reason", "truncated", "is_truncated", "was_truncated")
"""Names that are looked for, in this order; the first one whose values are known words counts."""

_SURE = ("finish_reason", "finish_reasons", "done_reason")  # vLLM's stop_reason is the text that it stopped at
_CUT = re.compile(r"trunc|cut", re.I)  # in names of columns in which True means that a trace is not finished
_SWITCHES = {"true": True, "false": False}


def find(rows: Sequence[Mapping[str, Any]], taken: Iterable[str] = ()) -> str | None:
    """The column of a file, whose first rows these are, that says how traces ended; None where none does."""
    others = frozenset(taken)
    for name in FIELDS:
        values = [] if name in others else [one for row in rows for one in _each(row.get(name)) if not _silent(one)]
        known = sum(_meaning(name, one) is not None for one in values)
        if known and (name in _SURE or 2 * known >= len(values)):
            return name
    return None


def of(values: Mapping[str, Any], field: str, count: int) -> list[Finish]:
    """How each of a row's traces ended; a field without a value says nothing. Raises Unusable."""
    try:
        value = inner(values, field)
    except KeyError:
        raise Unusable(f"field {field!r} is missing") from None
    said = value if isinstance(value, list) else [value] * count
    if len(said) != count:
        raise Unusable(f"field {field!r} holds {len(said)} values for {count} traces")
    found: list[Finish] = []
    for one in said:
        finished = True if _silent(one) else _meaning(field, one)
        if finished is None:
            raise Unusable(
                f"field {field!r} holds {sentences.value(one, 40)}, which is neither 'stop' nor 'length', nor another known word"
            )
        found.append("stop" if finished else "length")
    return found


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _silent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not endings.spelled(value))


def _meaning(name: str, value: Any) -> bool | None:
    """Whether a value says that a trace is finished; None where it says neither."""
    if isinstance(value, str):
        value = _SWITCHES.get(value.strip().casefold(), value)
    if isinstance(value, bool):
        return value is not (_CUT.search(name) is not None)
    meaning = endings.meaning(endings.spelled(value)) if isinstance(value, str) else "unknown"
    return None if meaning == "unknown" else meaning == "finished"
