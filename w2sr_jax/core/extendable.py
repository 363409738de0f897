"""The mark of classes that a user's own settings may extend."""

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple


class Extendable:
    """Base of what configurations may hold kinds of their own of: losses, schedules, teachers, starts, selections, training
    stages, stages. A run whose own code is not executed shows such a value as a stand-in of the nearest class of ours below this
    one, whose answers are then those of any of its kind.
    """

    must_define: ClassVar[tuple[str, ...]] = ()
    """Members of which a kind must define at least one."""


class Misfit(NamedTuple):
    """A value in settings whose class does not define what its base asks for: where it stands, the value, what is wrong in words
    that follow "a KIND, which", and the function to be looked at, where there is one."""

    where: str
    value: Any
    words: str
    function: Any = None


def misfits(value: Any, where: str = "") -> Iterator[Misfit]:
    """The values in settings (dataclasses and tuples) that define none of the members that their base asks for, or one that
    cannot be called as the base's is. Stand-ins of what was not executed lack nothing."""
    if isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from misfits(item, f"{where}.{index}".lstrip("."))
        return
    if isinstance(value, Extendable) and value.must_define and not hasattr(type(value), "unloaded"):
        yield from _misfits(value, where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from misfits(getattr(value, field.name), f"{where}.{field.name}".lstrip("."))


def _misfits(value: Extendable, where: str) -> Iterator[Misfit]:
    kind = type(value)
    base = next(each for each in kind.__mro__ if "must_define" in vars(each))
    own = [name for name in value.must_define if getattr(kind, name) is not getattr(base, name)]
    if not own:
        yield Misfit(where, value, f"defines no {' and no '.join(value.must_define)}; it must define one")
    for name in own:
        parameters = list(inspect.signature(getattr(base, name)).parameters)
        try:
            signature = inspect.signature(getattr(value, name))
        except (TypeError, ValueError):  # of what is not written in Python
            continue
        try:
            signature.bind(*parameters[1:])
        except TypeError:
            function = getattr(kind, name)
            words = f"defines {name}{inspect.signature(function)}; it must be {name}({', '.join(parameters)})"
            yield Misfit(where, value, words, function)
