"""Funnels of curation: what each step left of a rung's traces, arm by arm."""

import dataclasses

from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.report import rule, wording
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import Results, Rung


@dataclasses.dataclass(frozen=True)
class StepRow:
    """`width` of the bar, in percent of the longest."""

    name: str
    count: int
    width: float
    href: str | None


@dataclasses.dataclass(frozen=True)
class FunnelPanel:
    """An arm's funnel; `rejections` are reasons with their counts and links, `difficulty` measures before and after."""

    label: str
    note: str
    funnel: Funnel
    steps: list[StepRow]
    rejections: list[tuple[str, int, str | None]]
    difficulty: list[tuple[str, float | None, float | None]]
    kept_by_teacher: list[tuple[str, int]]


@dataclasses.dataclass(frozen=True)
class RungFunnels:
    title: str
    funnels: list[FunnelPanel]


def groups(results: Results, links: Links) -> list[RungFunnels]:
    """The funnels of each rung that was curated."""
    return [
        RungFunnels(
            wording.rung_title(rung),
            [
                _panel(arm, rung, rung.curation[arm], rung.curation_evidence.get(arm), links)
                for arm in sorted(rung.curation, key=lambda arm: wording.arm_order(arm, rung))
            ],
        )
        for rung in rule.ordered(results)
        if rung.curation
    ]


def _panel(arm: str, rung: Rung, funnel: Funnel, page: str | None, links: Links) -> FunnelPanel:
    most = max((step.count for step in funnel.steps), default=0) or 1
    before, after = funnel.difficulty.before, funnel.difficulty.after
    rejected = [(reason, count) for reason, count in funnel.rejections.items() if count]
    return FunnelPanel(
        label=wording.arm(arm, rung),
        note=wording.ARM_NOTES.get(arm, ""),
        funnel=funnel,
        steps=[
            StepRow(
                step.name,
                step.count,
                round(100 * step.count / most, 2),
                links.to(page, *(("kept",) if step is funnel.steps[-1] else ())),
            )
            for step in funnel.steps
        ],
        rejections=[
            (reason, count, links.to(page, reason)) for reason, count in sorted(rejected, key=lambda item: (-item[1], item[0]))
        ],
        difficulty=[(name, before.get(name), after.get(name)) for name in sorted({*before, *after})],
        kept_by_teacher=sorted(funnel.kept_by_teacher.items()),
    )
