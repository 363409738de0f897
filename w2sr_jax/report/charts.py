"""The report's charts as SVG: equal numbers give equal bytes. Each is drawn twice, for a page and for a phone."""

import base64
import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory

from w2sr_jax.report import hostile, wording

INK, MUTED, RULE = "#1c1c1c", "#595959", "#d4d4d4"
COLOURS = {
    "teacher": "#1c1c1c",
    "base-direct": "#8a8a8a",
    "base": "#6e6e6e",
    "incorrect": "#b8441a",
    "all": "#3f8fc4",
    "majority": "#8a4a94",
    "correct": "#0a4f8f",
    "gold": "#9a6a00",
}
MARKERS = {
    "teacher": "s",
    "base-direct": "v",
    "base": "^",
    "incorrect": "X",
    "all": "o",
    "majority": "P",
    "correct": "o",
    "gold": "D",
}
DASHES = {
    "incorrect": (0, (4, 1.5)),
    "all": (0, (1, 1)),
    "majority": (0, (5, 1, 1, 1)),
    "gold": (0, (7, 2)),
    "base": (0, (2, 2)),
}
FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif"
WIDE, NARROW = 7.4, 3.6
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
}


@dataclasses.dataclass(frozen=True)
class Chart:
    """`wide` and `narrow` are SVG texts; `alt` says what they show."""

    alt: str
    wide: str
    narrow: str

    @property
    def wide_uri(self) -> str:
        return _uri(self.wide)

    @property
    def narrow_uri(self) -> str:
        return _uri(self.narrow)


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
        _margins(figure, axes, left=1.3 if narrow else 1.6, right=0.62 if narrow else 0.75, top=0.08, bottom=0.42)
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
        axes.xaxis.set_major_formatter(lambda value, _: _tick(value, signed))
        axes.grid(axis="x", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.tick_params(axis="x", length=0)
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)

    return _chart(name, alt, draw, lambda narrow: 0.5 + 0.235 * len(rows))


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
        face = "white" if row.kind in ("all", "base-direct") else colour
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


def curves(
    name: str, panels: Sequence[tuple[str, Mapping[str, Sequence[Sequence[tuple[float, float]]]]]], axis: str, alt: str
) -> Chart:
    """One panel per (title, {kind or label: lines of (x, y)}); lines of one entry share colour and dash (one per seed)."""

    def draw(figure: Figure, narrow: bool) -> None:
        columns = _columns(narrow, len(panels))
        rows = -(-len(panels) // columns)
        for index, (title, entries) in enumerate(panels):
            axes = figure.add_subplot(rows, columns, index + 1)
            for rank, (label, lines) in enumerate(entries.items()):
                colour = COLOURS.get(label, _OTHER[rank % len(_OTHER)])
                for number, line in enumerate(lines):
                    shown = wording.arm(label) if number == 0 else None
                    axes.plot(
                        [x for x, _ in line],
                        [y for _, y in line],
                        color=colour,
                        linewidth=1.3 if len(lines) == 1 else 0.9,
                        linestyle=DASHES.get(label, "solid"),
                        label=None if shown is None else hostile.one_line(shown, 20),
                    )
            axes.set_title(hostile.one_line(title, 36), loc="left", weight="bold")
            axes.set_ylim(bottom=0)
            axes.set_xlim(left=0)
            axes.grid(color=RULE, linewidth=0.5)
            axes.set_axisbelow(True)
            axes.tick_params(length=0)
            axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, integer=True))
            axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4))
            for side in ("right", "top"):
                axes.spines[side].set_visible(False)
            if index % columns == 0:
                axes.set_ylabel(axis)
            if index >= len(panels) - columns:
                axes.set_xlabel("step")
            axes.legend(frameon=False, loc="upper right", handlelength=2.6, labelspacing=0.25, borderaxespad=0)
        _margins(figure, None, left=0.55, right=0.12, top=0.28, bottom=0.46, rows=rows, columns=columns)

    return _chart(name, alt, draw, lambda narrow: 0.3 + 2.15 * -(-len(panels) // _columns(narrow, len(panels))))


_OTHER = ("#1c1c1c", "#6e6e6e", "#0a4f8f", "#9a6a00", "#8a4a94", "#b8441a")


def _columns(narrow: bool, panels: int) -> int:
    return 1 if narrow else min(2, panels)


def _margins(
    figure: Figure, axes: Axes | None, left: float, right: float, top: float, bottom: float, rows: int = 1, columns: int = 1
) -> None:
    """Margins in inches, the same whatever the figure's size."""
    width, height = figure.get_size_inches()
    if axes is not None:
        axes.set_position((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
        return
    inner_w, inner_h = (width - left - right) / columns, (height - top - bottom) / rows
    figure.subplots_adjust(
        left=left / width,
        right=1 - right / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=0.45 / max(inner_w - 0.45, 0.5) if columns > 1 else 0,
        hspace=0.62 / max(inner_h - 0.62, 0.5) if rows > 1 else 0,
    )


def _limits(rows: Sequence[Mark], zero: Sequence[float]) -> tuple[float, float]:
    values = [v for row in rows for v in (row.value, row.low, row.high, row.reference) if v is not None] + list(zero)
    low, high = min(values, default=0.0), max(values, default=100.0)
    room = 0.06 * (high - low or 1.0)
    return low - room, high + room


def _tick(value: float, signed: bool) -> str:
    text = f"{abs(value):g}"
    sign = wording.MINUS if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def _chart(name: str, alt: str, draw: Callable[[Figure, bool], None], height: Callable[[bool], float]) -> Chart:
    wide, narrow = (_svg(f"w2sr-{name}-{size}", draw, size == "narrow", height(size == "narrow")) for size in ("wide", "narrow"))
    return Chart(alt, wide, narrow)


def _svg(salt: str, draw: Callable[[Figure, bool], None], narrow: bool, height: float) -> str:
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": salt})
        figure = Figure(figsize=(NARROW if narrow else WIDE, height))
        draw(figure, narrow)
        buffer = io.StringIO()
        nothing: dict[str, Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"(font: [^;\"]*?px|font: [^;\"]*?pt) [^;\"]*", rf"\1 {FONTS}", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode("utf-8")).decode("ascii")
