"""Foreign text inside Markdown and YAML: shown as it is, never read as markup."""

import re
from typing import Any

import jinja2

from w2sr_jax.core import files, sentences

LONGEST = 1000


class Raw(str):
    """Text of our own, which may hold markup."""

    __slots__ = ()


def code(text: Any, longest: int = LONGEST) -> Raw:
    """Text as a code span on one line, also inside a table: nothing in it is markup, an HTML tag or a link."""
    shown = sentences.shown(str(text), longest).replace("|", "¦")  # tables are split at bars even inside code
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    edge = " " if not shown or shown.startswith(("`", " ")) or shown.endswith(("`", " ")) else ""
    return Raw(f"{fence}{edge}{shown or ' '}{edge}{fence}")


def plain(text: Any, longest: int = LONGEST) -> Raw:
    """Text among ours on one line, nothing in it markup, an HTML tag or a link."""
    return Raw(re.sub(r"([\\`*_{}\[\]()<>#+!|&~])", r"\\\1", sentences.shown(str(text), longest)))


def yaml(value: Any) -> Raw:
    """A value as YAML that no reader takes for anything else: JSON on one line."""
    return Raw(files.canonical_json(value).replace("\x7f", "\\u007f").replace("\x85", "\\u0085"))


def environment(folder: str) -> jinja2.Environment:
    """Templates in which every text that is not `Raw` becomes a code span."""
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=False,
        finalize=lambda value: code(value) if isinstance(value, str) and not isinstance(value, Raw) else value,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["yaml"] = yaml
    return templates
