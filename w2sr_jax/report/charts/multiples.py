"""Small multiples: one small panel per quantity, the same lines in each, told apart by colour and dash."""

import dataclasses
import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from w2sr_jax.report import hostile
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import COLOURS, MUTED, RULE, Chart

WIDE_COLUMNS, NARROW_COLUMNS = 4, 2
# Inches:
LEFT, RIGHT, TITLE, HIGH, FOOT, GAP, LEGEND = 0.42, 0.08, 0.24, 0.95, 0.3, 0.42, 0.19


@dataclasses.dataclass(frozen=True)
class Series:
    """What belongs together in all panels: how it looks, what it is called, and how many of its look are before it."""

    look: str
    label: str
    repeated: int = 0


@dataclasses.dataclass(frozen=True)
class Small:
    """A panel: for each series its lines of (x, y), one per seed; `logarithmic` where values differ by orders of magnitude."""

    title: str
    lines: tuple[Sequence[Sequence[tuple[float, float]]], ...]
    logarithmic: bool = False


def multiples(name: str, series: Sequence[Series], panels: Sequence[Small], alt: str, across: str = "step") -> Chart:
    """The panels in a grid, under a legend; `lines` of each are parallel to `series`."""

    def rows(narrow: bool) -> int:
        return -(-len(panels) // _columns(narrow))

    def legend(narrow: bool) -> int:
        return -(-len(series) // (2 if narrow else 4))

    def height(narrow: bool) -> float:
        return LEGEND * legend(narrow) + rows(narrow) * (TITLE + HIGH + FOOT)

    def draw(figure: Figure, narrow: bool) -> None:
        width, high, columns = drawing.NARROW if narrow else drawing.WIDE, height(narrow), _columns(narrow)
        inner = (width - LEFT - RIGHT - GAP * (columns - 1)) / columns
        for index, panel in enumerate(panels):
            row, column = divmod(index, columns)
            bottom = high - LEGEND * legend(narrow) - (row + 1) * (TITLE + HIGH + FOOT) + FOOT
            axes = figure.add_axes(((LEFT + column * (inner + GAP)) / width, bottom / high, inner / width, HIGH / high))
            _panel(axes, panel, series)
            if index + columns >= len(panels):
                axes.set_xlabel(across, labelpad=1)
        drawing.legend(figure, [_handle(one) for one in series], [one.label for one in series], 2 if narrow else 4)

    return drawing.chart(name, alt, draw, height)


def _columns(narrow: bool) -> int:
    return NARROW_COLUMNS if narrow else WIDE_COLUMNS


def _panel(axes: Axes, panel: Small, series: Sequence[Series]) -> None:
    for one, lines in zip(series, panel.lines, strict=True):
        for line in lines:
            shown = [(x, y) for x, y in line if y > 0 or not panel.logarithmic]
            axes.plot(
                [x for x, _ in shown],
                [y for _, y in shown],
                color=COLOURS.get(one.look, MUTED),
                linestyle=drawing.dash(one.look, one.repeated),
                linewidth=1.0 if len(lines) == 1 else 0.7,
            )
    axes.set_title(panel.title, loc="left", fontsize=8, pad=3)
    axes.set_xlim(left=0)
    values = [y for lines in panel.lines for line in lines for _, y in line]
    if panel.logarithmic:
        axes.set_yscale("log")
        positive = [value for value in values if value > 0]
        if positive:  # whole powers of ten, at each of which the axis has a number
            low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
            axes.set_ylim(10.0**low, 10.0 ** max(high, low + 1))
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=4))
        axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.yaxis.set_major_formatter(_power)
    else:
        if min(values, default=0.0) >= 0:
            axes.set_ylim(bottom=0, top=1.08 * max(values, default=1.0) or 1.0)
        axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3))
        axes.yaxis.set_major_formatter(lambda value, _: drawing.tick(round(value, 6), signed=False))
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(3, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.tick_params(length=0, labelsize=7.5, pad=2)
    axes.grid(color=RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)


def _power(value: float, _: object) -> str:
    return f"1e{round(math.log10(value))}" if value > 0 else ""


def _handle(one: Series) -> Line2D:
    label, colour = hostile.one_line(one.label, 26), COLOURS.get(one.look, MUTED)
    return Line2D([], [], linewidth=1.4, label=label, color=colour, linestyle=drawing.dash(one.look, one.repeated))
