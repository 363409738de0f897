"""What each section of the page shows, in the order it shows it: rows and charts, ready for the template."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from w2sr_jax.report import cards, climb, figures, grading, hostile, ledger, rule, sources, teachers, watched, wording
from w2sr_jax.report.costs import costs
from w2sr_jax.report.links import Links
from w2sr_jax.report.notes import notes
from w2sr_jax.report.rule import teacher_name
from w2sr_jax.report.verdict import model_title
from w2sr_jax.report.warned import warned

MOST_SAMPLES = 12
OPEN_SAMPLES = 4
MOST_TRACES = 8
MOST_WARNINGS = 40
OPEN_WARNINGS = 3
LONGEST_TRACE = 6000
LONGEST_QUESTION = 3000

Row = dict[str, Any]


def everything(data: Mapping[str, Any], timings: Mapping[str, Any] | None, links: Links) -> Row:
    """All sections of schema.Results. What is empty has nothing to say, and the page leaves it out."""
    rungs = rule.ordered(data)
    models = model_rows(data)
    compared = comparison_rows(data, rungs)
    ladder = ladder_rows(data, rungs, links)
    ledgers = ledger.groups(data, links)
    key_figures = cards.key_figures(data, links)
    return {
        "facts": facts(data),
        "chart_climb": climb.picture(climb.panels(data)),
        "key_figures": key_figures,
        "key_columns": cards.columns(key_figures),
        "notes": notes(data),
        "rule": rule.RULE,
        "warned": warned(data),
        "open_warnings": OPEN_WARNINGS,
        "most_warnings": MOST_WARNINGS,
        "models": models,
        "scored": [row for row in models if (row["accuracy"] or {}).get("value") is not None],
        "ks": sorted({entry["k"] for row in models for entry in row["pass_at_k"]}),
        "ladder": ladder,
        "ladder_arms": list(dict.fromkeys(arm["label"] for row in ladder for arm in row["arms"])),
        "compared": [row for row in compared if any(row[pair] for pair in ("vs_teacher", "vs_base", "vs_ceiling"))],
        "taught": any(row["vs_teacher"] for row in compared),
        "recovered": [row for row in compared if row["rgr"] or row["pgr"]],
        "ledgers": ledgers,
        "ledger_loss": ledger.one_loss(ledgers),
        "ledger_definitions": ledger.DEFINITIONS,
        "teacher_tables": teachers.tables(data, links),
        "grading": grading.section(data, links),
        "funnels": funnel_groups(rungs, links),
        "trained": [row for row in models if row["training"] or row["held_out"]],
        "probed": watched.probed(models),
        "reasoning": [row for row in models if row["process"]],
        "questioned": watched.questioned(models),
        "costs": costs(data.get("stages") or [], timings),
        "samples": [sample(data, entry) for entry in (data.get("samples") or [])[:MOST_SAMPLES]],
        "open_samples": OPEN_SAMPLES,
        "samples_left": max(0, len(data.get("samples") or []) - MOST_SAMPLES),
        "seeds": data.get("seeds") or [],
        "confidence": confidence(data, rungs),
        "sources": sources.sections(data),
        "links": links,
        "chart_accuracy": figures.accuracy(models),
        "chart_growth": figures.growth(compared),
        "chart_gap": figures.gap(compared),
        "chart_ledger": ledger.chart(ledgers),
        "chart_training": figures.training(models),
        "chart_probe": watched.probe_chart(models),
        "chart_early": watched.early_chart(models),
    }


def rung_title(rung: Mapping[str, Any]) -> str:
    return f"Rung {rung.get('index', 0)}: {hostile.one_line(rung.get('name', ''), 30)}"


def kind(model: Mapping[str, Any]) -> str:
    """By which colour and shape a model is drawn: its arm, or its role where it has none."""
    role = model.get("role") or ""
    return str(model.get("arm") or role) if role == "student" else str(role)


def model_rows(data: Mapping[str, Any]) -> list[Row]:
    titles = {rung.get("index"): rung_title(rung) for rung in rule.ordered(data)}
    rows, group = [], None
    models = data.get("models") or {}
    for name in sorted(models, key=lambda name: wording.order(name, models[name])):
        model = models[name]
        scores = model.get("scores") or {}
        rung = model.get("rung")
        title = "Teachers" if rung is None else titles.get(rung, f"Rung {rung}")
        label = hostile.one_line(name, 30) if model.get("role") == "teacher" else wording.arm(kind(model))
        rows.append(
            {
                "name": name,
                "label": label,
                "kind": kind(model),
                "note": wording.ARM_NOTES.get(kind(model), ""),
                "group": title,
                "new_group": title != group,
                "rung": rung,
                "reference": _reference(data, rung),
                "parameters": model.get("parameters"),
                "accuracy": scores.get("accuracy"),
                "by_seed": ", ".join(wording.decimal(100 * value, 1) for value in scores.get("by_seed") or []),
                "avg_at_k": scores.get("avg_at_k"),
                "pass_at_k": scores.get("pass_at_k") or [],
                "maj_at_k": scores.get("maj_at_k") or [],
                "unparsed": scores.get("unparsed"),
                "mean_tokens": scores.get("mean_tokens"),
                "process": scores.get("process"),
                "training": model.get("training"),
                "curve": (model.get("training") or {}).get("curve") or [],
                "held_out": model.get("held_out"),
                "probe": model.get("probe") or [],
                "faithfulness": model.get("faithfulness"),
                "evidence": model.get("evidence"),
            }
        )
        group = title
    return rows


def _reference(data: Mapping[str, Any], rung: int | None) -> float | None:
    """The accuracy of a rung's teacher, to be drawn as a line; None with several."""
    for entry in data.get("rungs") or []:
        if entry.get("index") == rung:
            for comparison in (entry.get("comparisons") or {}).values():
                right = (comparison.get("vs_teacher") or {}).get("right")
                if right is not None:
                    return float(right)
    return None


