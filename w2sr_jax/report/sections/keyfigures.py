"""The key figures under the picture: one row per rung, each number leading to its rows."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.evaluation.statistics import Difference, Gap, Interval
from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import Results, Rung

COLUMNS = ("teacher", "base", "student", "ceiling", "growth", "rgr", "pgr", "reinforced")


@dataclasses.dataclass(frozen=True)
class ModelCell:
    interval: Interval
    label: str
    parameters: int | None
    href: str | None


@dataclasses.dataclass(frozen=True)
class GrowthCell:
    """Student minus teacher; `p` in words, such as `p = 0.012`."""

    difference: Difference
    p: str
    href: str | None


@dataclasses.dataclass(frozen=True)
class GapCell:
    """`label` names a ceiling that is not gold SFT."""

    gap: Gap
    href: str | None
    label: str = ""


@dataclasses.dataclass(frozen=True)
class KeyFigures:
    """A rung's figures; None where one is not known."""

    title: str
    n: int | None
    teacher: ModelCell | None
    base: ModelCell | None
    student: ModelCell | None
    ceiling: ModelCell | None
    growth: GrowthCell | None
    rgr: GapCell | None
    pgr: GapCell | None
    reinforced: GapCell | None


def key_figures(results: Results, links: Links) -> list[KeyFigures]:
    """The numbers of the student that speaks for each rung; rungs without one are left out."""
    rows = (_row(results, rung, links) for rung in rule.ordered(results))
    return [row for row in rows if row is not None]


def columns(rows: Sequence[KeyFigures]) -> list[str]:
    """Which of the figures any rung has."""
    return [name for name in COLUMNS if any(getattr(row, name) for row in rows)]


def _row(results: Results, rung: Rung, links: Links) -> KeyFigures | None:
    arm, comparison = rule.headline_arm(rung), rule.headline_comparison(rung)
    if arm is None or comparison is None:
        return None
    teacher = rule.teacher_name(rung, comparison)
    student = results.models.get(rung.models.get(arm, ""))
    page = None if student is None else student.evidence
    growth = comparison.vs_teacher
    return KeyFigures(
        title=wording.rung_title(rung),
        n=growth.n if growth else None,
        teacher=_model(results, teacher, wording.model_title(results, teacher), links),
        base=_model(results, rung.models.get("base"), "", links),
        student=_model(results, rung.models.get(arm), wording.arm(arm, rung), links),
        ceiling=_model(results, rung.models.get("gold"), hostile.one_line(comparison.ceiling, 20), links),
        growth=GrowthCell(growth, _p(growth.p), links.to(page, "only_student")) if growth else None,
        rgr=_gap(comparison.rgr_base, links.to(page)),
        pgr=_gap(comparison.pgr, links.to(page)),
        reinforced=_reinforced(rung, arm, links.to(page)),
    )


def _model(results: Results, name: str | None, label: str, links: Links) -> ModelCell | None:
    model = results.models.get(name or "")
    if model is None:
        return None
    return ModelCell(model.scores.accuracy, label, model.parameters, links.to(model.evidence))


def _gap(gap: Gap | None, href: str | None) -> GapCell | None:
    return GapCell(gap, href) if gap else None


def _reinforced(rung: Rung, arm: str, href: str | None) -> GapCell | None:
    """The share of the gap from its base to the first of the reinforcement arms."""
    first = next(iter(rule.against_reinforcement(rung, arm)), None)
    return None if first is None or first.rgr_base is None else GapCell(first.rgr_base, href, wording.arm(first.arm, rung))


def _p(p: float) -> str:
    text = wording.p_value(p)
    return f"p {text if text.startswith('<') else '= ' + text}"
