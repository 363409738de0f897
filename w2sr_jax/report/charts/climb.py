"""The picture of the ladder: for each rung its teacher, the student before and after, and the ceiling, with intervals."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import ConnectionPatch

from w2sr_jax.report import hostile, rule, wording
from w2sr_jax.report.charts import drawing
from w2sr_jax.report.charts.drawing import COLOURS, HOLLOW, INK, MARKERS, MUTED, RULE, Chart
from w2sr_jax.report.results import Results, Rung

MOST_RUNGS = 12
WIDE_COLUMNS, NARROW_COLUMNS = 4, 2
LABELLED = 3  # panels in a row that leave room for a name under each point; with more, a legend has the names
# Inches:
LEFT, RIGHT, GAP, TITLE, NAMES, LEGEND, BELOW = 0.5, 0.06, 0.2, 0.26, 0.24, 0.26, 0.1
WIDE_HIGH, NARROW_HIGH = 1.7, 1.15
WIDEST = 4.2
BAND = 9  # points
LABELS = {"gold": "gold"}  # shorter than in tables


@dataclasses.dataclass(frozen=True)
class Step:
    """One model of a rung: shares in percent, None where it was not measured; `kind` picks colour and shape, `label` names it."""

    name: str
    kind: str
    value: float | None
    low: float | None = None
    high: float | None = None
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One rung, from the teacher to the ceiling."""

    title: str
    steps: tuple[Step, ...]


def panels(results: Results) -> list[Panel]:
    """The rungs of a run of which anything was measured."""
    shown = []
    for rung in rule.ordered(results):
        arm, names = rule.headline_arm(rung), rung.models
        teacher = rule.teacher_name(rung, rule.headline_comparison(rung))
        models = [("teacher", teacher), ("base", names.get("base")), (arm, names.get(arm or "")), ("gold", names.get("gold"))]
        steps = tuple(
            _step(results, name, wording.look(results, kind), _label(kind, rung))
            for kind, name in models
            if kind and (name or kind == "teacher")
        )
        if any(step.value is not None for step in steps):
            shown.append(Panel(wording.rung_title(rung), steps))
    return shown


def _step(results: Results, name: str | None, kind: str, label: str) -> Step:
    model = results.models.get(name or "")
    if model is None:
        return Step(name or "", kind, None, label=label)
    accuracy = model.scores.accuracy
    value, low, high = (drawing.percent(share) for share in (accuracy.value, accuracy.low, accuracy.high))
    return Step(name or "", kind, value, low, high, label)


def picture(panels: Sequence[Panel]) -> Chart | None:
    """All rungs beside each other, on one scale; on a phone two in a row. A student that teaches the next rung is joined to it
    there."""
    shown = panels[:MOST_RUNGS]
    if not shown:
        return None
    most = max(value for panel in shown for step in panel.steps for value in (step.value, step.high) if value is not None)
    top = 1.18 * max(most, 1.0)

    def draw(figure: Figure, narrow: bool) -> None:
        grid = _Grid.of(narrow, len(shown))
        panels_axes = [figure.add_axes(grid.box(index)) for index in range(len(shown))]
        for index, (axes, panel) in enumerate(zip(panels_axes, shown)):
            _draw(axes, panel, top, narrow, grid.named, first=index % grid.columns == 0)
        for index in range(len(shown) - 1):
            if (index + 1) % grid.columns:
                _join(figure, panels_axes[index], panels_axes[index + 1], shown[index], shown[index + 1])
        if not grid.named:
            _legend(figure, shown)

    return drawing.chart("climb", _alt(shown), draw, lambda narrow: _Grid.of(narrow, len(shown)).height)


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where the panels lie; `named` is whether their points have room for names."""

    columns: int
    rows: int
    named: bool
    width: float
    high: float

    @classmethod
    def of(cls, narrow: bool, panels: int) -> "_Grid":
        columns = min(NARROW_COLUMNS if narrow else WIDE_COLUMNS, panels)
        named = columns <= (1 if narrow else LABELLED)
        high = NARROW_HIGH if narrow else WIDE_HIGH
        return cls(columns, -(-panels // columns), named, drawing.NARROW if narrow else drawing.WIDE, high)

    @property
    def row(self) -> float:
        return TITLE + self.high + (NAMES if self.named else BELOW)

    @property
    def height(self) -> float:
        return self.rows * self.row + (0.0 if self.named else LEGEND)

    def box(self, index: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel, as shares of the figure."""
        row, column = divmod(index, self.columns)
        wide = min(WIDEST, (self.width - LEFT - RIGHT - GAP * (self.columns - 1)) / self.columns)
        bottom = (self.rows - 1 - row) * self.row + self.row - TITLE - self.high
        return (
            (LEFT + column * (wide + GAP)) / self.width,
            bottom / self.height,
            wide / self.width,
            self.high / self.height,
        )


