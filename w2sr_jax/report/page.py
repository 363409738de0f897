"""The report's first page as one HTML file: no script, nothing fetched, everything that a model or a user wrote escaped."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import hostile, schema, sections, template
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.links import links
from w2sr_jax.report.verdict import headline

LONGEST_SETTINGS = 200_000


def render(results: Mapping[str, Any], timings: Mapping[str, Any] | None = None, evidence: Sequence[Evidence] = ()) -> str:
    """The page for `results.json` (schema.Results) and `timings.json`, with links to the pages of evidence beside it. Equal
    arguments give equal text; missing parts are left out or said to be."""
    data = schema.plain(results)
    times = None if timings is None else schema.plain(timings)
    settings, cut = hostile.capped(
        json.dumps(data.get("experiment") or {}, indent=2, sort_keys=True, ensure_ascii=False), LONGEST_SETTINGS
    )
    return template.rendered(
        "page.html.j2",
        name=data.get("name"),
        results=data,
        headline=headline(data),
        settings=settings,
        settings_cut=cut,
        pages=len(evidence),
        **sections.everything(data, times, links(evidence)),
    )
