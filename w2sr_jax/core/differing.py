"""Where JSON values differ: the settings of two experiments, or two versions of a file."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def differing(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every innermost path at which two JSON values differ: the path (`rungs.0.name`, "" for the whole), the old and the new
    value there, `...` for one that is not there. See `differing_among`."""
    for at, (was, now) in differing_among((old, new), path):
        yield at, was, now


def differing_among(values: Sequence[Any], path: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The same for any number of values: a path, and what each has there.

    Keys come in the order in which they stand, lists entry by entry. Objects of different `type`, as settings have it, differ as
    a whole. Equal numbers of different types (1 and 1.0) differ, as their digests do; NaN equals itself.
    """
    first = values[0]
    if all(isinstance(value, Mapping) and same(value.get("type"), first.get("type")) for value in values):
        for key in dict.fromkeys(key for value in values for key in value):
            yield from differing_among([value.get(key, ...) for value in values], f"{path}.{key}" if path else str(key))
    elif all(isinstance(value, list) for value in values):
        for index in range(max(map(len, values))):
            entries = [value[index] if index < len(value) else ... for value in values]
            yield from differing_among(entries, f"{path}.{index}" if path else str(index))
    elif not all(same(value, first) for value in values):
        yield path, tuple(values)


def same(old: Any, new: Any) -> bool:
    """Whether two JSON values are equal, types of numbers included."""
    if isinstance(old, float) and isinstance(new, float):
        return old == new or (math.isnan(old) and math.isnan(new))
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return old.keys() == new.keys() and all(same(old[key], new[key]) for key in old)
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(same, old, new))
    return type(old) is type(new) and bool(old == new)
