"""Templates of jobs. Every value is quoted as its file needs it; only what is `Raw` stands as it is."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jinja2

from w2sr_jax.launch import quoting

_FOLDER = Path(__file__).parent / "templates"


class Raw(str):
    """Text that is quoted already, or is code on purpose."""


def rendered(template: str, values: object) -> str:
    """The template (`NAME.sh` or `NAME.yaml`) with the fields of a dataclass."""
    assert dataclasses.is_dataclass(values)
    fields = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    return _environment(Path(template).suffix).get_template(template).render(fields)


@functools.cache
def _environment(suffix: str) -> jinja2.Environment:
    quote = {".sh": _in_shell, ".yaml": _in_yaml}[suffix]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=False,
        finalize=_unless_raw(quote),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["raw"] = Raw
    return environment


def _unless_raw(quote: Callable[[object], str]) -> Callable[[object], str]:
    def finalize(value: object) -> str:
        return value if isinstance(value, Raw) else quote(value)

    return finalize


def _in_shell(value: object) -> str:
    if isinstance(value, tuple):
        return quoting.words(tuple(map(str, value)))
    return quoting.shell(str(value))


def _in_yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_in_yaml, value)) + "]"
    assert isinstance(value, str)
    return quoting.yaml(value)
