"""Settings of one cluster, as `--set NAME=VALUE` gives them: fields of a frozen dataclass, all text."""

import dataclasses
import difflib
import re
from collections.abc import Sequence
from typing import Any, TypeVar

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

PLAIN = re.compile(r"[\w.,:/@%+=()\[\]&|*~^-]*", re.ASCII)
"""No white space, no quotes: what names of partitions, zones and images are made of."""

S = TypeVar("S")


def setting(about: str, default: str = "", required: bool = False) -> Any:
    """A field of a cluster's settings. Its help is `about`."""
    return dataclasses.field(default=default, metadata={"about": about, "required": required})


def parsed(kind: type[S], cluster: str, assigned: Sequence[str]) -> S:
    """The settings of a cluster from texts `NAME=VALUE`. `UserError` for a name that the cluster does not have, a value that no
    setting can have, and for one that is needed and missing."""
    fields = {field.name.replace("_", "-"): field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    values: dict[str, str] = {}
    for text in assigned:
        name, equals, value = text.partition("=")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(fields)}"
            raise UserError(f"--set {sentences.value(name)} is no setting of {cluster}; {hint}")
        if not equals or not value or not PLAIN.fullmatch(value) or value.startswith("-"):
            raise UserError(
                f"--set {name}: {sentences.value(value)} is no value; write --set {name}=VALUE, without blanks or quotes"
            )
        values[fields[name].name] = value
    for name, field in fields.items():
        if field.metadata["required"] and field.name not in values:
            raise UserError(f"{cluster} needs --set {name}=…: {field.metadata['about']}")
    return kind(**values)


def lines(kind: type) -> list[str]:
    """The settings with what each means, a line each."""
    return [
        f"{field.name.replace('_', '-')}: {field.metadata['about']}" + (f" (default: {field.default})" if field.default else "")
        for field in dataclasses.fields(kind)
    ]


def yes(value: str, name: str) -> bool:
    """`UserError` where a setting is neither yes nor no."""
    if value not in ("yes", "no"):
        raise UserError(f"--set {name}={value}: write yes or no")
    return value == "yes"
