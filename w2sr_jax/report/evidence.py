"""Evidence pages: the rows behind the numbers of `index.html`, one page per key, one anchored section per group.

A cell of `index.html` links to the group that it counts, where the page has it, and else to the page's top. It asks for

- a model's page: `correct`, `incorrect`, `unparsed`; `only_student`, `only_teacher` (against the teacher); `wrong_step`,
  `looping`, `cut_off`, `changed_answer`; `early_answering`, `mistakes`
- a ledger's page: `repeat`, `chance`, `induced`, `corrected`, `corrupted`, `teacher_wrong`, `teacher_right`,
  `teacher_wrong_base_right`, `teacher_unreadable`
- a page of curation: `kept`, and each reason of a rejection
- a page of teachers: each teacher's name, `union`, `disagree`, `same_wrong`
"""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax.report import hostile, template
from w2sr_jax.report.results import Source

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
    every = list(pages)
    twice = [name for name, number in Counter(file_name(page.key).lower() for page in every).items() if number > 1]
    if twice:
        raise ValueError(f"two evidence pages would be written to {twice[0]}")
    for page in every:
        for row in page.rows:
            if len(row.values) != len(page.columns):
                raise ValueError(
                    f"evidence {page.key!r}, {row.problem_id}: {len(row.values)} values, {len(page.columns)} columns"
                )
            if not set(row.groups) <= set(page.groups):
                raise ValueError(f"evidence {page.key!r}, {row.problem_id}: no title for {set(row.groups) - set(page.groups)}")
    return every


@dataclasses.dataclass(frozen=True)
class Links:
    """Which cell of the report leads where: `groups` of each page that is written beside it, by the page's key."""

    groups: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, pages: Iterable[Evidence]) -> "Links":
        return cls({page.key: frozenset(page.groups) for page in pages})

    def to(self, key: str | None, *groups: str) -> str | None:
        """The address of the page's first group among those named that it has, or of its top; None where there is no page."""
        if key is None or key not in self.groups:
            return None
        group = next((group for group in groups if group in self.groups[key]), None)
        page = f"{FOLDER}/{file_name(key)}"
        return page if group is None else f"{page}#{anchor(group)}"


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A text as it is shown, how many characters of it are not, and whether it needs a wide column."""

    text: str
    left: int
    long: bool

    @classmethod
    def of(cls, value: str) -> "_Cell":
        text, _ = hostile.capped(value, LONGEST_CELL)
        text = "\n".join(text.split("\n")[:MOST_LINES])
        return cls(text, len(value) - len(text), len(text) > 24 or "\n" in text)


@dataclasses.dataclass(frozen=True)
class _Row:
    id: str
    cells: list[_Cell | None]


@dataclasses.dataclass(frozen=True)
class _Group:
    """`rows` of the `count` that the group has; `left` are not shown."""

    anchor: str
    title: str
    count: int
    rows: list[_Row]
    left: int


@dataclasses.dataclass(frozen=True)
class _Shown:
    """What the template of an evidence page is given; `run` is the run's name."""

    run: str
    page: Evidence
    groups: list[_Group]
    sources: list[Source]


def listed(sources: Iterable[Source]) -> list[Source]:
    """Each file once (and each choice of its rows), in order of their paths."""
    by_path = {(source.path, source.where or ""): source for source in sources}
    return [by_path[key] for key in sorted(by_path)]


def render(page: Evidence, run: str) -> str:
    """The page's HTML; `run` is the run's name. Equal arguments give equal text."""
    groups = [_group(key, title, page) for key, title in page.groups.items()]
    return template.rendered("evidence.html.j2", _Shown(run, page, groups, listed(page.sources)))


def _group(key: str, title: str, page: Evidence) -> _Group:
    members = [row for row in page.rows if key in row.groups]
    shown: list[_Row] = []
    length = 0
    for row in members[:MOST_ROWS]:
        cells = [None if value is None else _Cell.of(value) for value in row.values]
        length += sum(len(cell.text) for cell in cells if cell is not None)
        if shown and length > LONGEST_GROUP:
            break
        shown.append(_Row(row.problem_id, cells))
    return _Group(anchor(key), title, len(members), shown, len(members) - len(shown))
