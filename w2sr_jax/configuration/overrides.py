"""Settings from the command line: any field of an experiment can be overridden, with its type, its help and "did you mean"."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from w2sr_jax.configuration.words import name_of
from w2sr_jax.experiment import Experiment


def overridden(experiment: Experiment, arguments: Sequence[str], program: str) -> Experiment:
    """The experiment with what `arguments` say. Functions of the user's stay what they are."""
    # tyro looks into what it is given, also into a jitted function's or a partial's signature: it gets plain ones instead.
    functions: dict[Callable[..., Any], Any] = {}

    def hidden(value: Any) -> Any:
        if not callable(value) or dataclasses.is_dataclass(value):
            return value
        stand_in = _plain(value)
        functions[stand_in] = value
        return stand_in

    changed = tyro.cli(
        Experiment,
        default=_each(experiment, hidden),
        args=list(arguments),
        prog=program,
        config=(tyro.conf.AvoidSubcommands,),
    )
    return _each(changed, lambda value: functions.get(value, value) if callable(value) else value)


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """Settings with `change` made of every value that is neither a dataclass nor a tuple."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.init}
        parts = {name: _each(part, change) for name, part in fields.items()}
        same = all(part is fields[name] for name, part in parts.items())
        return value if same else dataclasses.replace(value, **parts)
    if isinstance(value, tuple):
        items = tuple(_each(part, change) for part in value)
        return value if all(a is b for a, b in zip(items, value)) else items
    return change(value)


def _plain(value: Any) -> Callable[..., Any]:
    def stand_in() -> None: ...

    stand_in.__name__ = stand_in.__qualname__ = name_of(value)
    return stand_in
