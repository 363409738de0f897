"""Curves in panels."""

from collections.abc import Mapping, Sequence
from typing import Literal

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import COLOURS, RULE, Chart

MOST_INSIDE = 5
"""With more lines in a panel its legend, which would cover them, stands above all panels."""

Line = Sequence[tuple[float, float]]
Entries = Mapping[str, Sequence[Line]]
"""Lines of a panel by their kind or label, or a key that `apart` gives: one per seed."""
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
    """One panel per (title, {kind, label or key: lines of (x, y)}); lines of one entry share colour and dash (one per seed).
    `across` names the horizontal axis, `legend` the free corner, `top` ends the vertical axis."""

    apart = max((len(entries) for _, entries in panels), default=0) > MOST_INSIDE
    named: dict[tuple[str, str], Line2D] = {}

    def above(narrow: bool) -> float:
        """Inches of a legend over all panels."""
        every = {(called(key, title, labels), key) for title, entries in panels for key in entries}
        return 0.19 * -(-len(every) // _across(narrow)) if apart else 0.0

    def draw(figure: Figure, narrow: bool) -> None:
        named.clear()
        columns = _columns(narrow, len(panels))
        rows = -(-len(panels) // columns)
        for index, (title, entries) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            for rank, (key, lines) in enumerate(entries.items()):
                kind, repeated = _parted(key)
                colour = COLOURS.get(kind, _OTHER[rank % len(_OTHER)])
                for number, line in enumerate(lines):
                    shown = called(key, title, labels) if number == 0 else None
                    (drawn,) = axes.plot(
                        [x for x, _ in line],
                        [y for _, y in line],
                        color=colour,
                        linewidth=1.3 if len(lines) == 1 else 0.9,
                        linestyle=drawing.dash(kind, repeated),
                        label=None if shown is None else hostile.one_line(shown, LONGEST),
                    )
                    if shown is not None:
                        named.setdefault((hostile.one_line(shown, LONGEST), key), drawn)
            axes.set_title(hostile.one_line(title, 44), loc="left", weight="bold")
            values = [y for lines in entries.values() for line in lines for _, y in line]
            axes.set_ylim(bottom=0, top=top if top is not None or any(values) else 1)
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
            if not apart:
                axes.legend(frameon=False, loc=legend, handlelength=2.6, labelspacing=0.25, borderaxespad=0)
        top_margin = 0.28 + above(narrow)
        drawing.margins(figure, None, left=0.55, right=0.12, top=top_margin, bottom=0.46, rows=rows, columns=columns)
        if apart:
            drawing.legend(figure, list(named.values()), [label for label, _ in named], _across(narrow))

    def height(narrow: bool) -> float:
        return 0.3 + above(narrow) + 2.15 * -(-len(panels) // _columns(narrow, len(panels)))

    return drawing.chart(name, alt, draw, height)


def _across(narrow: bool) -> int:
    return 2 if narrow else 4


def called(kind: str, title: str, labels: Labels | None) -> str:
    """What the lines of a kind are called in the panel of a title."""
    return (labels or {}).get((title, kind)) or wording.arm(_parted(kind)[0])


def apart(entries: Entries, kind: str) -> str:
    """The key of one more entry of a kind in a panel: the kind itself or, since many arms share few looks, and an arm may have
    several trainings, the kind with a number."""
    repeated = sum(_parted(key)[0] == kind for key in entries)
    return f"{kind}{_PART}{repeated}" if repeated else kind


def _parted(key: str) -> tuple[str, int]:
    """The kind of an entry, and how many of its kind are before it."""
    kind, _, repeated = key.partition(_PART)
    return kind, int(repeated or 0)


_PART = "\N{SYMBOL FOR UNIT SEPARATOR}"
LONGEST = 26
"""Characters of a label in a legend."""


_OTHER = ("#1c1c1c", "#6e6e6e", "#0a4f8f", "#9a6a00", "#8a4a94", "#b8441a")


def _columns(narrow: bool, panels: int) -> int:
    return 1 if narrow else min(2, panels)
