"""Read the final answer of a chain of thought, and name the rule that read it.

How answers are read moves measured accuracy by points (one parser's 5.1 % was another's 32.8 %), so every verdict carries its
rule. `docs/grading.md` gives examples of each.
"""

import re
from collections import deque
from typing import NamedTuple

from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.reading import cues, languages, scope
from w2sr_jax.answers.reading.boxes import boxes, cut, filled, joined

__all__ = ["GUESSES", "LONGEST", "MOST_GUESSED", "Extraction", "boxes", "extract", "guessed", "tidy"]

LONGEST = scope.LONGEST
TAIL = 300  # characters from the end in which most texts have their last number
BEGUN = 60  # a number that begins among the first of them may be the rest of a longer one
PROSE = 8  # words of a statement without a single number; a longer one is prose that states no answer
GUESSES = ("last_math", "last_number")
"""Rules that guess: they take what stands last in a text that states no answer."""
MOST_GUESSED = 0.1
"""The largest share of texts with guessed answers that causes no warning."""


class Extraction(NamedTuple):
    """`answer` as written, without math delimiters and closing full stop; None with the rule "none" where there is none."""

    answer: str | None
    rule: str


class _Marked(NamedTuple):
    """An answer that is marked as one (by a tag, `####` or a box), where its mark begins in the text, and the rule that read
    it."""

    start: int
    answer: str
    rule: str


