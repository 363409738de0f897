"""The key figures under the verdict."""

from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.links import Links
from w2sr_jax.report.verdict import Verdict, model_title, teacher_name

Row = dict[str, Any]


def key_figures(data: Mapping[str, Any], rungs: Sequence[Row], said: Verdict, links: Links) -> list[Row]:
    """The headline student's numbers, large, each leading to its rows."""
    rung = next((r for r in rungs if r.get("index") == said.rung), None)
    if rung is None or said.arm is None:
        return []
    comparison = (rung.get("comparisons") or {}).get(said.arm) or {}
    models, names = data.get("models") or {}, rung.get("models") or {}

    def accuracy(label: str, name: str | None) -> Row:
        model = models.get(name or "") or {}
        found = (model.get("scores") or {}).get("accuracy") or {}
        size = model.get("parameters")
        under = f"{wording.quantity(size)} parameters" if size is not None else ""
        return {
            "label": label,
            "value": wording.percent(found.get("value")),
            "range": wording.percent_range(found),
            "under": under,
            "href": links.to(model.get("evidence")),
        }

    teacher = teacher_name(rung, comparison)
    ceiling = comparison.get("ceiling") or "gold SFT"
    cards = [
        accuracy(f"Teacher: {model_title(data, teacher)}" if teacher else "Teacher", teacher),
        accuracy("Student before", names.get("base")),
        accuracy(f"Student after {wording.arm(said.arm)}", names.get(said.arm)),
        accuracy(f"Ceiling: {hostile.one_line(ceiling, 20)}", names.get("gold")),
    ]
    page = (models.get(names.get(said.arm) or "") or {}).get("evidence")
    difference = comparison.get("vs_teacher")
    if difference:
        cards.append(
            {
                "label": "Student − teacher",
                "value": f"{wording.points(difference.get('difference'))} pt",
                "range": wording.points_range(difference),
                "under": f"p {_equals(difference)}" if _p(difference) is not None else "",
                "href": links.to(page, "only_student"),
            }
        )
    for label, gap in (
        ("Gap base → ceiling recovered (RGR)", comparison.get("rgr_base")),
        ("Gap teacher → ceiling recovered (PGR)", comparison.get("pgr")),
    ):
        if gap:
            known = gap.get("value") is not None
            cards.append(
                {
                    "label": label,
                    "value": wording.percent(gap.get("value"), 0),
                    "range": wording.percent_range(gap, 0) if known else f"not given: {gap.get('suppressed')}",
                    "under": "",
                    "href": links.to(page) if known else None,
                }
            )
    return [card for card in cards if card["value"] != wording.MISSING or card["label"].startswith("Gap")]


def _p(difference: Mapping[str, Any]) -> float | None:
    exact = difference.get("mcnemar_p")
    return exact if exact is not None else difference.get("permutation_p")


def _equals(difference: Mapping[str, Any]) -> str:
    text = wording.p_value(_p(difference))
    test = "exact McNemar" if difference.get("mcnemar_p") is not None else "paired permutation"
    return f"{text if text.startswith('<') else '= ' + text} ({test})"
