"""Settings from the command line: any field of an experiment can be overridden, with its type, its help and "did you mean"."""

import dataclasses
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from w2sr_jax.configuration.words import name_of
from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import BUILT_IN
from w2sr_jax.experiment.arms import Arm, named
from w2sr_jax.experiment.experiment import Experiment

_ARMS = re.compile(r"--rungs\.(\d{1,4})\.arms")


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

    rest, arms = _arms_of(arguments)
    chosen = _with_arms(experiment, arms)
    changed = tyro.cli(
        Experiment,
        default=_each(_resolved(chosen), hidden),
        args=rest,
        prog=program,
        config=(tyro.conf.AvoidSubcommands,),
    )
    changed = _each(changed, lambda value: functions.get(value, value) if callable(value) else value)
    return _by_name(changed, chosen)


def _arms_of(arguments: Sequence[str]) -> tuple[list[str], dict[int, list[str]]]:
    """The arguments without `--rungs.N.arms NAME ...`, and the names by rung."""
    rest: list[str] = []
    arms: dict[int, list[str]] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        option, equals, value = argument.partition("=")
        asked = _ARMS.fullmatch(option)
        if asked is None:
            rest.append(argument)
            continue
        names = [value] if equals else []
        while waiting and not waiting[0].startswith("--"):
            names.append(waiting.pop(0))
        arms[int(asked[1])] = names
    return rest, arms


def _with_arms(experiment: Experiment, arms: Mapping[int, Sequence[str]]) -> Experiment:
    """The experiment with other arms in some rungs: the configuration's own arms of these names, or the built-in ones."""
    rungs = list(experiment.rungs)
    for index, names in arms.items():
        if index >= len(rungs):
            raise UserError(f"--rungs.{index}.arms: the experiment has rungs 0 to {len(rungs) - 1}")
        own = {arm.name: arm for arm in rungs[index].arms if isinstance(arm, Arm)}
        selectable = (*own, *(name for name in BUILT_IN if name not in own))
        for name in names:
            if name not in selectable:
                near = difflib.get_close_matches(name, selectable, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"arms are {', '.join(selectable)}"
                raise UserError(f"--rungs.{index}.arms: there is no arm {name!r}; {hint}")
        rungs[index] = dataclasses.replace(rungs[index], arms=tuple(own.get(name, name) for name in names))
    return dataclasses.replace(experiment, rungs=tuple(rungs)) if arms else experiment


def _resolved(experiment: Experiment) -> Experiment:
    """The experiment with arms in place of their names, so that each of their fields can be overridden."""
    rungs = tuple(dataclasses.replace(rung, arms=rung.selected_arms) for rung in experiment.rungs)
    return dataclasses.replace(experiment, rungs=rungs)


def _by_name(changed: Experiment, before: Experiment) -> Experiment:
    """The experiment with the names of arms that were given by name and are still what these stand for."""
    rungs = []
    for rung, was in zip(changed.rungs, before.rungs, strict=True):
        pairs = zip(rung.arms, was.arms, strict=True)
        arms = tuple(name if isinstance(name, str) and arm == named(name) else arm for arm, name in pairs)
        rungs.append(dataclasses.replace(rung, arms=arms))
    return dataclasses.replace(changed, rungs=tuple(rungs))


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
