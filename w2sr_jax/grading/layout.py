"""Tables of text for a terminal of a given width: columns are shortened to fit, and invisible characters are spelled out."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from w2sr_jax.report import hostile

INDENT = "  "
GAP = "  "
NEWLINE = " ⏎ "
NARROWEST = 6  # cells of a column that is shortened


class Column(NamedTuple):
    """A column: its heading, whether it is flush right (as numbers are), and whether it is shortened where the table is too
    wide."""

    heading: str
    right: bool = False
    gives_way: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table, of at most `width` cells as far as its columns can be shortened."""
    widths = [max(cell_len(cell) for cell in (column.heading, *cells)) for column, cells in zip(columns, _turned(columns, rows))]
    over = cell_len(INDENT) + sum(widths) + cell_len(GAP) * (len(widths) - 1) - width
    while over > 0:
        widest = max(
            (index for index, column in enumerate(columns) if column.gives_way), key=lambda index: widths[index], default=None
        )
        if widest is None or widths[widest] <= NARROWEST:
            break
        widths[widest] -= 1
        over -= 1
    lines = [[column.heading for column in columns], *rows]
    return [(INDENT + GAP.join(map(_cell, line, widths, columns))).rstrip() for line in lines]


def shortened(text: str, width: int) -> str:
    """The beginning of a line, in at most `width` cells."""
    return text if cell_len(text) <= width else f"{set_cell_size(text, max(0, width - 1)).rstrip()}…"


def tail(text: str, width: int) -> str:
    """The end of a text on one line, in at most `width` cells."""
    line = one_line(text[-8 * width :])
    if cell_len(line) <= width and len(text) <= 8 * width:
        return line
    while cell_len(line) > width - 1:
        line = line[max(1, (cell_len(line) - width + 1) // 2) :]
    return f"…{line}"


def one_line(text: str) -> str:
    """The text on one line, with all invisible characters spelled out."""
    lines = (" ".join(line.split()) for line in hostile.visible(text.strip()).split("\n"))
    return NEWLINE.join(line for line in lines if line)


def share(part: int, whole: int) -> str:
    """A share in percent, which is 100 only where the part is the whole."""
    return f"{min(100 * part / whole, 100 if part == whole else 99.9):.1f} %" if whole else "–"


def _cell(text: str, width: int, column: Column) -> str:
    text = shortened(text, width)
    space = " " * (width - cell_len(text))
    return space + text if column.right else text + space


def _turned(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[row[index] for row in rows] for index in range(len(columns))]
