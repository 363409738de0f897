"""Find the final answer in a chain of thought, and say by which rule it was found.

How the answer is looked for moves measured accuracy by points (one parser's 5.1 % was another's 32.8 %), so every verdict
carries its rule.
"""

import re
from collections import deque
from typing import NamedTuple

from w2sr_jax.answers.numbers import number

LONGEST = 30_000  # characters from the end of a text that are looked at


class Extraction(NamedTuple):
    """`answer` as written, delimiters and closing full stop removed; None with rule "none" where there is none."""

    answer: str | None
    rule: str


_END_OF_TURN = re.compile(r"<\|[a-z_]{1,20}\|>|</s>|<eos>|<pad>", re.I)
_HASHES = re.compile(r"####+[ \t]*([^\n]*)")
_BOXED = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_BOXED_WORD = re.compile(r"[^\s$\\{}]{1,100}")
_BRACE = re.compile(r"\\.|[{}]", re.S)
_BETWEEN_BOXES = re.compile(r"(?:[\s,;$]|\\[()\[\]]|\\q?quad|\\[,;: ]|\\text\{\s*(?:and|or)?\s*\}|\b(?:and|or)\b)*")
_LINE = re.compile(r"^[ \t*_>]*(?:A|(?:final\s+)?answer|ANSWER)[ \t*_]*:[ \t*_]*([^\n]*)", re.I | re.M)
_ANSWER_IS = re.compile(r"\b(?:answer|solution)\b(?:[^.\n:=]{0,60}?\bis\b|\s*[:=])[ \t]*:?[ \t*_]*\n?[ \t]*([^\n]*)", re.I)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|(?<!\s)\s+(?:so|because|since|which|I hope)\b")
# An opening \[ or \( that another follows opens nothing: what is unclosed is then read once, not once per opening.
_MATH = re.compile(
    r"\$\$(.{1,2000}?)\$\$|\\\[((?:(?!\\\[).){1,2000}?)\\\]|\\\(((?:(?!\\\().){1,2000}?)\\\)"
    r"|(?<![\\\w$])\$([^$\n]{1,2000}?)(?<!\\)\$(?![\d$])",
    re.S,
)
_PROSE = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{2,}[ ,.]+(?!\\)[a-zA-Z]{2,}")
_NUMBER = re.compile(
    r"\\[dt]?frac\s*\{-?\d+\}\s*\{-?\d+\}|(?<![^\W_])(?<!\d[.,])(?:(?<![\w)\]}.])[-−–])?[$€£]?[-−]?"
    r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.,/]{0,8}\d))?(?:\s?\\?%)?|(?<![\w.])\.\d+"
)


def extract(text: str) -> Extraction:
    """The final answer of a text. Rules in order, each taking the last occurrence that is not empty; a sentence with one number
    in it stands for that number:

    `####` (rest of the line), `boxed` (`\\boxed{…}`, nested braces, neighbouring boxes joined), `A:` (a line that begins with
    `A:` or `Answer:`), `answer_is` (up to the end of the sentence), `last_math` (last TeX formula, where no number follows it),
    `last_number`. Never raises; only the last 30,000 characters are looked at.
    """
    text = _END_OF_TURN.sub("\n", text[-LONGEST:])
    for rule, find in (("####", _hashes), ("boxed", _boxed), ("A:", _line), ("answer_is", _answer_is), ("last_math", _last_math)):
        answer = find(text)
        if answer:
            return Extraction(_without_prose(answer), rule)
    if number(text.strip()) is not None:
        return Extraction(tidy(text), "last_number")
    last = _last(_NUMBER, text)
    return Extraction(last.group().strip(), "last_number") if last else Extraction(None, "none")


def tidy(answer: str) -> str:
    """Without outer spaces, math delimiters, emphasis and closing full stops."""
    previous = None
    while answer != previous:
        previous = answer
        answer = _trimmed(answer)
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inner = answer[len(left) : len(answer) - len(right)]
            if len(answer) > len(left) + len(right) and answer.startswith(left) and answer.endswith(right) and left not in inner:
                answer = inner
    return answer


def _trimmed(answer: str) -> str:
    start, end = 0, len(answer)
    while start < end and (answer[start].isspace() or answer[start] in "*_`"):
        start += 1
    while start < end and (answer[end - 1].isspace() or answer[end - 1] in "*_`.,;"):
        if answer[end - 1] in ",;" and answer[max(start, end - 2)] == "\\":  # a thin space
            break
        end -= 1
    return answer[start:end]


def boxes(text: str) -> list[tuple[int, int, str]]:
    """(start, end, content) of every `\\boxed{…}` or `\\boxed x` in order. Of boxes within boxes the innermost counts; one
    without a closing brace is passed over."""
    found: list[tuple[int, int, str]] = []
    closing = _closing(text)
    innermost = len(text)  # where the box begins that no box further left may hold
    for match in reversed(list(_BOXED.finditer(text))):
        start = match.end()
        if start in closing and closing[start] < innermost:
            found.append((match.start(), closing[start] + 1, text[start + 1 : closing[start]].strip()))
        elif start not in closing and (word := _BOXED_WORD.match(text, start)):
            found.append((match.start(), word.end(), tidy(word.group())))
        else:
            continue
        innermost = match.start() if found[-1][2] else innermost
    return found[::-1]


def _closing(text: str) -> dict[int, int]:
    r"""Where each brace that is closed is closed; `\{` and `\}` are no braces."""
    opened: list[int] = []
    pairs = {}
    for brace in _BRACE.finditer(text):
        if brace.group() == "{":
            opened.append(brace.start())
        elif brace.group() == "}" and opened:
            pairs[opened.pop()] = brace.start()
    return pairs


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _last_filled(pattern: re.Pattern[str], text: str) -> str | None:
    return next((answer for answer in reversed([tidy(match.group(1)) for match in pattern.finditer(text)]) if answer), None)


def _without_prose(answer: str) -> str:
    if number(answer) is not None or not _PROSE.search(answer):
        return answer
    found = [match.group().strip() for match in _NUMBER.finditer(answer)]
    return found[0] if len(found) == 1 else answer


def _hashes(text: str) -> str | None:
    return _last_filled(_HASHES, text)


def _boxed(text: str) -> str | None:
    if "box" not in text:
        return None
    found = [box for box in boxes(text) if box[2]]
    if not found:
        return None
    joined = [found[-1][2]]
    start = found[-1][0]
    for left, right, content in reversed(found[:-1]):
        if right > start or start - right > 40 or not _BETWEEN_BOXES.fullmatch(text[right:start]) or content == joined[0]:
            break
        joined.insert(0, content)
        start = left
    return ", ".join(joined)


def _line(text: str) -> str | None:
    return _last_filled(_LINE, text)


def _answer_is(text: str) -> str | None:
    for match in reversed(list(_ANSWER_IS.finditer(text))):
        rest = match.group(1).strip()
        formula = _MATH.match(rest)
        if formula and not _PROSE.search(formula.group()):
            return tidy(formula.group())
        end = _SENTENCE_END.search(rest)
        answer = tidy(rest[: end.start()] if end else rest)
        if answer:
            return answer
    return None


def _last_math(text: str) -> str | None:
    if _MATH.fullmatch(text.strip()):
        return tidy(text)
    formula = None
    for match in _MATH.finditer(text):
        if not _PROSE.search(match.group()):
            formula = match
    if formula is None or _NUMBER.search(text, formula.end()):
        return None
    return tidy(formula.group())