_TAG = re.compile(r"<(answer|final_answer|final|solution|ans)>(.{0,2000}?)(?:</\1>|$)", re.I | re.S)
_HASHES = re.compile(r"####+[ \t]*([^\n]*)")
_HEADING_WORD = re.compile(
    r"[*_]{0,3}(?:step|part|case|problem|question|exercise|example|section|phase|task|solution|solve|final answer|answer"
    r"|conclusion|analysis|method|approach|verification|verify|check|checking|explanation|summary|given|find|finding|note|understanding"
    r"|understand|calculate|calculating|calculation|compute|computing|setting|set up|setup|reasoning|results?|interpretation"
    r"|discussion|key|option|schritt|lösung|étape|etape|paso|passo|шаг|решение|ответ|第.{1,4}[步题章部]|步骤|步驟|分析|解答|解析|结论"
    r"|단계|풀이|ステップ|手順)\b",
    re.I,
)
_ENUMERATED = re.compile(r"(?:[*_]{0,3})(?:\(?\d{1,2}[.)]|\d{1,2}(?:\.\d{1,2})+\.?|\(?[A-Za-zIVX]{1,4}[.)])[*_]{0,3}\s+\D")
_LABELLED = re.compile(
    rf"[*_]{{0,3}}(?:the\s+)?(?:{languages.LABELS}|(?:final\s+)?result)(?!\w)[*_]{{0,3}}\s*(?:is\b|[:：=])[*_]{{0,3}}\s*(.+)",
    re.I,
)
_PROSE = re.compile(r"(?<![\\a-zA-Z{])[a-zA-Z]{2,}[ ,.]+(?!\\)[a-zA-Z]{2,}")
_SPOKEN = re.compile(r"(?<!\\)\b[^\W\d_]{2,}")
_SYMBOLIC = re.compile(
    r"\\(?!text|mbox|mathrm|textbf|mathbf|\$|%|[,;:! ]|quad|qquad|left|right|d?frac|tfrac)|[\^_√π∞=<>≤≥]|\d[a-zA-Z]|[a-zA-Z]\d"
)
_NUMBER = re.compile(
    r"\\[dt]?frac\s*\{-?\d+\}\s*\{-?\d+\}|(?<![\w.,/])-?\d+\s\d+/\d+(?![\d/])|(?<![A-Za-z_\d])(?<!\d[.,])(?:(?<![\w)\]}.])[-−–])?(?:(?:R\$|US\$|[$€£¥₹₽₩])\s?[-−]?)?"
    r"(?:\d{1,3}(?:\.\d{3}){2,}(?![\d.])|\d{1,3}(?:\.\d{3})+,\d{1,2}(?![\d,])|\d{1,3}(?:,\d{3})+(?!\d)|\d+,\d+(?![\d,.])"
    r"|\d{1,3}(?: \d{3})+(?![\d.])|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
    r"(?:\s?/\s?\d+(?![\d.,/]{0,8}\d))?"
    r"(?:\s?(?:\\times|×|\*|x)\s?10\^\{?-?\d+\}?)?(?:\s?\\?%|\s(?:hundred|thousand|million|billion|trillion|dozen)\b|\s?[万亿萬億만억])?|(?<![\w.])\.\d+",
)
_DENIED = re.compile(
    r"\b(?:no(?:t|\slonger)|can(?:not|'t)|rather\sthan|instead\sof|isn't|aren't|nicht)\s+(?:be\s+|equal\s+(?:to\s+)?)?\$?-?[\d.,]*\d\$?"
    r"|不是\s*-?[\d.,]*\d|ではなく",
    re.I,
)
_RETRACTED = re.compile(
    r"\b(?:wait|no,|oops|sorry|correction|corrected|correcting|mistake|wrong|incorrect|actually|instead|revis\w+|re-?check\w*|error"
    r"|should be|on second thought)\b",
    re.I,
)
_EQUATED = re.compile(
    r"[<>,;]|\b(?:and|or)\b|\d\s*[a-zA-Z](?![a-zA-Z])|(?<![a-zA-Z])[a-zA-Z]\s*(?:\^|\*\*|[-+*/])|[-+*/}]\s*[a-zA-Z](?![a-zA-Z])"
)
"""What in a side of an equation makes it one in unknowns, or a list: `4x - 5y = 50` states more than 50."""
_STYLED = re.compile(
    r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:displaystyle|large|Large|huge|bf)(?![a-zA-Z])"
    r"|\\(?:underline|uline|bm|boldsymbol|mathbf|textcolor\s*\{[^{}]*\})\s*\{([^{}]*)\}"
)
_NOTE = re.compile(r"(?<=[^\s(])\s+\((?=[^()\n]*[^\W\d_]{2})[^()\n]{1,60}\)[.\s]*$")
_TOUCHING = frozenset("0123456789.^*/()√π∞:abcdefghijklmnopqrstuvwxyz+-{}\\²³¹⁰⁴⁵⁶⁷⁸⁹!_")
_SIGNS = re.compile(r"[√π^²³⁴⁵⁶⁷⁸⁹⁰]|\*\*|\b(?:sqrt|pi)\b|\d\s?pi\b|^\d+(?::\d+)+$|\d[xyznkabt]\b|\d(?:sqrt|pi)")
_SYMBOL_BEHIND = re.compile(r"\s(?:π|pi\b|√\d+)")
_TUPLE = re.compile(r"[(\[]\s*-?\d[\d./]*(?:\s*,\s*-?\d[\d./]*)+\s*[)\]]")
_LISTED = re.compile(r"\s*(?:,|;|,?\s*\b(?:and|or)\b)\s*")
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{\s*\}")
_REJECTED = re.compile(
    r"\banswers?[ ](?:is|was|would[ ]be|might[ ]be|could[ ]be)[ ][^.!?\n]{1,60}?,?[ ]?\b(?:but|which|and|though)\b[^.!?\n]{0,20}"
    r"\b(?:wrong|incorrect|not\s+(?:right|correct|true)|false|mistaken|a\s+mistake)\b",
    re.I,
)
"""A statement that the same sentence takes back: `some say the answer is 10, but that is wrong`."""
_COMPARED = re.compile(r"\b(?:greater|more|less|fewer|larger|smaller|higher|lower|bigger)\s+than\s+\$?-?[\d.,]*\d\$?", re.I)
_PART_OF = re.compile(
    r"\b(?:half|thirds?|quarters?|fourths?|fifths?|tenths?|twice|double|triple|percent|times|%)\s+(?:of\s+)?\$?$", re.I
)