def comparison_rows(data: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]]) -> list[Row]:
    models = data.get("models") or {}
    rows = []
    for rung in rungs:
        comparisons, names = rung.get("comparisons") or {}, rung.get("models") or {}

        def page(name: str | None) -> Any:
            return (models.get(name or "") or {}).get("evidence")

        for index, arm in enumerate(sorted(comparisons, key=wording.arm_order)):
            comparison = comparisons[arm]
            rows.append(
                {
                    "group": rung_title(rung),
                    "new_group": index == 0,
                    "rung": rung.get("index"),
                    "arm": arm,
                    "label": wording.arm(arm),
                    "note": wording.ARM_NOTES.get(arm, ""),
                    "teacher": model_title(data, teacher_name(rung, comparison)),
                    "evidence": page(names.get(arm)),
                    "evidence_teacher": page(teacher_name(rung, comparison)),
                    "evidence_base": page(names.get("base")),
                    "evidence_gold": page(names.get("gold")),
                    "ceiling": comparison.get("ceiling") or "gold SFT",
                    "vs_teacher": comparison.get("vs_teacher"),
                    "vs_base": comparison.get("vs_base"),
                    "vs_ceiling": comparison.get("vs_ceiling"),
                    "n": rule.problems(comparison),
                    "rgr": comparison.get("rgr_base") if arm != "gold" else None,
                    "pgr": comparison.get("pgr") if arm != "gold" else None,
                }
            )
    return rows


def ladder_rows(data: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]], links: Links) -> list[Row]:
    models = data.get("models") or {}
    rows = []
    for rung in rungs:
        accuracies = {arm: _accuracy(models.get(name) or {}, links) for arm, name in (rung.get("models") or {}).items()}
        own = [arm for arm in sorted(accuracies, key=wording.arm_order) if arm not in ("base", "base-direct", "gold")]
        rows.append(
            {
                "title": rung_title(rung),
                "parameters": (rung.get("student") or {}).get("parameters"),
                "teachers": [
                    {
                        "title": model_title(data, name),
                        "accuracy": _accuracy(models.get(name) or {}, links),
                        "traces": made,
                    }
                    for name, made in zip_longest(rung.get("teachers") or [], rung.get("traces") or [])
                    if name is not None
                ],
                "parent": model_title(data, rung["parent"]) if rung.get("parent") else wording.MISSING,
                "base": accuracies.get("base"),
                "arms": [{"label": wording.arm(arm), "accuracy": accuracies[arm]} for arm in own],
                "gold": accuracies.get("gold"),
            }
        )
    return rows


