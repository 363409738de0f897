"""Curves in panels."""

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
from matplotlib.figure import Figure

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import COLOURS, DASHES, RULE, Chart

Line = Sequence[tuple[float, float]]
Entries = Mapping[str, Sequence[Line]]
"""Lines of a panel by their kind or label: one per seed."""
Labels = Mapping[tuple[str, str], str]
"""What the lines of a kind are called in the panel of a title, where that is not what `wording.arm` says."""


def curves(
    name: str,
    panels: Sequence[tuple[str, Entries]],
    axis: str,
    alt: str,
    across: str = "step",
    legend: Literal["upper right", "lower right", "best"] = "upper right",
    top: float | None = None,
    labels: Labels | None = None,
) -> Chart:
    """One panel per (title, {kind or label: lines of (x, y)}); lines of one entry share colour and dash (one per seed). `across`
    names the horizontal axis, `legend` the free corner, `top` ends the vertical axis."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = _columns(narrow, len(panels))
        rows = -(-len(panels) // columns)
        for index, (title, entries) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            for rank, (label, lines) in enumerate(entries.items()):
                colour = COLOURS.get(label, _OTHER[rank % len(_OTHER)])
                for number, line in enumerate(lines):
                    shown = called(label, title, labels) if number == 0 else None
                    axes.plot(
                        [x for x, _ in line],
                        [y for _, y in line],
                        color=colour,
                        linewidth=1.3 if len(lines) == 1 else 0.9,
                        linestyle=DASHES.get(label, "solid"),
                        label=None if shown is None else hostile.one_line(shown, 20),
                    )
            axes.set_title(hostile.one_line(title, 44), loc="left", weight="bold")
            axes.set_ylim(bottom=0, top=top)
            axes.set_xlim(left=0)
            axes.grid(color=RULE, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
            axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
            for side in ("right", "top"):
                axes.spines[side].set_visible(False)
            if index % columns == 0:
                axes.set_ylabel(axis)
            if index >= len(panels) - columns:
                axes.set_xlabel(across)
            axes.legend(frameon=False, loc=legend, handlelength=2.6, labelspacing=0.25, borderaxespad=0)
        drawing.margins(figure, None, left=0.55, right=0.12, top=0.28, bottom=0.46, rows=rows, columns=columns)

    return drawing.chart(name, alt, draw, lambda narrow: 0.3 + 2.15 * -(-len(panels) // _columns(narrow, len(panels))))


def called(kind: str, title: str, labels: Labels | None) -> str:
    """What the lines of a kind are called in the panel of a title."""
    return (labels or {}).get((title, kind)) or wording.arm(kind)


_OTHER = ("#1c1c1c", "#6e6e6e", "#0a4f8f", "#9a6a00", "#8a4a94", "#b8441a")


def _columns(narrow: bool, panels: int) -> int:
    return 1 if narrow else min(2, panels)
