"""What share of the gap to each ceiling the students recovered: gold SFT, and reinforcement."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.evaluation.statistics import Gap
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.charts import ranges
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.ranges import Mark
from w2sr_jax.report.results import Results
from w2sr_jax.report.sections.ladder import ComparisonRow
from w2sr_jax.report.sections.models import headed

MOST_TABLES = 4
GOLD = "gold SFT"


@dataclasses.dataclass(frozen=True)
class GapRow:
    """An arm's student: its gaps from base and from teacher to a ceiling, with the key of the page of the ceiling's answers."""

    row: ComparisonRow
    base: Gap | None
    teacher: Gap | None
    evidence_ceiling: str | None

    @property
    def group(self) -> str:
        return self.row.group


@dataclasses.dataclass(frozen=True)
class GapTable:
    """The gaps to one `ceiling`; `from_teacher` is what the share of the gap from the teacher is called: PGR where the ceiling is
    gold SFT (Burns et al. 2023), RGR where it is reinforcement (arXiv 2505.20072)."""

    ceiling: str
    from_teacher: str
    reinforced: bool
    rows: list[GapRow]
    chart: Chart | None


def tables(results: Results, rows: Sequence[ComparisonRow]) -> list[GapTable]:
    """A table per ceiling: gold SFT, then reinforcement arms. A ceiling itself recovers nothing."""
    gold = [GapRow(row, row.rgr, row.pgr, row.evidence_gold) for row in rows if row.rgr or row.pgr]
    made = [GapTable(GOLD, "PGR", False, gold, chart("gap", gold, GOLD))] if gold else []
    arms = dict.fromkeys(one.arm for row in rows for one in row.comparison.reinforced)
    for number, arm in enumerate(list(arms)[:MOST_TABLES]):
        own = [entry for row in rows for entry in _to_reinforcement(results, row, arm)]
        if own:
            name = hostile.one_line(wording.arm_at(results, own[0].row.rung, arm), 30)
            made.append(GapTable(name, "RGR", True, own, chart(f"gap-{number}", own, name)))
    return made


def _to_reinforcement(results: Results, row: ComparisonRow, arm: str) -> list[GapRow]:
    rung = next(rung for rung in results.rungs if rung.index == row.rung)
    model = results.models.get(rung.models.get(arm, ""))
    page = None if model is None else model.evidence
    return [
        GapRow(row, one.rgr_base, one.rgr_teacher, page)
        for one in rule.against_reinforcement(rung, row.kind)
        if one.arm == arm and (one.rgr_base or one.rgr_teacher)
    ]


def chart(name: str, rows: Sequence[GapRow], ceiling: str) -> Chart | None:
    """Share of the gap from base to ceiling recovered, per rung and arm; None where no share is given."""
    anchored = [row for row in rows if row.base is not None]
    if not any(row.base is not None and row.base.value is not None for row in anchored):
        return None

    def mark(entry: GapRow) -> Mark:
        gap = entry.base
        assert gap is not None
        if gap.value is None:
            return Mark(entry.row.label, absent=f"not given: {gap.suppressed or 'not known'}")
        return Mark.of(entry.row.label, entry.row.look, gap.value, gap, wording.percent(gap.value, 0))

    marks = headed(anchored, mark)
    values = [v for mark in marks for v in (mark.low, mark.high, mark.value) if v is not None]
    limits = (max(-60.0, min([0.0, *values]) - 6), min(170.0, max([100.0, *values]) + 6))
    shares = ((entry, entry.base.value if entry.base else None) for entry in anchored)
    words = "; ".join(f"{entry.group}, {entry.row.label} {wording.percent(share, 0)}" for entry, share in shares)
    alt = f"Share of the gap from base to {ceiling} recovered, with intervals. {words}."
    return ranges.ranges(name, marks, f"share of the gap base → {ceiling}, %", alt, limits, zero=(0.0, 100.0))
