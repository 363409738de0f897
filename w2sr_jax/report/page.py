"""The report as one HTML file: no script, nothing fetched, everything that a model or a user wrote escaped."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from w2sr_jax.report import hostile, schema, sections, wording
from w2sr_jax.report.verdict import verdict

_HERE = Path(__file__).parent
TEMPLATE, STYLE = "page.html.j2", "page.css"
LONGEST_TEXT = 20_000
LONGEST_SETTINGS = 200_000


def render(results: Mapping[str, Any]) -> str:
    """The page for `results.json` (schema.Results). Equal results give equal text; missing parts are left out or said to be."""
    data = schema.plain(results)
    style = (_HERE / STYLE).read_text(encoding="utf-8")
    said = verdict(data)
    settings, cut = hostile.capped(
        json.dumps(data.get("experiment") or {}, indent=2, sort_keys=True, ensure_ascii=False), LONGEST_SETTINGS
    )
    template = _environment().get_template(TEMPLATE)
    return template.render(
        style=Markup(style),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii"),
        name=data.get("name"),
        results=data,
        verdict=said,
        settings=settings,
        settings_cut=cut,
        **sections.everything(data, said),
    ).lstrip()


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
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
        quantity=wording.quantity,
        duration=wording.duration,
        one_line=hostile.one_line,
    )
    return environment


def _shown(value: Any) -> Any:
    """Every text on its way into the page, before it is escaped: hidden characters spelt out, nothing endless."""
    if value is None:
        return wording.MISSING
    if isinstance(value, str) and not isinstance(value, Markup):
        text, left_out = hostile.capped(value, max(LONGEST_TEXT, LONGEST_SETTINGS))
        return hostile.visible(text) + (f" … {left_out:,} more characters not shown" if left_out else "")
    return value
