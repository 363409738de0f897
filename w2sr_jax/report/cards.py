"""The key figures under the picture: one row per rung, each number leading to its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.links import Links
from w2sr_jax.report.verdict import model_title

Row = dict[str, Any]


def key_figures(data: Mapping[str, Any], links: Links) -> list[Row]:
    """The numbers of the student that speaks for each rung; rungs without one are left out."""
    return [_row(data, rung, links) for rung in rule.ordered(data) if rule.headline_arm(rung) is not None]


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which of the figures any rung has."""
    return [name for name in ("teacher", "base", "student", "ceiling", "growth", "rgr", "pgr") if any(row[name] for row in rows)]


def _row(data: Mapping[str, Any], rung: Mapping[str, Any], links: Links) -> Row:
    arm, comparison = rule.headline_arm(rung), rule.headline_comparison(rung)
    models, names = data.get("models") or {}, rung.get("models") or {}
    teacher = rule.teacher_name(rung, comparison)
    page = (models.get(names.get(arm) or "") or {}).get("evidence")

    def accuracy(name: str | None, label: str) -> Row | None:
        model = models.get(name or "") or {}
        found = (model.get("scores") or {}).get("accuracy") or {}
        if found.get("value") is None:
            return None
        return {**found, "label": label, "parameters": model.get("parameters"), "href": links.to(model.get("evidence"))}

    difference = comparison.get("vs_teacher")
    return {
        "title": f"Rung {rung.get('index', 0)}: {hostile.one_line(rung.get('name', ''), 30)}",
        "n": (difference or {}).get("n"),
        "teacher": accuracy(teacher, model_title(data, teacher)),
        "base": accuracy(names.get("base"), ""),
        "student": accuracy(names.get(arm), wording.arm(arm)),
        "ceiling": accuracy(names.get("gold"), hostile.one_line(comparison.get("ceiling") or "gold SFT", 20)),
        "growth": {**difference, "p": _p(difference), "href": links.to(page, "only_student")} if difference else None,
        "rgr": _gap(comparison.get("rgr_base"), links.to(page)),
        "pgr": _gap(comparison.get("pgr"), links.to(page)),
    }


def _gap(gap: Mapping[str, Any] | None, href: str | None) -> Row | None:
    return {**gap, "value": gap.get("value"), "href": href if gap.get("value") is not None else None} if gap else None


def _p(difference: Mapping[str, Any]) -> str:
    exact = difference.get("mcnemar_p")
    p = exact if exact is not None else difference.get("permutation_p")
    text = wording.p_value(p)
    return "" if p is None else f"p {text if text.startswith('<') else '= ' + text}"
