"""Separate a question from its boilerplate (labels, points, instructions), its options and its drawings."""

import re
from typing import NamedTuple

from w2sr_jax.problems.copies import labels
from w2sr_jax.problems.copies.instructions import LONGEST, asks_by_itself, instruction

_LAYERS = 8  # of boilerplate on either side
_MOST = 40  # labels of options
_SOMETHING = re.compile(r"[^\W_]\s*[^\W_]|\d")
_SENTENCE = re.compile(r"(?<=[.?!:])\s+|\s*\n\s*")
_DRAWING = re.compile(r"\[asy\](.*?)(?:\[/asy\]|\Z)|\\begin\{(?:tikzpicture|asy)\}(.*?)\\end\{(?:tikzpicture|asy)\}", re.S)
_OPTION_LINE = re.compile(r"(?:^|\n)\s*[(\[]?\s*([A-J])\s*[)\].:]\s*(?=\S)")
_OPTION = re.compile(r"(?:^|(?<=\s))[(\[]?\s?([A-J])\s?(?:[)\]]|[.:](?=\s))\s*(?=\S)")
_FIRST_OPTION = re.compile(r"\bA\s?[)\].:]")
_OPTIONS_HEAD = re.compile(
    r"(?:\n|(?<=[.?!:]))\s*(?:the )?(?:answer )?(?:options|choices|选项|選択肢|보기)(?: are)?\s*:?\s*$", re.I
)


class Parts(NamedTuple):
    """A question taken apart: its text, the boilerplate that was around that, and its options without their letters."""

    text: str
    around: str
    options: tuple[str, ...]


def drawing(question: str) -> tuple[str, str | None]:
    """(question without the code of its drawings, that code); the code is None where there are no drawings."""
    if "[asy]" not in question and "\\begin{" not in question:
        return question, None
    codes: list[str] = []

    def removed(match: re.Match[str]) -> str:
        codes.append("".join((match[1] or match[2] or "").split()))
        return " "

    text = _DRAWING.sub(removed, question)
    return text, "\n".join(codes) if codes else None


def without_boilerplate(text: str) -> Parts:
    """The parts of a plain text (`plaintext.plain`). Its own text is never empty: the last of it is not taken for boilerplate."""
    stem, options = _optioned(text)
    begin, end = 0, len(stem)
    for _ in range(_LAYERS):
        position = _head(stem, begin, end)
        if position <= begin or not _enough(stem, position, end):
            break
        begin = position
    for _ in range(_LAYERS):
        position = _tail(stem, begin, end)
        if position >= end or not _enough(stem, begin, position):
            break
        end = position
    return Parts(stem[begin:end].strip(), f"{stem[:begin]} {stem[end:]}".strip(), options)


def _enough(text: str, begin: int, end: int) -> bool:
    """Whether what is left of a text has a number or a word, and so may be a question."""
    return _SOMETHING.search(text, begin, end) is not None


def _head(text: str, begin: int, end: int) -> int:
    """Where the text begins without the label or instruction at its beginning; `begin` where there is none."""
    while begin < end and text[begin] in " \n.:;,*-_|":
        if text[begin] in ".-" and begin + 1 < end and text[begin + 1] not in " \n.-*":
            break
        begin += 1
    position = labels.head(text, begin, end)
    if position > begin:
        return position
    cut = _SENTENCE.search(text, begin, min(end, begin + LONGEST))
    if cut is None or not instruction(sentence := text[begin : cut.start()]):
        return begin
    return begin if asks_by_itself(sentence, text[cut.end() : end]) else cut.end()


def _tail(text: str, begin: int, end: int) -> int:
    """Where the text ends without the label or instruction at its end; `end` (less spaces) where there is none."""
    while end > begin and text[end - 1].isspace():
        end -= 1
    part = text[max(begin, end - LONGEST) : end]
    first = end - len(part)
    length = labels.tail(part)
    if length < len(part):
        return first + length
    opening = labels.bracket(part)
    if opening > 0 and part[opening - 1] in " \n" and instruction(part[opening + 1 :].rstrip(".)]")):
        return first + opening
    cuts = list(_SENTENCE.finditer(part, 0, len(part) - 1))
    if cuts and (instruction(last := part[cuts[-1].end() :]) or labels.points(last)):
        return first + cuts[-1].start()
    return end


def _optioned(text: str) -> tuple[str, tuple[str, ...]]:
    """(text without the options at its end, those options); no options where there are none."""
    if not _FIRST_OPTION.search(text):
        return text, ()
    for pattern, least in ((_OPTION_LINE, 2), (_OPTION, 3)):
        marks = list(pattern.finditer(text))[-_MOST:]
        letters = "".join(match[1] for match in marks)
        run = marks[letters.rfind("A") :] if "A" in letters else []
        stem = text[: run[0].start()].rstrip() if run else ""
        if len(run) >= least and "ABCDEFGHIJ".startswith("".join(match[1] for match in run)) and _enough(stem, 0, len(stem)):
            ends = [*(match.start() for match in run[1:]), len(text)]
            options = [text[match.end() : stop].strip() for match, stop in zip(run, ends)]
            options[-1] = options[-1].split("\n")[0]
            return _OPTIONS_HEAD.sub("", stem), tuple(options)
    return text, ()
