"""A chart of panels over the same rows: in each, two shares per row, told apart by shape as well as by colour."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from w2sr_jax.report import hostile
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import INK, RULE, Chart

ROW, HEAD, FOOT, GAP = 0.25, 0.36, 0.44, 0.3  # inches


@dataclasses.dataclass(frozen=True)
class Kind:
    """How one of a panel's two shares is drawn and called."""

    label: str
    marker: str
    colour: str
    filled: bool = True


@dataclasses.dataclass(frozen=True)
class Point:
    """A share in percent with its interval; no value draws nothing."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class Line:
    """One row: for each panel a pair of points. A row without pairs is a heading."""

    label: str
    pairs: tuple[tuple[Point, Point], ...] = ()


def paired(name: str, panels: Sequence[tuple[Kind, Kind]], rows: Sequence[Line], axis: str, alt: str) -> Chart:
    """Panels beside each other on a page, below each other on a phone; all run from 0 to the largest value, at most 100."""
    values = [v for row in rows for pair in row.pairs for p in pair for v in (p.value, p.high) if v is not None]
    top = min(100.0, 1.06 * max(values, default=100.0)) or 100.0

    def draw(figure: Figure, narrow: bool) -> None:
        width, height = figure.get_size_inches()
        left, right = (1.05 if narrow else 1.45), 0.15
        columns = 1 if narrow else len(panels)
        inner = (width - left - right - GAP * (columns - 1)) / columns
        tall = ROW * len(rows)
        for index, kinds in enumerate(panels):
            column, line = (0, index) if narrow else (index, 0)
            x = left + column * (inner + GAP)
            y = height - (line + 1) * (HEAD + tall) - line * FOOT
            axes = figure.add_axes((x / width, y / height, inner / width, tall / height))
            _panel(axes, kinds, index, rows, top, axis, labels=column == 0)

    stacked = HEAD + ROW * len(rows) + FOOT
    return drawing.chart(name, alt, draw, lambda narrow: stacked * (len(panels) if narrow else 1))


def _panel(axes: Axes, kinds: tuple[Kind, Kind], index: int, rows: Sequence[Line], top: float, axis: str, labels: bool) -> None:
    axes.set_xlim(0, top)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    beside = axes.get_yaxis_transform()
    at_left = blended_transform_factory(axes.figure.transFigure, axes.transData)
    for y, row in enumerate(rows):
        if not row.pairs:
            if labels:
                axes.text(0, y, hostile.one_line(row.label, 60), transform=at_left, ha="left", va="center", weight="bold")
            continue
        if labels:
            axes.text(-0.03, y, hostile.one_line(row.label, 20), transform=beside, ha="right", va="center")
        for offset, kind, point in zip((-0.15, 0.15), kinds, row.pairs[index]):
            _mark(axes, y + offset, kind, point)
    axes.set_yticks([])
    axes.set_xlabel(axis)
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    handles = [Line2D([], [], linestyle="", **_style(kind), label=kind.label) for kind in kinds]
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=2,
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.2,
        borderaxespad=0.2,
    )


def _mark(axes: Axes, y: float, kind: Kind, point: Point) -> None:
    if point.value is None:
        return
    if point.low is not None and point.high is not None:
        axes.plot([point.low, point.high], [y, y], color=kind.colour, linewidth=1.6, alpha=0.45, solid_capstyle="butt", zorder=3)
    axes.plot([point.value], [y], linestyle="", zorder=4, clip_on=False, **_style(kind))


def _style(kind: Kind) -> dict[str, Any]:
    face = kind.colour if kind.filled else "white"
    return {
        "marker": kind.marker,
        "color": kind.colour,
        "markersize": 5,
        "markerfacecolor": face,
        "markeredgewidth": 1.2,
        "markeredgecolor": kind.colour,
    }


COPIED = (Kind("repeat", "o", INK), Kind("chance", "o", "#6e6e6e", filled=False))
MENDED = (Kind("corrected", "^", "#0a4f8f"), Kind("corrupted", "X", "#b8441a"))
