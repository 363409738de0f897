"""The mark of classes that a user's own settings may extend."""

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar


class Extendable:
    """Base of what configurations may hold kinds of their own of: losses, schedules, teachers, starts, selections, training
    stages, stages. A run whose own code is not executed shows such a value as a stand-in of the nearest class of ours below this
    one, whose answers are then those of any of its kind.
    """

    must_define: ClassVar[tuple[str, ...]] = ()
    """Members of which a kind must define at least one."""


def lacking(value: Any, where: str = "") -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """The values in settings (dataclasses and tuples) that define none of what their base asks for: where they stand, the value,
    and the members' names. Stand-ins of what was not executed lack nothing."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from lacking(item, f"{where}.{index}".lstrip("."))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        if isinstance(value, Extendable) and value.must_define and not hasattr(type(value), "unloaded"):
            base = next(kind for kind in type(value).__mro__ if "must_define" in vars(kind))
            if all(getattr(type(value), name) is getattr(base, name) for name in value.must_define):
                yield where, value, value.must_define
        for field in dataclasses.fields(value):
            yield from lacking(getattr(value, field.name), f"{where}.{field.name}".lstrip("."))
