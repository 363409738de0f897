"""The report's first page as one HTML file: no script, nothing fetched, everything that a model or a user wrote escaped."""

import dataclasses
import json
from collections.abc import Sequence

from w2sr_jax.evaluation.cost import Timings
from w2sr_jax.report import hostile, notes, rule, template, wording
from w2sr_jax.report.charts import climb
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.evidence import Evidence, Links
from w2sr_jax.report.headline import Headline, headline
from w2sr_jax.report.notes import Warnings
from w2sr_jax.report.results import Results
from w2sr_jax.report.sections import (
    costs,
    curation,
    gaps,
    grading,
    keyfigures,
    ladder,
    ledger,
    models,
    reasoning,
    samples,
    sources,
    spending,
    teachers,
    training,
    watched,
)

LONGEST_SETTINGS = 200_000
MOST_WARNINGS = 40
OPEN_WARNINGS = 3


@dataclasses.dataclass(frozen=True)
class Page:
    """What the template is given, in the order in which the page shows it. What is empty has nothing to say, and the page leaves
    it out."""

    results: Results
    headline: Headline
    facts: list[str]
    chart_climb: Chart | None
    key_figures: list[keyfigures.KeyFigures]
    key_columns: list[str]
    notes: tuple[str, ...]
    rule: str
    warned: Warnings
    open_warnings: int
    most_warnings: int
    models: list[models.ModelRow]
    ks: list[int]
    chart_accuracy: Chart | None
    compared: list[ladder.ComparisonRow]
    gaps: list[gaps.GapTable]
    reinforcement_rule: str
    taught: bool
    rungs: list[ladder.RungRow]
    arms: list[str]
    chart_growth: Chart | None
    gained_before: bool
    ledgers: list[ledger.LedgerGroup]
    ledger_loss: str | None
    ledger_definitions: dict[str, str]
    chart_ledger: Chart | None
    teacher_tables: list[teachers.TeachersTable]
    grading: grading.Section | None
    funnels: list[curation.RungFunnels]
    trained: list[training.TrainedRow]
    chart_training: Chart | None
    watched: list[watched.Watched]
    probed: list[training.ProbeRow]
    chart_probe: Chart | None
    questioned: list[reasoning.FaithfulnessRow]
    chart_early: Chart | None
    costs: costs.Costs
    spending: spending.Spending | None
    samples: list[samples.SampleView]
    samples_left: int
    open_samples: int
    settings: str
    settings_cut: int
    seeds: tuple[int, ...]
    confidence: str
    files: sources.Files
    links: Links
    pages: int


def render(results: Results, timings: Timings | None = None, evidence: Sequence[Evidence] = ()) -> str:
    """The page, with links to the pages of evidence beside it. Equal arguments give equal text."""
    return template.rendered("page.html.j2", _page(results, timings, evidence))


def _page(results: Results, timings: Timings | None, evidence: Sequence[Evidence]) -> Page:
    links = Links.of(evidence)
    model_rows, comparisons = models.rows(results), ladder.comparison_rows(results)
    figures, rungs = keyfigures.key_figures(results, links), ladder.rung_rows(results, links)
    ledgers = ledger.groups(results, links)
    questioned = reasoning.questioned(model_rows)
    settings, cut = hostile.capped(json.dumps(results.experiment, indent=2, sort_keys=True, ensure_ascii=False), LONGEST_SETTINGS)
    return Page(
        results=results,
        headline=headline(results, timings),
        facts=_facts(results),
        chart_climb=climb.picture(climb.panels(results)),
        key_figures=figures,
        key_columns=keyfigures.columns(figures),
        notes=notes.notes(results),
        rule=rule.RULE,
        warned=notes.warned(results),
        open_warnings=OPEN_WARNINGS,
        most_warnings=MOST_WARNINGS,
        models=model_rows,
        ks=sorted({entry.k for row in model_rows for entry in row.model.scores.pass_at_k}),
        chart_accuracy=models.chart(model_rows),
        compared=[row for row in comparisons if row.compared],
        gaps=gaps.tables(results, comparisons),
        reinforcement_rule=rule.REINFORCED,
        taught=any(row.comparison.vs_teacher for row in comparisons),
        rungs=rungs,
        arms=list(dict.fromkeys(arm.label for row in rungs for arm in row.arms)),
        chart_growth=ladder.growth_chart(comparisons),
        gained_before=any(row.comparison.vs_before for row in comparisons),
        ledgers=ledgers,
        ledger_loss=ledger.one_loss(ledgers),
        ledger_definitions=ledger.DEFINITIONS,
        chart_ledger=ledger.chart(ledgers),
        teacher_tables=teachers.tables(results, links),
        grading=grading.section(results, links),
        funnels=curation.groups(results, links),
        trained=training.trained(model_rows),
        chart_training=training.chart(model_rows),
        watched=watched.sections(model_rows),
        probed=training.probed(model_rows),
        chart_probe=training.probe_chart(model_rows),
        questioned=questioned,
        chart_early=reasoning.chart(questioned),
        costs=costs.costs(results.stages, timings),
        spending=spending.section(results, comparisons, timings),
        samples=samples.views(results),
        samples_left=max(0, len(results.samples) - samples.MOST_SAMPLES),
        open_samples=samples.OPEN_SAMPLES,
        settings=settings,
        settings_cut=cut,
        seeds=results.seeds,
        confidence=_confidence(results),
        files=sources.files(results),
        links=links,
        pages=len(evidence),
    )


def _facts(results: Results) -> list[str]:
    facts = [f"{wording.count(results.test_problems)} test problems"]
    if results.seeds:
        facts.append(f"{'seed' if len(results.seeds) == 1 else 'seeds'} {', '.join(map(str, results.seeds))}")
    return [*facts, f"{results.device.count} × {hostile.one_line(results.device.kind, 40)}"]


def _confidence(results: Results) -> str:
    """The level of the intervals, as the scores state it."""
    levels = {model.scores.confidence for model in results.models.values()}
    levels |= {comparison.confidence for rung in results.rungs for comparison in rung.comparisons.values()}
    return wording.confidence(min(levels, default=0.95))
