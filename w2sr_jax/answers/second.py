"""A second opinion on verdicts whose gold is a number, by cheap rules of its own.

It shares no code with the rules that grade (`answers.extract`, `answers.numbers`, `answers.grade`): verdicts on which both agree
are surer, and where they differ one of them is wrong. It reads few spellings and has no opinion on the others.
"""

import re
from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

from w2sr_jax.answers.second_value import LONGEST, NUMBER, Reading, Value, equal, goes_on, one_number, plain, spelling, statement
from w2sr_jax.core import thinking

TEXT = 100_000  # characters from the end of a text that are read
MARKS = 100  # statements from the end of a text that are read
_SENTENCE = 160  # characters of a sentence that states an answer
_LINE = 400  # characters of a sentence in which the last number stands
_NEAR = 60  # characters between two boxes of one answer


class Opinion(NamedTuple):
    """`verdict` is None where there is no opinion; `answer` is the text that was read as the answer, None where there is none."""

    verdict: Literal["correct", "incorrect"] | None
    answer: str | None


def second_opinion(text: str, gold: str | None) -> Opinion:
    """Whether the number that a text states last equals gold exactly; a percentage equals its number and its value.

    A number is stated after `####`, in a box, in an `<answer>` tag, or after a word for *answer*; otherwise the last number
    counts. Thoughts are not read, nor what follows the label of a next question. There is no opinion where gold is no number,
    where nothing is stated, and where the statement is more than a number or ambiguous (`9\\pi`, `3,5`, a list, another unit, a
    sentence with several numbers, two answers with a question between them).
    """
    value = _gold(gold)
    if value is None:
        return Opinion(None, None)
    own = _one_turn(plain(thinking.read(text).outside[-TEXT:]))
    reading = Reading(None, None) if own is None else _stated(own)
    if reading.value is None:
        return Opinion(None, reading.spelling)
    same = equal(reading.value, value)
    return Opinion(None if same is None else "correct" if same else "incorrect", reading.spelling)


_CUES = (
    "answer|antwort|réponse|reponse|respuesta|resposta|risposta|antwoord|ответ|відповідь|odpowiedź|cevap|yanıt|jawaban|svaret"
    "|vastaus|đáp án|đáp số|答案|答え|正解|解答|答|정답|답|الجواب|الإجابة|उत्तर|คำตอบ"
)
_MARK = re.compile(
    r"(?P<hashes>\#{4,6})|(?P<box>\\(?:boxed|fbox)\s?\{)|(?P<tag><(?:final_)?answer>)"
    rf"|(?P<cue>(?<![^\W\d_])(?:{_CUES})|^\s{{0,4}}A(?=:))",
    re.I | re.M,
)
_NEXT = re.compile(
    r"\n[\s#*]{0,6}(?:question|problem|user|human|q|instruction|问题|題目|题目)[ \t]?[0-9]{0,4}\*{0,2}[ \t]?:", re.I
)
_INTRODUCED = re.compile(r"[^\n:.!?0-9]{0,60}:[ *_]{0,6}\s{0,8}(?:\$\$?|\\\[|\\\()?\s{0,8}")
_SENTENCE_END = re.compile(r"\n|[.!?;](?=\s|\Z|[*$])|。|</|,\s(?=[a-z])")
_DENIED = re.compile(r"\b(?:not|if|from|out of|nicht|pas|no es|não|не)\b|n't\b|不是", re.I)
_END = re.compile(r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|end)\|>|</s>|<(?:end_of_turn|start_of_turn|eos)>")
_WITHDRAWN = re.compile(r"[^.\n]{0,60}\b(?:wrong|incorrect|mistake|impossible)\b", re.I)
_SUPPOSED = re.compile(r"\b(?:wrong|incorrect|if|whether|guess|suppose|think|thought)\b[^.!?\n]*\Z", re.I)
_TURNED = re.compile(
    r"\b(?:negative|minus|than|not|be|of|half|twice|times|over|under|by)\s+\Z", re.I
)  # `minus 42`: 42 is not the value
_HEADING = re.compile(r"[0-9]{1,2}[.)]\s")
_INSIDE = re.compile(r"(?:\^|_|\\[a-z]{1,12}\s?|√)\{?\s?-?\Z|\{\s?-?\Z")
_SYMBOLS = re.compile(r"[\\^_]|[0-9][A-Za-z](?![A-Za-z])|(?<![A-Za-z'’])[b-zB-Z]\s?[-+*/]")
_OUTER = " \t\r*_$"


def _gold(gold: str | None) -> Value | None:
    gold = (gold or "").rpartition("####")[2]
    if len(gold) <= LONGEST or "\\boxed" in gold:
        gold = plain(gold[-TEXT:])
        boxes = [match for match in _MARK.finditer(gold) if match["box"]]
        content = _braced(gold, boxes[-1].end()) if boxes else gold
        return one_number(content).value if content else None
    return None


