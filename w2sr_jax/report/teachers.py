"""Teachers side by side: what each can do, what they can do together, and how alike their answers, texts and errors are."""

from collections.abc import Mapping
from typing import Any

from w2sr_jax.report import hostile
from w2sr_jax.report.links import Links

Row = dict[str, Any]

MOST_PAIRS = 30


def tables(data: Mapping[str, Any], links: Links) -> list[Row]:
    """One table per rung, and one over all rungs where there is one."""
    titles = {rung.get("index"): hostile.one_line(rung.get("name", ""), 30) for rung in data.get("rungs") or []}
    found = sorted(data.get("teachers") or [], key=lambda entry: (entry.get("rung") is not None, entry.get("rung") or 0))
    return [_table(entry, titles, links) for entry in found if entry.get("teachers")]


def _table(entry: Mapping[str, Any], titles: Mapping[Any, str], links: Links) -> Row:
    page, rung = entry.get("evidence"), entry.get("rung")
    pairs = entry.get("pairs") or []
    union = (entry.get("union") or {}).get("coverage") or {}
    teachers = [{**teacher, "href": links.to(page, str(teacher.get("name")))} for teacher in entry["teachers"]]
    return {
        "title": "All rungs" if rung is None else f"Rung {rung}: {titles.get(rung, '')}",
        "set": entry.get("set"),
        "problems": entry.get("problems"),
        "teachers": teachers,
        "ns": sorted({int(n) for teacher in teachers for n in teacher.get("distinct") or {} if str(n).isdigit()}),
        "union": {**union, "href": links.to(page, "union")},
        "pairs": [
            {**pair, "href": links.to(page, "disagree"), "same_wrong_href": links.to(page, "same_wrong")}
            for pair in pairs[:MOST_PAIRS]
        ],
        "pairs_left": max(0, len(pairs) - MOST_PAIRS),
    }
