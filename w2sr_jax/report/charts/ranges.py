"""Values with intervals, one below the other."""

import dataclasses
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import COLOURS, HOLLOW, INK, MARKERS, MUTED, RULE, Chart


@dataclasses.dataclass(frozen=True)
class Mark:
    """One row of a range chart: a value with its interval; `kind` picks colour and shape. A row without value is a heading,
    or, with `absent`, says why there is none."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    kind: str = ""
    text: str = ""
    absent: str = ""
    reference: float | None = None

    @classmethod
    def of(cls, label: str, kind: str, value: float, bounds: wording.Range, text: str, reference: float | None = None) -> "Mark":
        """The mark of a share, in percent."""
        low, high, line = (drawing.percent(share) for share in (bounds.low, bounds.high, reference))
        return cls(label, 100 * value, low, high, kind, text, reference=line)


def ranges(
    name: str,
    rows: Sequence[Mark],
    axis: str,
    alt: str,
    limits: tuple[float, float] | None = None,
    zero: Sequence[float] = (),
    signed: bool = False,
) -> Chart:
    """Values (in percent) with intervals, one below the other, under their headings. `reference` of a row is drawn as a dashed
    line through it; `zero` holds values to rule through all rows."""

    def draw(figure: Figure, narrow: bool) -> None:
        axes = figure.add_axes((0, 0, 1, 1))
        drawing.margins(figure, axes, left=1.3 if narrow else 1.6, right=0.62 if narrow else 0.75, top=0.08, bottom=0.42)
        low, high = limits or _limits(rows, zero)
        axes.set_xlim(low, high)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        for value in zero:
            axes.axvline(value, color=MUTED, linewidth=0.8, zorder=1)
        for y, row in enumerate(rows):
            _draw_row(axes, y, row, low, high, narrow)
        axes.set_yticks([])
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4 if narrow else 7, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(lambda value, _: drawing.tick(value, signed))
        axes.grid(axis="x", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)

    return drawing.chart(name, alt, draw, lambda narrow: 0.5 + 0.235 * len(rows))


def _draw_row(axes: Axes, y: int, row: Mark, low: float, high: float, narrow: bool) -> None:
    beside = axes.get_yaxis_transform()
    if row.value is None and not row.absent:
        at_left = blended_transform_factory(axes.figure.transFigure, axes.transData)
        axes.text(0, y, hostile.one_line(row.label, 40), transform=at_left, ha="left", va="center", weight="bold", color=INK)
        return
    label = hostile.one_line(row.label, 18 if narrow else 30)
    axes.text(-0.05 if narrow else -0.02, y, label, transform=beside, ha="right", va="center", color=INK)
    if row.reference is not None and low <= row.reference <= high:
        axes.plot(
            [row.reference] * 2, [y - 0.5, y + 0.5], color=COLOURS["teacher"], linewidth=0.9, linestyle=(0, (2, 2)), zorder=2
        )
    if row.value is None:
        axes.text(
            0.01,
            y,
            hostile.one_line(row.absent, 34 if narrow else 60),
            transform=beside,
            va="center",
            color=MUTED,
            style="italic",
        )
        return
    colour = COLOURS.get(row.kind, MUTED)
    ends = (max(low, row.value if row.low is None else row.low), min(high, row.value if row.high is None else row.high))
    axes.plot(ends, [y, y], color=colour, linewidth=2.2, solid_capstyle="butt", alpha=0.55, zorder=3)
    if low <= row.value <= high:
        face = "white" if row.kind in HOLLOW else colour
        axes.plot(
            [row.value],
            [y],
            marker=MARKERS.get(row.kind, "o"),
            markersize=6,
            color=colour,
            markerfacecolor=face,
            markeredgewidth=1.4,
            zorder=4,
        )
    axes.text(
        1.02,
        y,
        row.text,
        transform=beside,
        ha="left",
        va="center",
        color=INK,
        weight="bold" if row.kind == "correct" else "normal",
    )


def _limits(rows: Sequence[Mark], zero: Sequence[float]) -> tuple[float, float]:
    values = [v for row in rows for v in (row.value, row.low, row.high, row.reference) if v is not None] + list(zero)
    low, high = min(values, default=0.0), max(values, default=100.0)
    room = 0.06 * (high - low or 1.0)
    return low - room, high + room
