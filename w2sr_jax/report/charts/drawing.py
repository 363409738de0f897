"""How a chart becomes SVG: palette, fonts, margins; equal numbers give equal bytes. Each is drawn for a page and for a phone."""

import base64
import dataclasses
import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from w2sr_jax.report import wording

INK, MUTED, RULE = "#1c1c1c", "#595959", "#d4d4d4"
COLOURS = {
    "teacher": "#1c1c1c",
    "teacher-base": "#777777",
    "base-direct": "#8a8a8a",
    "base": "#6e6e6e",
    "incorrect": "#b8441a",
    "all": "#3f8fc4",
    "majority": "#8a4a94",
    "correct": "#0a4f8f",
    "gold": "#9a6a00",
    "own-1": "#00704f",
    "own-2": "#c2337a",
    "own-3": "#5a3fb0",
    "own-4": "#0b7c8c",
    "own-5": "#8a4413",
    "own-6": "#5c7000",
    "own-7": "#c0392b",
    "own-8": "#4b5b78",
}
MARKERS = {
    "teacher": "s",
    "teacher-base": "s",
    "base-direct": "v",
    "base": "^",
    "incorrect": "X",
    "all": "o",
    "majority": "P",
    "correct": "o",
    "gold": "D",
    "own-1": "d",
    "own-2": "p",
    "own-3": ">",
    "own-4": "<",
    "own-5": "*",
    "own-6": "h",
    "own-7": "8",
    "own-8": "H",
}
HOLLOW = ("all", "base-direct", "teacher-base")
"""Kinds whose marks are not filled."""
DASHES = {
    "incorrect": (0, (4, 1.5)),
    "all": (0, (1, 1)),
    "majority": (0, (5, 1, 1, 1)),
    "gold": (0, (7, 2)),
    "base": (0, (2, 2)),
    "teacher-base": (0, (3, 2)),
    "own-2": (0, (5, 1.5)),
    "own-3": (0, (1.5, 1)),
    "own-4": (0, (6, 1, 1, 1)),
    "own-5": (0, (3, 1)),
    "own-6": (0, (8, 1.5)),
    "own-7": (0, (4, 1, 1, 1, 1, 1)),
    "own-8": (0, (2, 1.5)),
}
AGAIN = ((0, (1, 2.5)), (0, (9, 2, 1, 2)), (0, (2, 4)), (0, (12, 3)))
"""Of further lines of one look."""
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


def dash(look: str, repeated: int = 0) -> Any:
    """How the line of a look is dashed, and how its further ones are, told apart from the first."""
    return AGAIN[(repeated - 1) % len(AGAIN)] if repeated else DASHES.get(look, "solid")


def margins(
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


def legend(figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int) -> None:
    """A legend over all panels, at the top of the figure."""
    figure.legend(
        handles=list(handles),
        labels=list(labels),
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=columns,
        frameon=False,
        handlelength=2.2,
        columnspacing=1.2,
        labelspacing=0.25,
        borderaxespad=0.1,
    )


def percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def tick(value: float, signed: bool) -> str:
    text = f"{abs(value):g}"
    sign = wording.MINUS if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def chart(name: str, alt: str, draw: Callable[[Figure, bool], None], height: Callable[[bool], float]) -> Chart:
    wide, narrow = (svg(f"w2sr-{name}-{size}", draw, size == "narrow", height(size == "narrow")) for size in ("wide", "narrow"))
    return Chart(alt, wide, narrow)


def svg(salt: str, draw: Callable[[Figure, bool], None], narrow: bool, height: float) -> str:
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
