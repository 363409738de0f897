"""Whether answers come from the reasoning: the models whose chains were cut short or given a mistake."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.evaluation.faithfulness import Faithfulness
from w2sr_jax.report.charts import curves
from w2sr_jax.report.charts.drawing import Chart
from w2sr_jax.report.sections.models import ModelRow
from w2sr_jax.report.sections.training import MOST_PANELS, Lines


@dataclasses.dataclass(frozen=True)
class FaithfulnessRow:
    row: ModelRow
    faithfulness: Faithfulness

    @property
    def group(self) -> str:
        return self.row.group


def questioned(models: Sequence[ModelRow]) -> list[FaithfulnessRow]:
    """The models whose reasoning was cut short or tampered with."""
    return [FaithfulnessRow(row, row.model.faithfulness) for row in models if row.model.faithfulness]


def chart(rows: Sequence[FaithfulnessRow]) -> Chart | None:
    """How often the answer is already the final one when only a part of the chain is given: a panel per rung."""
    panels: dict[str, dict[str, Lines]] = {}
    labels: dict[tuple[str, str], str] = {}
    words = []
    for entry in rows:
        row, early = entry.row, entry.faithfulness.early_answering
        line = sorted((100 * point.fraction, 100 * point.same) for point in early.curve) if early else []
        if line:
            entries = panels.setdefault(row.group, {})
            key = curves.apart(entries, row.label if row.rung is None else row.look)
            entries[key], labels[row.group, key] = [line], row.label
            points = ", ".join(f"{y:.0f} at {x:.0f}" for x, y in line)
            words.append(f"{row.group}, {row.label}: {points}")
    if not panels:
        return None
    alt = f"Share of answers that are already the final one, in percent, by the share of the chain given. {'; '.join(words)}."
    shown = list(panels.items())[:MOST_PANELS]
    return curves.curves("early", shown, "same answer, %", alt, "share of the chain given, %", "lower right", 100, labels)
