"""Texts that models wrote, made safe and honest to look at: hidden characters shown, lengths capped, equations marked."""

import re
import unicodedata
from collections.abc import Sequence

from markupsafe import Markup, escape

from w2sr_jax.report.results import SampleStep

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_KEPT = "\n\t"
_PLAIN = re.compile(r"[\n\t\x20-\x7e]*")
_COMBINING_RUN = 4


def visible(text: str) -> str:
    """The text with control, bidirectional and other invisible characters spelt out (`␀`, `⟨U+202E⟩`), newlines kept."""
    if _PLAIN.fullmatch(text):
        return text
    shown, combining = [], 0
    for character in text.replace("\r\n", "\n"):
        category = unicodedata.category(character)
        combining = combining + 1 if category in ("Mn", "Me") else 0
        code = ord(character)
        if character in _KEPT:
            shown.append(character)
        elif code < 0x20:
            shown.append(chr(0x2400 + code))
        elif code == 0x7F:
            shown.append("␡")
        elif category in _HIDDEN or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF or combining > _COMBINING_RUN:
            shown.append(f"⟨U+{code:04X}⟩")
        else:
            shown.append(character)
    return "".join(shown)


def one_line(text: object, limit: int = 60) -> str:
    """A name fit for a label: visible, on one line, at most `limit` characters."""
    line = " ".join(visible(str(text)[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def capped(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters, and how many are left out."""
    return text[:limit], max(0, len(text) - limit)


def marked(text: str, steps: Sequence[SampleStep], limit: int) -> Markup:
    """The text as HTML, each equation `start:end` marked right (✓) or wrong (✗). Overlapping or foreign spans are ignored."""
    shown, left_out = capped(text, limit)
    pieces, position = [], 0
    for step in sorted(steps, key=lambda step: (step.start, step.end)):
        start, end = step.start, step.end
        if start < position or end <= start or end > len(shown):
            continue
        kind, symbol, label = ("right", "✓", "right") if step.valid else ("wrong", "✗", "wrong")
        pieces.append(escape(visible(shown[position:start])))
        equation = escape(visible(shown[start:end]))
        pieces.append(
            Markup('<mark class="{}">{}<span class="sign" role="img" aria-label="{}">{}</span></mark>').format(
                kind, equation, label, symbol
            )
        )
        position = end
    pieces.append(escape(visible(shown[position:])))
    if left_out:
        pieces.append(Markup('<span class="cut"> … {:,} more characters not shown</span>').format(left_out))
    return Markup("").join(pieces)