def _accuracy(model: Mapping[str, Any], links: Links) -> Row:
    """The accuracy, and where its answers are."""
    return {"value": None, **((model.get("scores") or {}).get("accuracy") or {}), "href": links.to(model.get("evidence"))}


def funnel_groups(rungs: Sequence[Mapping[str, Any]], links: Links) -> list[Row]:
    return [
        {
            "title": rung_title(rung),
            "funnels": [
                _funnel(arm, rung["curation"][arm], (rung.get("curation_evidence") or {}).get(arm), links)
                for arm in sorted(rung["curation"], key=wording.arm_order)
            ],
        }
        for rung in rungs
        if rung.get("curation")
    ]


def _funnel(arm: str, funnel: Mapping[str, Any], page: str | None, links: Links) -> Row:
    steps = funnel.get("steps") or []
    most = max((step["count"] for step in steps), default=0) or 1
    before, after = ((funnel.get("difficulty") or {}).get(when) or {} for when in ("before", "after"))
    rejected = [(reason, count) for reason, count in (funnel.get("rejections") or {}).items() if count]
    return {
        "label": wording.arm(arm),
        "note": wording.ARM_NOTES.get(arm, ""),
        "steps": [
            {
                **step,
                "width": round(100 * step["count"] / most, 2),
                "href": links.to(page, *(("kept",) if step is steps[-1] else ())),
            }
            for step in steps
        ],
        "rejections": [
            (reason, count, links.to(page, reason)) for reason, count in sorted(rejected, key=lambda item: (-item[1], item[0]))
        ],
        "difficulty": [(name, before.get(name), after.get(name)) for name in sorted({*before, *after})],
        "accuracy_before": funnel.get("teacher_accuracy_before"),
        "accuracy_after": funnel.get("teacher_accuracy"),
        "problems": funnel.get("problems"),
        "problems_before": funnel.get("problems_before"),
        "tokens": funnel.get("tokens"),
        "kept_by_teacher": sorted((funnel.get("kept_by_teacher") or {}).items()),
    }


def sample(data: Mapping[str, Any], entry: Mapping[str, Any]) -> Row:
    problem = entry.get("problem") or {}
    question, left_out = hostile.capped(str(problem.get("question") or ""), LONGEST_QUESTION)
    traces = entry.get("traces") or []
    return {
        "id": problem.get("id"),
        "question": question,
        "question_left": left_out,
        "answer": problem.get("answer"),
        "traces": [
            {
                "model": model_title(data, trace.get("model")),
                "role": wording.ROLES.get(trace.get("role") or "", trace.get("role")),
                "verdict": trace.get("verdict") or "ungraded",
                "rule": trace.get("rule"),
                "finish": trace.get("finish"),
                "text": hostile.marked(str(trace.get("text") or ""), trace.get("steps") or [], LONGEST_TRACE),
            }
            for trace in traces[:MOST_TRACES]
        ],
        "traces_left": max(0, len(traces) - MOST_TRACES),
    }


def facts(data: Mapping[str, Any]) -> list[str]:
    seeds, device = data.get("seeds") or [], data.get("device") or {}
    found = []
    if data.get("test_problems") is not None:
        found.append(f"{wording.count(data['test_problems'])} test problems")
    if seeds:
        found.append(f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(str(seed) for seed in seeds)}")
    if device.get("kind"):
        found.append(f"{device.get('count') or 1} × {hostile.one_line(device['kind'], 40)}")
    return found


def confidence(data: Mapping[str, Any], rungs: Sequence[Mapping[str, Any]]) -> str:
    """The level of the intervals, as the scores state it."""
    levels = {(model.get("scores") or {}).get("confidence") for model in (data.get("models") or {}).values()}
    levels |= {comparison.get("confidence") for rung in rungs for comparison in (rung.get("comparisons") or {}).values()}
    known = sorted(level for level in levels if level is not None)
    return f"{100 * (known[0] if known else 0.95):g}{wording.THIN}%"
