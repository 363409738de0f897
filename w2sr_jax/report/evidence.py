"""Evidence pages: the rows behind the numbers of `index.html`, one page per key, one anchored section per group.

A cell of `index.html` links to the group that it counts, where the page has it, and else to the page's top. It asks for

- a model's page: `correct`, `incorrect`, `unparsed`; `only_student`, `only_teacher` (against the teacher); `wrong_step`,
  `looping`, `cut_off`, `changed_answer`; `early_answering`, `mistakes`
- a ledger's page: `repeat`, `chance`, `induced`, `corrected`, `corrupted`, `teacher_wrong`, `teacher_right`,
  `teacher_wrong_base_right`, `teacher_unreadable`
- a page of curation: `kept`, and each reason of a rejection
- a page of teachers: each teacher's name, `union`, `disagree`, `same_wrong`
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from w2sr_jax.core import codec
from w2sr_jax.report import hostile, template
from w2sr_jax.report.results import Source
from w2sr_jax.report.sources import listed

FOLDER = "evidence"
MOST_ROWS = 200
LONGEST_GROUP = 150_000  # characters of one group's cells
LONGEST_CELL = 600
MOST_LINES = 24  # of one cell
_PLAIN_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,78}[A-Za-z0-9_-])?")


class EvidenceRow(NamedTuple):
    """A row about a problem: a value per column, and the keys of the groups it belongs to."""

    problem_id: str
    values: tuple[str | None, ...]
    groups: tuple[str, ...]


class Evidence(NamedTuple):
    """A page: `about` says in a sentence what its rows are, `groups` maps a group's key to its title, in the order of the page.
    `columns` name the values; the problem's id stands before them."""

    key: str
    title: str
    about: str
    sources: Sequence[Source]
    columns: tuple[str, ...]
    groups: Mapping[str, str]
    rows: Sequence[EvidenceRow]


def file_name(key: str) -> str:
    """KEY.html; a key that is no plain name gets a digest, so that no two share a file and none leaves the folder."""
    return f"{_plain(key)}.html"


def anchor(group: str) -> str:
    """The group's id in the page."""
    return _plain(group)


def _plain(name: str) -> str:
    if _PLAIN_NAME.fullmatch(name):
        return name
    short = re.sub(r"[^A-Za-z0-9]+", "-", name[:40]).strip("-")
    return f"{short or 'x'}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:10]}"


def checked(pages: Iterable[Evidence]) -> list[Evidence]:
    """The pages, if each has a key of its own, its rows a value per column, and their groups a title; else a `ValueError`."""
    found = list(pages)
    twice = [name for name, number in Counter(file_name(page.key).lower() for page in found).items() if number > 1]
    if twice:
        raise ValueError(f"two evidence pages would be written to {twice[0]}")
    for page in found:
        for row in page.rows:
            if len(row.values) != len(page.columns):
                raise ValueError(
                    f"evidence {page.key!r}, {row.problem_id}: {len(row.values)} values, {len(page.columns)} columns"
                )
            if not set(row.groups) <= set(page.groups):
                raise ValueError(f"evidence {page.key!r}, {row.problem_id}: no title for {set(row.groups) - set(page.groups)}")
    return found


def render(page: Evidence, run: Any) -> str:
    """The page's HTML; `run` is the run's name. Equal arguments give equal text."""
    groups = [_group(key, title, page) for key, title in page.groups.items()]
    return template.rendered(
        "evidence.html.j2",
        run=run,
        page=page,
        groups=groups,
        sources=listed(map(codec.encode, page.sources)),
        paths=[source.path for source in page.sources],
    )


def _group(key: str, title: str, page: Evidence) -> dict[str, Any]:
    members = [row for row in page.rows if key in row.groups]
    shown: list[dict[str, Any]] = []
    length = 0
    for row in members[:MOST_ROWS]:
        cells = [_cell(value) for value in row.values]
        length += sum(len(cell["text"]) for cell in cells if cell is not None)
        if shown and length > LONGEST_GROUP:
            break
        shown.append({"id": row.problem_id, "cells": cells})
    return {"anchor": anchor(key), "title": title, "count": len(members), "rows": shown, "left": len(members) - len(shown)}


def _cell(value: str | None) -> dict[str, Any] | None:
    if value is None:
        return None
    text, _ = hostile.capped(value, LONGEST_CELL)
    text = "\n".join(text.split("\n")[:MOST_LINES])
    return {"text": text, "left": len(value) - len(text), "long": len(text) > 24 or "\n" in text}
