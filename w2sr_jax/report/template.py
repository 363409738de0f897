"""What all pages of a report have in common: the templates' environment, one style sheet, and the policy that shuts them in."""

import base64
import dataclasses
import functools
import hashlib
from pathlib import Path

import jinja2
from markupsafe import Markup

from w2sr_jax.report import hostile, wording

_FOLDER = Path(__file__).parent / "templates"
STYLE = "page.css"
LONGEST_TEXT = 200_000


def rendered(template: str, values: object) -> str:
    """The template with the fields of a dataclass; every text among them is escaped, hidden characters spelt out."""
    assert dataclasses.is_dataclass(values)
    fields = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    style = (_FOLDER / STYLE).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
    # The style sheet is ours and allowed by its digest; no other style, no script, no frame, nothing from elsewhere.
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _environment().get_template(template).render(style=Markup(style), policy=Markup(policy), **fields).lstrip()


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        percent=wording.percent,
        points=wording.points,
        percent_range=wording.percent_range,
        points_range=wording.points_range,
        decimal=wording.decimal,
        p_value=wording.p_value,
        count=wording.count,
        money=wording.money,
        quantity=wording.quantity,
        duration=wording.duration,
        one_line=hostile.one_line,
    )
    return environment


def _shown(value: object) -> object:
    """Every text on its way into a page, before it is escaped: hidden characters spelt out, nothing endless."""
    if value is None:
        return wording.MISSING
    if isinstance(value, str) and not isinstance(value, Markup):
        text, left_out = hostile.capped(value, LONGEST_TEXT)
        return hostile.visible(text) + (f" … {left_out:,} more characters not shown" if left_out else "")
    return value
