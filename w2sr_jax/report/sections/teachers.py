"""Teachers side by side: what each can do, what they can do together, and how alike their answers, texts and errors are."""

import dataclasses
from collections.abc import Mapping

from w2sr_jax.evaluation.statistics import Estimate
from w2sr_jax.evaluation.teachers import Pair, Teacher
from w2sr_jax.report import hostile
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import Results, TeachersEntry

MOST_PAIRS = 30


@dataclasses.dataclass(frozen=True)
class TeacherRow:
    teacher: Teacher
    href: str | None


@dataclasses.dataclass(frozen=True)
class PairRow:
    pair: Pair
    href: str | None
    same_wrong_href: str | None


@dataclasses.dataclass(frozen=True)
class TeachersTable:
    """`ns` are the n of distinct-n; `union` is the share of problems that any teacher gets right."""

    title: str
    set: str
    problems: int
    teachers: list[TeacherRow]
    ns: list[str]
    union: Estimate
    union_href: str | None
    pairs: list[PairRow]
    pairs_left: int


def tables(results: Results, links: Links) -> list[TeachersTable]:
    """One table per rung, and one over all rungs where there is one."""
    titles = {rung.index: hostile.one_line(rung.name, 30) for rung in results.rungs}
    entries = sorted(results.teachers, key=lambda entry: (entry.comparison.rung is not None, entry.comparison.rung or 0))
    return [_table(entry, titles, links) for entry in entries if entry.comparison.teachers]


def _table(entry: TeachersEntry, titles: Mapping[int, str], links: Links) -> TeachersTable:
    page, compared = entry.evidence, entry.comparison
    ns = {n for teacher in compared.teachers for n in teacher.distinct if n.isdigit()}
    different, same_wrong = links.to(page, "disagree"), links.to(page, "same_wrong")
    return TeachersTable(
        title="All rungs" if compared.rung is None else f"Rung {compared.rung}: {titles.get(compared.rung, '')}",
        set=compared.set,
        problems=compared.problems,
        teachers=[TeacherRow(teacher, links.to(page, teacher.name)) for teacher in compared.teachers],
        ns=sorted(ns, key=int),
        union=compared.union.coverage,
        union_href=links.to(page, "union"),
        pairs=[PairRow(pair, different, same_wrong) for pair in compared.pairs[:MOST_PAIRS]],
        pairs_left=max(0, len(compared.pairs) - MOST_PAIRS),
    )