def _one_turn(text: str) -> str | None:
    """The text up to the end of the turn and, where it states something, up to the label of a next question; None where a next
    question follows numbers of which none is stated."""
    end = next((match for match in _END.finditer(text) if text[: match.start()].strip()), None)
    text = text[: end.start()] if end else text
    first = _MARK.search(text)
    following = _NEXT.search(text)
    if following is None or not any(char.isdigit() for char in text[: following.start()]):
        return text
    if first is None or first.start() > following.start():
        return None
    return text[: following.start()]


def _stated(text: str) -> Reading:
    """The number that a text states last, or else its last number."""
    marks = list(_MARK.finditer(text))[-MARKS:]
    for before, mark in reversed(list(zip([None, *marks], marks))):
        if before is not None and _two_boxes(text, before, mark):
            return Reading(None, None)
        stated = _after(text, mark)
        if stated is not None:
            return Reading(None, stated.spelling) if _asked_again(text, mark, marks, stated) else stated
    last = _last(text)
    if last is None:
        return Reading(None, None)
    far = max(0, last.start() - _LINE)
    start = max((end.end() for end in _SENTENCE_END.finditer(text, far, last.start())), default=far)
    heading = text[text.rfind("\n", 0, last.start()) + 1 : last.start()].lstrip().startswith("#")
    stated = _in_sentence(text[start : last.end() + _NEAR], last.start() - start)
    return Reading(None, spelling(last)) if heading or _WITHDRAWN.match(text, last.end()) else stated


def _last(text: str) -> re.Match[str] | None:
    for start in (max(0, len(text) - 1000), 0):
        last = deque(NUMBER.finditer(text, start), maxlen=1)
        if last:
            return last[0]
    return None


def _asked_again(text: str, mark: re.Match[str], marks: Sequence[re.Match[str]], stated: Reading) -> bool:
    """Whether an earlier mark of the same kind states another number, with a question or an empty box in between: the text may
    have gone on to a problem of its own."""
    kind = mark.lastgroup
    earlier = (one for one in marks if one.lastgroup == kind and kind != "cue" and one.start() < mark.start())
    for one in earlier:
        other = _after(text, one)
        between = text[one.end() : mark.start()]
        if other is not None and other.value != stated.value and ("?" in between or "\\boxed{}" in between):
            return True
    return False


def _after(text: str, mark: re.Match[str]) -> Reading | None:
    """The number that a mark introduces; None where it introduces nothing."""
    if mark["cue"] is not None:
        return _sentence(text, mark)
    if mark["box"]:
        content = _braced(text, mark.end())
        return Reading(None, None) if content is None else one_number(content) if content.strip() else None
    rest = text[mark.end() : mark.end() + LONGEST]
    if mark["tag"]:
        content = rest.partition("</")[0]
        return one_number(content) if content.strip() else None
    line, _, after = rest.partition("\n")
    line = line.strip(_OUTER)
    heading = line[:1].isalpha() or (_HEADING.match(line) and after.strip())
    return one_number(line) if line and not heading else None


def _braced(text: str, start: int) -> str | None:
    """The text between a brace that ends at `start` and the one that closes it; None where that is missing or far away."""
    depth = 1
    for index in range(start, min(len(text), start + LONGEST)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if not depth:
            return text[start:index]
    return None


def _two_boxes(text: str, one: re.Match[str], other: re.Match[str]) -> bool:
    """Whether two marks are neighbouring boxes of one line with different contents: parts of one answer, or an open choice."""
    if not (one["box"] and other["box"]) or other.start() - one.end() > _NEAR or "\n" in text[one.end() : other.start()]:
        return False
    return _braced(text, one.end()) != _braced(text, other.end())


def _sentence(text: str, mark: re.Match[str]) -> Reading | None:
    """The number in the sentence behind a word for *answer*; None where there is none, or it is denied or only supposed."""
    if _SUPPOSED.search(text, max(0, mark.start() - 40), mark.start()):
        return None
    rest = text[mark.end() : mark.end() + _SENTENCE]
    introduced = _INTRODUCED.match(rest)
    rest = rest[introduced.end() :] if introduced else rest
    end = _SENTENCE_END.search(rest)
    sentence = rest[: end.start()] if end else rest
    numbers = list(NUMBER.finditer(sentence))
    if not numbers or _DENIED.search(sentence, 0, numbers[0].start()) or _WITHDRAWN.match(rest, numbers[-1].end()):
        return None
    return _in_sentence(sentence, numbers[-1].start())


def _in_sentence(sentence: str, start: int) -> Reading:
    """The number that begins at `start`, if it is the first of its sentence or follows an `=`; without value where it is
    unclear."""
    numbers = [match for match in NUMBER.finditer(sentence) if match.start() <= start]
    if not numbers:
        return Reading(None, None)
    last = numbers[-1]
    before = sentence[: last.start()].rstrip(" $")
    if len(numbers) > 1 and (not before.endswith("=") or _SYMBOLS.search(before)):
        return Reading(None, None)
    value, stop = statement(sentence, last)
    unclear = (
        _INSIDE.search(sentence, 0, last.start())
        or before.endswith(("+", "*", "/", "^", "×", "·"))
        or _TURNED.search(sentence, 0, last.start())
        or goes_on(sentence, stop)
    )
    return Reading(None if unclear else value, spelling(last))