def extract(text: str) -> Extraction:
    """The final answer of a text. Never raises.

    Only the text's own words are read (`reading.scope.answer_text`). The rules, in order:

    1. The last answer that is marked as one: `tag` (`<answer>…</answer>`), `####` (the rest of a line that is no heading),
       `boxed` (`\\boxed{…}`, neighbours joined). Where the last box is cut off, there is no answer.
    2. The last statement: `A:` (a line that begins with `Answer:`) or `answer_is` (a sentence, in some twenty languages). One
       that follows a marked answer and takes it back counts before that.
    3. A guess: `last_math` (the last TeX formula, where no number follows it), else `last_number`.
    """
    text = scope.answer_text(text)
    if "answer" in text:
        text = _REJECTED.sub("", text)
    if "box" in text:
        text = _EMPTY_BOX.sub("", text)
    marked, unfinished = _last_marked(text), cut(text)
    extraction = Extraction(marked.answer, marked.rule) if marked is not None and marked.start > unfinished else None
    after = max(marked.start if marked else -1, unfinished)
    retracted = marked is None or _RETRACTED.search(text, marked.start) is not None
    if extraction is not None and not retracted and "final answer" not in text[after:].lower():
        return extraction
    worded = None
    for statement in cues.statements(text):
        if statement.start <= after:
            break
        if not (statement.final or retracted):
            continue
        answer = reduced(statement.answer)
        if not answer or len(_SPOKEN.findall(answer)) > PROSE:
            continue
        if not statement.worded:
            return Extraction(answer, statement.rule)
        worded = worded or Extraction(answer, statement.rule)
    if extraction is not None:
        return extraction
    if unfinished >= 0:
        return Extraction(None, "none")
    if worded is not None:
        return worded
    formula = _last_math(text)
    if formula:
        return Extraction(formula, "last_math")
    if len(text) <= TAIL and number(text.strip()) is not None:
        return Extraction(tidy(text), "last_number")
    if "####" in text:
        text = _HASHES.sub(_without_heading, text)
    last = _last_number(text)
    return Extraction(last, "last_number") if last else Extraction(None, "none")


def guessed(text: str, answer: str | None, rule: str) -> bool:
    """Whether an extraction from `text` is a guess. A text that is nothing but its answer, as when the answer alone was asked
    for, states it."""
    return answer is not None and rule in GUESSES and tidy(text.strip()) != answer


def tidy(answer: str) -> str:
    """An answer without outer spaces, math delimiters, emphasis, colours and closing full stops."""
    if answer.isalnum():
        return answer
    previous = None
    while answer != previous:
        previous = answer
        answer = _trimmed(_STYLED.sub(r"\1", answer) if "\\" in answer else answer)
        for left, right in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inner = answer[len(left) : len(answer) - len(right)]
            if len(answer) > len(left) + len(right) and answer.startswith(left) and answer.endswith(right) and left not in inner:
                answer = inner
    return answer


def reduced(answer: str) -> str:
    """The answer within a statement: the number of a sentence that holds a single one, `5` of `5, not 6`, the last side of an
    equation in numbers (7 of `3 + 4 = 7`); otherwise the whole statement without delimiters."""
    answer = tidy(answer)
    if number(answer) is not None:
        return answer
    answer = tidy(_DENIED.sub("", answer).rstrip(" ,;，")) or answer
    sides = re.split(r"(?<![<>!\\=])=(?!=)", answer)
    if len(sides) > 1 and number(tidy(sides[-1])) is not None and not any(map(_EQUATED.search, sides[:-1])):
        return tidy(sides[-1])
    if number(answer) is not None or _SYMBOLIC.search(answer):
        return answer
    if _PROSE.search(answer) or not answer.isascii():
        numbers = list(_NUMBER.finditer(answer))
        if len(numbers) == 1 and not _PART_OF.search(answer, 0, numbers[0].start()):
            return numbers[0].group().strip()
    return answer


def _trimmed(answer: str) -> str:
    start, end = 0, len(answer)
    while start < end and (answer[start].isspace() or answer[start] in "*_`"):
        start += 1
    while start < end and (answer[end - 1].isspace() or answer[end - 1] in "*_`.,;。"):
        if answer[end - 1] in ",;" and answer[max(start, end - 2)] == "\\":  # a thin space
            break
        if answer[start].isdigit() and answer.endswith("...", start, end):  # decimals that go on
            break
        end -= 1
    return answer[start:end]


def _last_marked(text: str) -> _Marked | None:
    """The last answer that is marked as one."""
    marked = [one for one in (_tag(text), _hashes(text), _boxed(text)) if one is not None]
    return max(marked, key=lambda one: one.start, default=None)