def _label(kind: str, rung: Rung) -> str:
    return "teacher" if kind == "teacher" else LABELS.get(kind) or hostile.one_line(wording.arm(kind, rung), 10)


def _alt(shown: Sequence[Panel]) -> str:
    def words(step: Step) -> str:
        return f"{step.label} {'not measured' if step.value is None else wording.percent(step.value / 100)}"

    rungs = "; ".join(f"{panel.title}, {', '.join(map(words, panel.steps))}" for panel in shown)
    return f"The ladder: greedy accuracy of teacher, base, student and ceiling on every rung, with intervals. {rungs}."


def _draw(axes: Axes, panel: Panel, top: float, narrow: bool, named: bool, first: bool) -> None:
    axes.set_ylim(0, top)
    axes.set_xlim(-0.55, len(panel.steps) - 0.45)
    teacher = panel.steps[0].value
    if teacher is not None:
        axes.axhline(teacher, color=COLOURS["teacher"], linewidth=0.8, linestyle=(0, (2, 2)), zorder=2)
    for x, step in enumerate(panel.steps):
        _mark(axes, x, step, top, narrow)
    axes.set_title(hostile.one_line(panel.title, 24 if narrow else 30), loc="left", weight="bold", color=INK)
    names = [step.label for step in panel.steps] if named else []
    axes.set_xticks(range(len(names)), names)
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value <= 100 else "")
    if first:
        axes.set_ylabel("accuracy, %")
    axes.tick_params(length=0, labelleft=first)
    axes.grid(axis="y", color=RULE, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _mark(axes: Axes, x: int, step: Step, top: float, narrow: bool) -> None:
    size = 7.5 if narrow else 8.5
    if step.value is None:
        axes.text(
            x, 0.04 * top, "not measured", rotation=90, ha="center", va="bottom", color=MUTED, style="italic", fontsize=size
        )
        return
    colour = COLOURS.get(step.kind, MUTED)
    low, high = (step.value if end is None else end for end in (step.low, step.high))
    axes.plot([x, x], [low, high], color=colour, linewidth=BAND, solid_capstyle="butt", alpha=0.22, zorder=3)
    axes.plot([x, x], [low, high], linestyle="", marker="_", markersize=BAND, markeredgewidth=1.0, color=colour, zorder=3)
    face = "white" if step.kind in HOLLOW else colour
    axes.plot([x], [step.value], linestyle="", markersize=4.5, markeredgewidth=1.1, zorder=4, **_style(step.kind, face))
    axes.annotate(
        f"{step.value:.1f}",
        (x, max(high, step.value)),
        (0, 4),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=INK,
        fontsize=size,
        weight="normal" if step.kind in ("teacher", "base", "gold") else "bold",
        zorder=5,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
    )


def _style(kind: str, face: str) -> dict[str, Any]:
    return {"marker": MARKERS.get(kind, "o"), "color": COLOURS.get(kind, MUTED), "markerfacecolor": face}


def _join(figure: Figure, left: Axes, right: Axes, before: Panel, after: Panel) -> None:
    """From the student to where it stands as the next rung's teacher."""
    teacher = after.steps[0]
    column = next((x for x, step in enumerate(before.steps) if x and step.name == teacher.name), None)
    if column is None or teacher.value is None:
        return
    figure.add_artist(
        ConnectionPatch(
            (column, teacher.value),
            (0, teacher.value),
            left.transData,
            right.transData,
            color=MUTED,
            linewidth=0.8,
            linestyle=(0, (1, 1.5)),
            shrinkA=5,
            shrinkB=5,
        )
    )


def _legend(figure: Figure, shown: Sequence[Panel]) -> None:
    steps = (step for column in range(4) for panel in shown for step in panel.steps[column : column + 1])
    kinds = list(dict.fromkeys((step.kind, step.label) for step in steps))
    figure.legend(
        handles=[
            Line2D(
                [],
                [],
                linestyle="",
                markersize=5,
                label=label,
                **_style(kind, "white" if kind in HOLLOW else COLOURS.get(kind, MUTED)),
            )
            for kind, label in kinds
        ],
        loc="upper left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(kinds),
        frameon=False,
        handletextpad=0.1,
        columnspacing=1.0,
        borderaxespad=0.1,
    )
