"""Placeholders for a user's types and functions where their code is not executed: they hold the saved fields, are saved as the
same again, and raise a UserError when they are called."""

import dataclasses
from typing import Any, NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError


class Reference(NamedTuple):
    """A type or function of the user's, as saved settings name it: `name` is MODULE:NAME, `source` the digest of its code,
    `extends` the class of this package that it extends, `setting` the path of the setting that names it, such as
    `rungs.0.objective`."""

    name: str
    source: str | None
    extends: type | None
    setting: str


class Unloaded:
    """The placeholder of a function of the user's whose code was not executed."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    def __call__(self, *_: object) -> Any:
        raise UserError(f"{self.reference.name} is code of the run's own, which was not executed")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unloaded) and other.reference[:2] == self.reference[:2]

    def __hash__(self) -> int:
        return hash(self.reference[:2])

    def __repr__(self) -> str:
        return self.reference.name


def unloaded(value: object) -> bool:
    """Whether a value in settings stands for code of a user's that was not executed."""
    return isinstance(value, Unloaded) or hasattr(type(value), "unloaded")


def stand_in(reference: Reference, names: list[str]) -> type:
    """The placeholder of a user's dataclass: it has the fields `names`, extends the same class of this package, and has none of
    the user's code."""
    own = [name for name in names if reference.extends is None or name not in _fields(reference.extends)]
    if not all(name.isidentifier() for name in own):
        raise UserError(f"{reference.setting}: {reference.name} has a field {sentences.value(own[0])}, which is no name")

    def refused(self: Any, *_: object, **__: object) -> Any:
        del self
        raise UserError(f"{reference.name} is code of the run's own, which was not executed")

    def lacking(self: Any, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        refused(self)

    # The user's own methods are refused; the class that it extends has the others.
    needed = (*getattr(reference.extends, "__abstractmethods__", ()), *getattr(reference.extends, "must_define", ()))
    return dataclasses.make_dataclass(
        reference.name.rpartition(":")[2].rpartition(".")[2],
        [(name, Any, dataclasses.field(kw_only=True)) for name in own],
        bases=(reference.extends,) if reference.extends else (),
        frozen=True,
        namespace={
            **dict.fromkeys(needed, refused),
            "unloaded": reference,
            "__call__": refused,
            "__getattr__": lacking,
        },
    )


def _fields(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