def _tag(text: str) -> _Marked | None:
    for match in reversed(list(_TAG.finditer(text))) if "</" in text or "<a" in text.lower() else ():
        content = match[2].strip()
        if not content or content in ("...", "…"):
            continue
        inner = _boxed(content)
        if inner is None and (number(tidy(content)) is None) and (statement := next(cues.statements(content), None)):
            content = statement.answer
        elif inner is None and "\n" in content and cues.is_formula(content) is False:
            content = content.splitlines()[-1]
        answer = inner.answer if inner else reduced(content)
        if answer:
            return _Marked(match.start(), answer, "tag")
    return None


def _hashes(text: str) -> _Marked | None:
    if "####" not in text:
        return None
    for match in reversed(list(_HASHES.finditer(text))):
        line = match[1].rstrip("# \t")
        labelled = _LABELLED.match(line)
        answer = tidy(labelled[1] if labelled else line)
        if answer and (labelled or not _is_heading(answer, text[match.end() :])):
            return _Marked(match.start(), reduced(answer), "####")
    return None


def _is_heading(line: str, rest: str) -> bool:
    """Whether the words behind `####` are a Markdown heading: a heading's word or number, or words that text follows."""
    if number(line) is not None and not re.match(r"\S+\s+[A-Z][a-z]", line):
        return False
    if _HEADING_WORD.match(line) or _ENUMERATED.match(line):
        return True
    follows = bool(rest.strip())
    if not any(char.isdigit() for char in line) and not _SYMBOLIC.search(line):
        return follows
    return follows and len(re.findall(r"[^\W\d_]{2,}", line)) >= 2 and line[:1].isupper() and "is" not in line.split()


def _last_number(text: str) -> str | None:
    """The last number of a text, with the expression that it is part of; numbers that the text denies or compares with are left
    out. The last `TAIL` characters are searched first. A number at their very beginning may have begun before them, and then the
    whole text is searched."""
    for tail in (text[-TAIL:], text):
        last = _last(_NUMBER, _NOTE.sub("", _COMPARED.sub(_blank, _DENIED.sub(_blank, tail))))
        if last is not None and (last.start() > BEGUN or len(tail) == len(text)):
            return _whole(tail, last)
    return None


def _whole(text: str, figure: re.Match[str]) -> str:
    """The expression that a number is part of, where it touches one (`4√3`, `9π`, `2^10`, `3x`, `(2, 5)`, `8:34`); else the
    number."""
    pair = next(
        (match for match in _TUPLE.finditer(text, max(0, figure.start() - 60)) if match.start() < figure.start() < match.end()),
        None,
    )
    if pair is not None:
        return pair.group()
    start, end = figure.start(), figure.end()
    while start and text[start - 1] in _TOUCHING:
        start -= 1
    while end < len(text) and text[end] in _TOUCHING:
        end += 1
    behind = _SYMBOL_BEHIND.match(text, end)
    run = tidy(text[start : behind.end() if behind else end].rstrip(".,;:!?*").rpartition("=")[2].lstrip(":*"))
    return run if _SIGNS.search(run) and number(run) is None else figure.group().strip()


def _without_heading(match: re.Match[str]) -> str:
    return _blank(match) if _HEADING_WORD.match(match[1]) else match.group()


def _blank(match: re.Match[str]) -> str:
    return " " * len(match.group())


def _boxed(text: str) -> _Marked | None:
    box = joined(text, filled(text))
    answer = tidy(box.content) if box else ""
    return _Marked(box.start, reduced(answer) if _PROSE.search(answer) else answer, "boxed") if box and answer else None


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    return next(iter(deque(pattern.finditer(text), maxlen=1)), None)


def _last_math(text: str) -> str | None:
    """The last formula, with its neighbours on the left where only commas, `and` or `or` stand between and none is an equation;
    None where a number follows it."""
    if cues.is_formula(text):
        return tidy(cues.inside(text))
    text = _NOTE.sub("", text)
    unprosaic = [match for match in cues.formulas(text) if not _PROSE.search(match.group())]
    if not unprosaic or _NUMBER.search(text, unprosaic[-1].end()):
        return None
    parts = [unprosaic[-1]]
    for formula in reversed(unprosaic[:-1]):
        if (
            "=" in formula.group() + parts[0].group()
            or not any(map(str.isdigit, formula.group()))
            or not _LISTED.fullmatch(text, formula.end(), parts[0].start())
        ):
            break
        parts.insert(0, formula)
    return ", ".join(tidy(cues.inside(part.group())) for part in parts)
