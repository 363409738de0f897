"""Sentences that state an answer, as `The answer is 12`, `**Answer:** 3/4`, `答案是12` or `Die Antwort lautet 12`."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.reading import languages
from w2sr_jax.answers.values import words

LINE, SENTENCE = "A:", "answer_is"


class Statement(NamedTuple):
    """An answer that the text states, where its cue begins, and the kind of cue: a label at the beginning of a line (`A:`) or a
    sentence (`answer_is`). `worded`: the answer consists of words alone, which is weaker evidence than a number or formula.
    `final`: the cue says "final answer"."""

    start: int
    answer: str
    rule: str
    worded: bool
    final: bool


_LINE = re.compile(
    rf"^[ \t]{{0,12}}(?:[-•>][ \t]{{0,12}})?(?:\#{{1,6}}[ \t]{{0,12}})?[*_]{{0,3}}[ \t]{{0,12}}"
    rf"(?:A|(?:{languages.LABELS})(?:[ \t]{{0,12}}\([^()\n]{{1,30}}\))?)[ \t]{{0,12}}[*_]{{0,3}}[ \t]{{0,12}}"
    r"(?:[:：＝=][ \t]{0,12}[*_]{0,3}|(?<=[*_]{2})(?=[ \t]{0,12}\n)|[—–][ \t])[ \t]{0,12}",
    re.I | re.M,
)
_HEADING = re.compile(
    rf"^[ \t]{{0,12}}(?:\#{{1,6}}[ \t]{{0,12}}[^\w\n\#]{{0,6}}|[*_]{{2,3}})[ \t]{{0,12}}(?:the[ \t]+)?"
    rf"(?:{languages.LABELS}|conclusion|result|fazit|conclusión|结论)[ \t]{{0,12}}[*_]{{0,3}}[ \t]{{0,12}}[:：]?"
    r"[ \t]{0,12}[*_]{0,3}[ \t]{0,12}(?=\n|$)",
    re.I | re.M,
)
_DISCARDED = re.compile(rf"\b(?:{languages.BEFORE_A_CUE})\b[^.!?\n]{{0,80}}$", re.I)
_SENTENCE_END = re.compile(
    rf"(?<!\\)[.?;](?=\s|$|[*_\"”)])|(?<!\\)!(?!\s*[=+*×/^)])(?=\s|$|[*_\"”)])|[。！？；]|(?<!\s)[\s,]+(?:{languages.CLAUSES})\b|，(?!\s*\d{{3}}(?!\d))|,?\s+(?:因为|所以|因此)|\s*\n"
)
_NOT_AN_ANSWER = re.compile(languages.NO_ANSWER, re.I)
_CONTRAST = re.compile(
    r"not\s+.{1,60}?(?:,\s*|;\s*|\s+)?(?:but(?:\s+rather)?|it(?:'s|\s+is)|rather|sondern|sino|mais|а)\s+(.*)", re.I | re.S
)
_FORMULA = (
    r"\$\$.{1,2000}?\$\$|\\\[(?:(?!\\\[).){1,2000}?\\\]|\\\((?:(?!\\\().){1,2000}?\\\)"
    r"|(?<![\\\w$])\$(?!\s*\d[\d,.]*\s+(?:[a-z]{2,}|[-+*/=])[^$]*\$)(?:\\\$|[^$\n]){1,2000}?(?<!\\)\$(?![\d$])"
    r"|\\begin\{(?:equation|align|gather|displaymath|math)\*?\}.{1,2000}?\\end\{(?:equation|align|gather|displaymath|math)\*?\}"
)
_MATH = re.compile(_FORMULA, re.S)
_LIST = re.compile(r"\s*(?:,?\s*(?:and|or|und|oder|et|ou|y|o|和|或)\s+|,\s*|;\s*)", re.I)
_LETTERS = re.compile(r"[^\W\d_]+")
_SYMBOL = re.compile(r"[\\^=√π∞<>≤≥]|(?<!['’])\b(?![aAI]\s)[a-zA-Z]\b(?!['’])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s($])(?:Rs|approx|ca|No|Nr|St|Mr|Mrs|Dr|vs|i\.e|e\.g|bzw|ungef|env|aprox|resp|руб|тыс|млн|approx)$", re.I
)
_BEFORE = re.compile(  # 5 is the answer; we get $x + 1$ as our final answer
    r"((?:[-−]?[$€£]?\d[\d.,/]{0,30}(?:%|(?<=\d))|\$[^$\n]{1,200}\$))(?:\s+[a-z]{1,15}){0,2}?\s+(?:is|as)\s+(?:the|our|my)\s+"
    r"(?:final\s+|correct\s+)?answer\b(?!\s+to\s+(?:a|another|the\s+first)\b)"
)
_FIGURE = re.compile(r"(?<![\w.,])[-−]?[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?(?![\w])")
_LINES = 4  # below a heading in which its answer is looked for
_MAXIMUM = 60  # cues from the end that are looked at


def statements(text: str) -> Iterator[Statement]:
    """The statements of a text, the last first. Sentences about an answer that state none (`this answer is reasonable`, `Answer:
    let me think`) or that do not claim it (`if the answer is 15`, `the previous answer is`) are left out."""
    cues = [(match.start(), match.end(), LINE, "") for match in _LINE.finditer(text)]
    cues += [(match.start(), match.end(), LINE, "") for match in _HEADING.finditer(text)]
    cues += [
        (match.start(), match.end(), SENTENCE, "")
        for match in languages.cues(text)
        if not _DISCARDED.search(text, max(0, match.start() - 100), match.start()) or text[match.end() - 1] in ":："
    ]
    if "answer" in text:
        cues += [(match.start(), match.end(), SENTENCE, match[1]) for match in _BEFORE.finditer(text)]
    begun = len(text) + 1
    for start, end, rule, before in sorted(set(cues), key=lambda cue: (-cue[1], *cue))[:_MAXIMUM]:
        rest = text[end : min(len(text), end + 2500, max(begun, end))]
        answer = before or _stated(rest, rule) or (_section(rest) if rule == LINE and rest[:1] in ("", "\n", "\r") else None)
        begun = min(begun, start) if rule == SENTENCE else begun
        if answer:
            yield Statement(start, answer, rule, not _bears(answer), "final answer" in text[max(0, start - 6) : end].lower())


def labels(text: str) -> Iterator[re.Match[str]]:
    """The labels, as `A:` or `Answer:`, with which lines begin; what a line states begins where its match ends."""
    return _LINE.finditer(text)


def formulas(text: str) -> Iterator[re.Match[str]]:
    """The formulas of a text that TeX would set, in order: `$…$`, `\\(…\\)`, `\\[…\\]`, `$$…$$` and the environments."""
    return _MATH.finditer(text)


def is_formula(text: str) -> bool:
    """Whether a text is one formula and nothing else."""
    match = _MATH.fullmatch(text.strip())
    return match is not None


def inside(formula: str) -> str:
    """A formula without its delimiters."""
    formula = formula.strip()
    if formula.startswith("\\begin"):
        return formula[formula.index("}") + 1 : formula.rindex("\\end")].strip()
    width = 2 if formula[:2] in ("$$", "\\[", "\\(") else 1
    return formula[width : len(formula) - width].strip()


def _stated(rest: str, rule: str) -> str | None:
    """The answer that the text behind a cue states; None where it states none."""
    stated = rest.lstrip(" \t:：*_`=＝")
    if not stated.strip():
        return None
    if stated[0] in "\r\n":
        stated = re.sub(r"^(?:[ \t]*(?:[-•>][ \t]+|[*_]{1,3}(?=\S))?\r?\n?)+", "", stated).lstrip()
        if not stated or stated.startswith("#"):
            return None
    listed = _listed(stated)
    if listed:
        return listed
    contrast = _CONTRAST.match(stated)
    if contrast:
        stated = contrast[1]
    end = _end(stated)
    if stated[end : end + 1] == "?":
        return None
    sentence = stated[:end].strip().strip("\"'“”„«»「」")
    hedge = words.HEDGE.match(sentence)
    bare = sentence[hedge.end() :] if hedge else sentence
    if number(sentence) is None and len(bare) > 1 and _NOT_AN_ANSWER.match(bare):
        return None
    spoken = len(_LETTERS.findall(_MATH.sub(" ", sentence)))
    if spoken > (6 if rule == LINE else 4) and not any(char.isdigit() for char in sentence) and number(sentence) is None:
        return None
    return sentence or None


def _section(rest: str) -> str | None:
    """The answer in the first lines below a heading as `Final Answer`, where these are sentences: the first formula or number."""
    paragraphs = [part for part in rest.split("\n") if part.strip()][:_LINES]
    text = "\n".join(paragraphs)
    formula = next((match for match in _MATH.finditer(text) if _worth(inside(match.group()))), None)
    figure = _FIGURE.search(_MATH.sub(lambda match: " " * len(match.group()), text))
    if formula is not None and (figure is None or formula.start() < figure.start()):
        return inside(formula.group()).rstrip(".,;")
    return figure.group() if figure is not None else None


def _worth(formula: str) -> bool:
    return any(char.isdigit() for char in formula) or "\\" in formula


def _end(passage: str) -> int:
    """Where the first sentence of a passage ends: at the first end mark outside of brackets and formulas."""
    spans = [match.span() for match in _MATH.finditer(passage[:2500])]
    for match in _SENTENCE_END.finditer(passage):
        position = match.start()
        if position and not any(start < position < end for start, end in spans):
            before = passage[:position]
            if match.group() == "." and _ABBREVIATION.search(before):
                continue
            if (
                before.count("(") + before.count("（") + before.count("[") + before.count("{")
                <= (before.count(")") + before.count("）") + before.count("]") + before.count("}"))
                or match.group().strip(" \t") == "\n"
                or match.group() == "."
            ):
                return position
    return len(passage)


def _listed(passage: str) -> str | None:
    """The formulas that a passage begins with, one or several with commas, `and` or `or` between them; None where it begins with
    none."""
    parts, position = [], 0
    while formula := _MATH.match(passage, position):
        parts.append(inside(formula.group()))
        position = formula.end()
        separator = _LIST.match(passage, position)
        if separator is None or not _MATH.match(passage, separator.end()):
            break
        position = separator.end()
    if not parts or (len(parts) == 1 and not parts[0]):
        return None
    return ", ".join(part.strip().rstrip(".,;") for part in parts)


def _bears(answer: str) -> bool:
    """Whether an answer holds a number, a formula or a number word."""
    return any(char.isdigit() for char in answer) or _SYMBOL.search(answer) is not None or number(answer) is not None
