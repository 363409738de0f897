"""Columns of a file of traces that say how each trace ended, in the words of servers' finish reasons."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from w2sr_jax.core import sentences
from w2sr_jax.core.records import Finish
from w2sr_jax.problems.rows import Unusable, field_value
from w2sr_jax.teachers import finish_reasons

FIELDS = ("finish_reason", "finish_reasons", "finish", "stop_reason", "done_reason", "truncated", "is_truncated", "was_truncated")
"""Names that are looked for, in this order; the first column counts whose values are finish reasons that we know."""

_SURE = ("finish_reason", "finish_reasons", "done_reason")  # vLLM's stop_reason is the text that it stopped at
_CUT = re.compile(r"trunc|cut", re.I)  # in names of columns in which True means that a trace is not finished
_SWITCHES = {"true": True, "false": False}


def find(rows: Sequence[Mapping[str, Any]], taken: Iterable[str] = ()) -> str | None:
    """The column of a file, whose first rows these are, that says how traces ended; None where none does."""
    others = frozenset(taken)
    for name in FIELDS:
        values = [] if name in others else [one for row in rows for one in _each(row.get(name)) if not _silent(one)]
        understood = sum(_meaning(name, one) is not None for one in values)
        if understood and (name in _SURE or 2 * understood >= len(values)):
            return name
    return None


def finishes(values: Mapping[str, Any], field: str, count: int) -> list[Finish]:
    """How each of a row's `count` traces ended; without a value a trace counts as finished. Raises Unusable for other words."""
    try:
        value = field_value(values, field)
    except KeyError:
        raise Unusable(f"field {field!r} is missing") from None
    stated = value if isinstance(value, list) else [value] * count
    if len(stated) != count:
        raise Unusable(f"field {field!r} holds {len(stated)} values for {count} traces")
    ended: list[Finish] = []
    for one in stated:
        finished = True if _silent(one) else _meaning(field, one)
        if finished is None:
            raise Unusable(
                f"field {field!r} holds {sentences.value(one, 40)}, which is neither 'stop' nor 'length', nor another known word"
            )
        ended.append("stop" if finished else "length")
    return ended


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _silent(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not finish_reasons.readable(value))


def _meaning(name: str, value: Any) -> bool | None:
    """Whether a value says that a trace is finished (True) or cut off (False); None where it says neither."""
    if isinstance(value, str):
        value = _SWITCHES.get(value.strip().casefold(), value)
    if isinstance(value, bool):
        return value is not (_CUT.search(name) is not None)
    meaning = finish_reasons.meaning(finish_reasons.readable(value)) if isinstance(value, str) else "unknown"
    return None if meaning == "unknown" else meaning == "finished"
