"""The error ledger as the page shows it: a group per rung and set of problems, a row per arm and loss, and the picture."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.evaluation.statistics import Estimate
from w2sr_jax.report import hostile, wording
from w2sr_jax.report.charts import drawing, paired
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.charts.paired import Line, Point
from w2sr_jax.report.evidence import Links
from w2sr_jax.report.results import LedgerEntry, Results

SETS = {"held-out": "held-out problems", "training": "training problems"}
SHOWN = ("repeat", "chance", "corrected", "corrupted")  # in the picture
METRICS = ("repeat", "chance", "excess", "induced", "corrected", "corrupted")
DEFINITIONS = {
    "Teacher wrong": "the teacher’s answer can be read and is wrong; one that cannot be read counts in no share here.",
    "Repeat": "of the problems that the teacher gets wrong, the share to which the trained student gives the teacher’s answer.",
    "Chance": "the same share for the rung’s base, before any training of the arm: agreement without copying.",
    "Excess": "repeat − chance, in points: the copying that training brought.",
    "Induced": "of the problems that the teacher gets wrong and the base right, the share to which the trained student gives the "
    "teacher’s answer: errors that it did not make before.",
    "Corrected": "of the problems that the teacher gets wrong, the share that the trained student gets right.",
    "Corrupted": "of the problems that the teacher gets right, the share that the trained student gets wrong.",
    "κ": "error consistency with the teacher: 1, right and wrong on the same problems; 0, as often as their accuracies alone "
    "make likely; below 0, on different ones.",
}
# The rows that a metric is about, and those that it is a share of: where the page of evidence has no group for the first, the
# second still leads to honest rows.
_GROUPS = {
    "repeat": ("repeat", "teacher_wrong"),
    "chance": ("chance", "teacher_wrong"),
    "excess": ("teacher_wrong", "repeat"),
    "induced": ("induced", "teacher_wrong_base_right"),
    "corrected": ("corrected", "teacher_wrong"),
    "corrupted": ("corrupted", "teacher_right"),
}


@dataclasses.dataclass(frozen=True)
class CountCell:
    value: int
    href: str | None


@dataclasses.dataclass(frozen=True)
class MetricCell:
    """A share, or a `signed` difference of shares."""

    name: str
    share: Estimate
    href: str | None
    signed: bool


@dataclasses.dataclass(frozen=True)
class LedgerRow:
    """An arm's student; `outcomes` counts problems and seeds."""

    look: str
    label: str
    note: str
    loss: str
    href: str | None
    outcomes: int
    wrong: CountCell
    unreadable: CountCell
    metrics: list[MetricCell]
    kappa: Estimate
    kappa_base: Estimate


@dataclasses.dataclass(frozen=True)
class LedgerGroup:
    title: str
    rows: list[LedgerRow]


def groups(results: Results, links: Links) -> list[LedgerGroup]:
    """One group per rung, set (held-out problems first) and teacher, with rows in the order of arms."""
    names = {rung.index: hostile.one_line(rung.name, 30) for rung in results.rungs}
    entries: dict[tuple[int, int, str], list[LedgerEntry]] = {}
    teachers: dict[int, set[str]] = {}
    for entry in results.ledgers:
        entries.setdefault((entry.rung, tuple(SETS).index(entry.ledger.set), entry.teacher), []).append(entry)
        teachers.setdefault(entry.rung, set()).add(entry.teacher)

    def title(rung: int, which: str, teacher: str) -> str:
        of = f", teacher {hostile.one_line(teacher, 20)}" if len(teachers[rung]) > 1 else ""
        return f"Rung {rung}: {names.get(rung, '')}, {which}{of}"

    def order(entry: LedgerEntry) -> tuple[wording.Order, str]:
        return wording.arm_order(entry.arm, rungs.get(entry.rung)), entry.loss

    rungs = {rung.index: rung for rung in results.rungs}
    problems = tuple(SETS.values())
    return [
        LedgerGroup(title(rung, problems[which], teacher), [_row(results, entry, links) for entry in sorted(group, key=order)])
        for (rung, which, teacher), group in sorted(entries.items())
    ]


def _row(results: Results, entry: LedgerEntry, links: Links) -> LedgerRow:
    page, ledger = entry.evidence, entry.ledger
    return LedgerRow(
        look=wording.look(results, entry.arm),
        label=wording.arm_at(results, entry.rung, entry.arm),
        note=wording.ARM_NOTES.get(entry.arm, ""),
        loss=entry.loss,
        href=links.to(page),
        outcomes=ledger.teacher_right + ledger.teacher_wrong + ledger.teacher_unreadable,
        wrong=CountCell(ledger.teacher_wrong, links.to(page, "teacher_wrong")),
        unreadable=CountCell(ledger.teacher_unreadable, links.to(page, "teacher_unreadable")),
        metrics=[
            MetricCell(name, getattr(ledger.metrics, name), links.to(page, *_GROUPS[name]), name == "excess") for name in METRICS
        ],
        kappa=ledger.kappa.teacher_student,
        kappa_base=ledger.kappa.teacher_base,
    )


def one_loss(groups: Sequence[LedgerGroup]) -> str | None:
    """The loss, where all students were trained with the same."""
    losses = {row.loss for group in groups for row in group.rows}
    return losses.pop() if len(losses) == 1 else None


def chart(groups: Sequence[LedgerGroup]) -> Chart | None:
    """Repeat beside chance, and corrected beside corrupted, for every arm; held-out and training problems apart."""
    rows: list[Line] = []
    words = []
    for group in groups:
        rows.append(Line(group.title))
        arms = [row.label for row in group.rows]
        for row in group.rows:
            shares = {metric.name: metric.share for metric in row.metrics}
            repeat, chance, corrected, corrupted = (_point(shares[name]) for name in SHOWN)
            label = f"{row.label}, {row.loss}" if arms.count(row.label) > 1 else row.label
            rows.append(Line(label, ((repeat, chance), (corrected, corrupted))))
            four = ", ".join(f"{name} {wording.percent(shares[name].value)}" for name in SHOWN)
            words.append(f"{group.title}, {row.label}: {four}")
    if not words:
        return None
    alt = f"Where the teacher’s errors went, shares with intervals. {'; '.join(words)}."
    return paired.paired("ledger", (paired.COPIED, paired.MENDED), rows, "share of problems, %", alt)


def _point(share: Estimate) -> Point:
    return Point(*(drawing.percent(bound) for bound in (share.value, share.low, share.high)))
