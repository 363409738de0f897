"""The error ledger as the page shows it: a group per rung and set of problems, a row per arm and loss, and the picture."""

from collections.abc import Mapping, Sequence
from typing import Any

from w2sr_jax.report import hostile, paired, wording
from w2sr_jax.report.drawing import Chart
from w2sr_jax.report.links import Links
from w2sr_jax.report.paired import Line, Point

Row = dict[str, Any]

SETS = {"held-out": "held-out problems", "training": "training problems"}
SHOWN = ("repeat", "chance", "corrected", "corrupted")  # in the picture
METRICS = ("repeat", "chance", "excess", "induced", "corrected", "corrupted")
DEFINITIONS = {
    "Teacher wrong": "the teacher’s answer can be read and is wrong; one that cannot be read counts in no share here.",
    "Repeat": "of the problems that the teacher gets wrong, the share to which the trained student gives the teacher’s answer.",
    "Chance": "the same share for the student’s base, before it learnt from the teacher’s traces: agreement without copying.",
    "Excess": "repeat − chance, in points: the copying that training brought.",
    "Induced": "of the problems that the teacher gets wrong and the base right, the share to which the trained student gives the "
    "teacher’s answer: errors that it did not make before.",
    "Corrected": "of the problems that the teacher gets wrong, the share that the trained student gets right.",
    "Corrupted": "of the problems that the teacher gets right, the share that the trained student gets wrong.",
    "κ": "error consistency with the teacher: 1, right and wrong on the same problems; 0, as often as their accuracies alone "
    "make likely; below 0, on different ones.",
}
# The rows that a metric is about, and those that it is a share of: where the page of evidence has no group for the first, the
# second is still an honest place to lead to.
_GROUPS = {
    "repeat": ("repeat", "teacher_wrong"),
    "chance": ("chance", "teacher_wrong"),
    "excess": ("teacher_wrong", "repeat"),
    "induced": ("induced", "teacher_wrong_base_right"),
    "corrected": ("corrected", "teacher_wrong"),
    "corrupted": ("corrupted", "teacher_right"),
}


def groups(data: Mapping[str, Any], links: Links) -> list[Row]:
    """One group per rung, set (held-out problems first) and teacher, with rows in the order of arms."""
    names = {rung.get("index"): hostile.one_line(rung.get("name", ""), 30) for rung in data.get("rungs") or []}
    found: dict[tuple[int, int, str, str], list[Mapping[str, Any]]] = {}
    teachers: dict[int, set[str]] = {}
    for entry in data.get("ledgers") or []:
        rung, which, teacher = entry.get("rung") or 0, str(entry.get("set") or ""), str(entry.get("teacher") or "")
        place = tuple(SETS).index(which) if which in SETS else len(SETS)
        found.setdefault((rung, place, which, teacher), []).append(entry)
        teachers.setdefault(rung, set()).add(teacher)

    def title(rung: int, which: str, teacher: str) -> str:
        of = f", teacher {hostile.one_line(teacher, 20)}" if len(teachers[rung]) > 1 else ""
        return f"Rung {rung}: {names.get(rung, '')}, {SETS.get(which, hostile.one_line(which, 20))}{of}"

    return [
        {
            "title": title(rung, which, teacher),
            "rows": [_row(entry, links) for entry in sorted(found[rung, place, which, teacher], key=_order)],
        }
        for rung, place, which, teacher in sorted(found)
    ]


def _order(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return (*wording.arm_order(str(entry.get("arm") or "")), str(entry.get("loss") or ""))


def _row(entry: Mapping[str, Any], links: Links) -> Row:
    arm, page = str(entry.get("arm") or ""), entry.get("evidence")
    metrics, kappa = entry.get("metrics") or {}, entry.get("kappa") or {}

    def count(name: str) -> Row:
        return {"value": entry.get(name), "href": links.to(page, name)}

    counts = [entry.get(name) for name in ("teacher_right", "teacher_wrong", "teacher_unreadable")]
    return {
        "kind": arm,
        "label": wording.arm(arm),
        "note": wording.ARM_NOTES.get(arm, ""),
        "loss": str(entry.get("loss") or ""),
        "href": links.to(page),
        "outcomes": sum(number for number in counts if number is not None),
        "wrong": count("teacher_wrong"),
        "unreadable": count("teacher_unreadable"),
        "metrics": [
            {**(metrics.get(name) or {}), "name": name, "href": links.to(page, *_GROUPS[name]), "signed": name == "excess"}
            for name in METRICS
        ],
        "kappa": kappa.get("teacher_student") or {},
        "kappa_base": kappa.get("teacher_base") or {},
    }


def one_loss(found: Sequence[Row]) -> str | None:
    """The loss, where all students were trained with the same."""
    losses = {row["loss"] for group in found for row in group["rows"]}
    return losses.pop() if len(losses) == 1 else None


def chart(found: Sequence[Row]) -> Chart | None:
    """Repeat beside chance, and corrected beside corrupted, for every arm; held-out and training problems apart."""
    rows: list[Line] = []
    said = []
    for group in found:
        rows.append(Line(group["title"]))
        arms = [row["label"] for row in group["rows"]]
        for row in group["rows"]:
            shares = {metric["name"]: metric for metric in row["metrics"]}
            repeat, chance, corrected, corrupted = (_point(shares[name]) for name in SHOWN)
            label = f"{row['label']}, {row['loss']}" if arms.count(row["label"]) > 1 else row["label"]
            rows.append(Line(label, ((repeat, chance), (corrected, corrupted))))
            four = ", ".join(f"{name} {wording.percent(shares[name].get('value'))}" for name in SHOWN)
            said.append(f"{group['title']}, {row['label']}: {four}")
    if not said:
        return None
    alt = f"Where the teacher’s errors went, shares with intervals. {'; '.join(said)}."
    return paired.paired("ledger", (paired.COPIED, paired.MENDED), rows, "share of problems, %", alt)


def _point(share: Mapping[str, Any]) -> Point:
    def percent(value: float | None) -> float | None:
        return None if value is None else 100 * value

    return Point(*(percent(share.get(bound)) for bound in ("value", "low", "high")))
