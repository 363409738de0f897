"""Boxes, `\\boxed{…}`, that hold answers; several boxes that give one answer are joined."""

import re
from typing import NamedTuple


class Box(NamedTuple):
    """A box of a text; `text[start:end]` is the box with its command and braces."""

    start: int
    end: int
    content: str


_BOXED = re.compile(r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*")
_BOXED_WORD = re.compile(r"[^\s$\\{}]{1,100}")
_BRACE = re.compile(r"\\.|[{}]", re.S)
_DELIMITER = re.compile(r"\$|\\[)\]]|\n")
_PLACEHOLDER = re.compile(
    r"(?:[.…?_\s]|\\ldots|\\dots|\\cdots|\\_|\\square|\\text\s*\{|\}|<|>|\[|\]|\b(?:your|the|my|final|answer|result|solution|here|value"
    r"|number|expression|insert|put|goes)\b)*",
    re.I,
)
_DENIED = re.compile(r"\b(?:not|isn't|instead of|rather than)\s+(?:equal to\s+|be\s+)?[$(\\*]*$", re.I)
_BETWEEN = re.compile(
    r"(?:[\s,;$]|\\[()\[\]]|\\q?quad|\\[,;: ]|\\text\{\s*(?:and|or)?\s*\}|\b(?:and|or|und|oder|et|ou|y|e)\b|和|或|与"
    r"|\((?:[a-h]|i{1,3}|iv|\d)\)|\b[a-zA-Z](?:_\{?\w\}?)?\s*=)*"
    r"|\s*(?!(?:then|so|but|not|now|here|first|wait|where)\b)[a-z]{2,15}\s+(?:and|or)\s+\$?"
)


def boxes(text: str) -> list[Box]:
    """Every `\\boxed{…}` or `\\boxed x` of a text, in order. Of boxes within boxes only the innermost is given, and none that the
    text breaks off in (see `cut`)."""
    if "box" not in text:
        return []
    reversed_boxes: list[Box] = []
    closing = _closing(text)
    innermost = len(text)  # where the box begins that no box further left may hold
    for match in reversed(list(_BOXED.finditer(text))):
        start = match.end()
        if start in closing and closing[start] < innermost:
            reversed_boxes.append(Box(match.start(), closing[start] + 1, text[start + 1 : closing[start]].strip()))
        elif start not in closing and (word := _BOXED_WORD.match(text, start)):
            reversed_boxes.append(Box(match.start(), word.end(), word.group().rstrip(".,;:")))
        elif start not in closing and (end := _repaired(text, start)):
            reversed_boxes.append(Box(match.start(), end, text[start + 1 : end].strip().rstrip(".,;")))
        else:
            continue
        innermost = match.start() if reversed_boxes[-1].content else innermost
    return reversed_boxes[::-1]


def filled(text: str) -> list[Box]:
    """The boxes that state something: not empty, no placeholder (`...`, `?`, `your answer`), and without `not` before them."""
    return [
        box
        for box in boxes(text)
        if not _PLACEHOLDER.fullmatch(box.content) and not _DENIED.search(text, max(0, box.start - 40), box.start)
    ]


def joined(text: str, candidates: list[Box]) -> Box | None:
    """The last of the boxes `candidates` of a text, joined with its neighbours on the left as long as only commas, `and`, `or`
    and delimiters are between them: together they give one answer. None where there are no candidates."""
    if not candidates:
        return None
    last = candidates[-1]
    parts, start = [last.content], last.start
    for box in reversed(candidates[:-1]):
        if box.end > start or start - box.end > 40 or not _BETWEEN.fullmatch(text[box.end : start]) or box.content == parts[0]:
            break
        parts.insert(0, box.content)
        start = box.start
    return Box(start, last.end, ", ".join(parts))


def cut(text: str) -> int:
    """Where the box begins in which the text breaks off; -1 where there is no such box."""
    if "box" not in text:
        return -1
    closing = _closing(text)
    for match in reversed(list(_BOXED.finditer(text))):
        start = match.end()
        if start in closing:
            continue
        if start == len(text) or (text[start] == "{" and not _repaired(text, start)):
            return match.start()
    return -1


def _closing(text: str) -> dict[int, int]:
    r"""By the position of each opening brace, the position of the brace that closes it; `\{` and `\}` are no braces."""
    opened: list[int] = []
    pairs = {}
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif brace.group() == "}" and opened:
            pairs[opened.pop()] = brace.start()
    return pairs


def _repaired(text: str, start: int) -> int:
    """Where the content of a box without closing brace ends, if its formula is closed: before the closing delimiter. Otherwise
    0."""
    if start >= len(text) or text[start] != "{":
        return 0
    end = _DELIMITER.search(text, start, start + 200)
    inside = text[start + 1 : end.start()].strip() if end else ""
    return end.start() if end and end.group() != "\n" and inside and "\\boxed" not in inside else 0
