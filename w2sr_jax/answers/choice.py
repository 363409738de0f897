"""Multiple choice: the letter that a text settles on, and whether it is the right one."""

import dataclasses
import re
import string
from collections.abc import Sequence
from typing import NamedTuple

from w2sr_jax.answers.equal import grade_one
from w2sr_jax.answers.extract import tidy
from w2sr_jax.answers.reading import scope
from w2sr_jax.answers.reading.boxes import filled
from w2sr_jax.answers.values.characters import UPRIGHT
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Verdict

LETTERS = string.ascii_uppercase
UNKNOWN = 10  # letters that may be meant where a problem does not say how many options it has

_HASHES = re.compile(r"####+[ \t]*([^\n]*)")
_TAG = re.compile(r"<(answer|final_answer|final|choice)>(.{0,2000}?)(?:</\1>|$)", re.I | re.S)
_SAID = re.compile(  # all of the line that follows counts, and what is said again in it
    r"(?:\b(?:(?:answer|choice|option)\b[^.\n:=]{0,60}?\b(?:is|be|are)\b[ \t]*:?|(?:answer|choice)\b[ \t*_]*[:=]"
    r"|I(?:'ll| will| would)?[ \t]+(?:choose|pick|select|go with)\b[ \t]*:?|my[ \t]+choice\b[ \t]+(?:is|would be)\b"
    r"|(?:antwort|lösung|option)\b[^.\n:=]{0,40}?\b(?:ist|lautet|wäre)\b|(?:antwort|lösung)\b[ \t*_]*:|\brichtig\b[ \t]+ist\b"
    r"|(?:réponse|option)\b[^.\n:=]{0,40}?\best\b|réponse(?:[ \t]+correcte)?[ \t*_]*:|(?:respuesta|opción)\b[^.\n:=]{0,40}?\bes\b"
    r"|respuesta(?:[ \t]+correcta)?[ \t*_]*:"
    r"|(?:resposta|alternativa|opção)\b[^.\n:=]{0,40}?\bé(?!\w)|(?:resposta|alternativa|opção)(?:[ \t]+corret[ao])?[ \t*_]*:"
    r"|(?:risposta|opzione)\b[^.\n:=]{0,40}?\bè(?!\w)|risposta\b[ \t*_]*:|antwoord\b[^.\n:=]{0,40}?(?:\bis\b|:)"
    r"|ответ\b[^.\n:=]{0,30}?(?:[:—–-]|\bбудет\b)"
    r"|правильный[ \t]+(?:ответ|вариант(?:[ \t]+ответа)?)\b[ \t]*(?:[:—–-]|\bэто\b)?"
    r"|odpowiedź\b[ \t*_]*(?::|\bto\b)"
    r"|jawaban(?:nya)?\b[^.\n:=]{0,30}?(?:\badalah\b|:))"
    r"|đáp[ \t]+án\b[^.\n:=]{0,30}?(?:\blà\b|:)"
    r"|(?:正确)?(?:答案|选项|選項)(?:应该|應該|应当)?(?:是|为|為|[:：])"
    r"|故?(?:本题)?(?:选|選)(?:择|擇)?[:：]?"
    r"|(?:答え|正解|解答)(?:は|[:：])"
    r"|(?:정답|답)(?:은|는|[:：])|(?:الجواب|الإجابة)[^.\n]{0,20}?(?:هو|هي|:)|उत्तर[^\n]{0,10}?(?=[A-Z(]))"
    r"[ \t*_:：]*\n?[ \t]*"
    r"(?:(?:die|der|das|la|le|l['’]|a|o|il|the)[ \t]*(?=(?:opt|opc|opç|let|alt|buch|wah|antw|resp|rép|ant|[(\[]?[A-Z]\b)))?"
    r"(?:(?:option|opción|opção|letra|lettre|lettera|letter|alternativa|choix|buchstabe|antwort|вариант)\b"
    r"[ \t:]*(?=[(\[*]*[A-Z]\b))?"
    r"(?=([^\n]*))",
    re.I,
)
_NOT_BUT = re.compile(  # "not A; it is C" settles on C
    r"^[*_ \t]*(?:definitely[ ]|certainly[ ])?not\b[^\n]{1,60}?(?:[;,.][ \t]*|[ ](?=but\b))"
    r"(?:but[ ]+)?(?:it(?:'s| is)|rather)?[ \t:]*(?=[(\[\"'“*]*[A-Z]\b)",
    re.I,
)
_CALLED = re.compile(
    r"(?:\b(?:option|choice|answer)[ \t]+)?[*_(\[]{0,4}\b([A-Z])\b[*_)\].]{0,4}[ \t]+(?:is|would be|must be)[ \t]+"
    r"(?:(?:therefore|thus|clearly)[ \t]+)?(?:the[ \t]+)?(?:best[ \t]+|only[ \t]+)?(?:correct|right|answer|best)\b"
)
_ENDING = re.compile(
    r"\b(?:[Ss]o|[Tt]herefore|[Tt]hus|[Hh]ence|must be|it(?:'s|[ ]is)|it has to be)[ ,:]+"
    r"(?:it(?:'s|[ ]is|[ ]must be)[ ]+)?[(\[*]*([A-Z])[)\]*]*[.!]?$"
)
_BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}")
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_LABEL = re.compile(  # a letter, and what follows it where that cannot make it the article or a name
    r"(?:(?:option|choice|answer)\s+)?"
    r"(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])(?=\s*(?:[)\].:;,!。，、；！\x22'”’」\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]|$)|\s*(?:[–—-]|=)\s|\s+(?:because|since|as|so|which|with|given)\b"
    r"|\s+(?:and|or)\s+[(\[]?[A-Z]\b))",
    re.I,
)
_MORE = re.compile(r"^[\s,;/&]*(?:(?:and|or|nor)\b[\s,]*)?[(\[]?([A-Z])(?:[)\]]|(?=\s*(?:[.,;)]|$)|\s+(?:and|or)\b))")
_DENIED = re.compile(r"\bnot\b|n't\b|\b(?:neither|nor|wrong|incorrect|except|eliminate\w*|rule[sd]? out)\b", re.I)
_BRACKETS = str.maketrans("【】「」『』", "()()()")
_SPACE = re.compile(r"\s+")
_PLACES = 50  # from the end, that are read at all …
_LONGEST_PLACE = 2000  # … and characters of one


class Reading(NamedTuple):
    """The letter that a text settles on, None where it does on none or on several, and the rule that found the place."""

    letter: str | None
    rule: str


@dataclasses.dataclass(frozen=True)
class ChoiceGrader:
    """Right where the letter that a text settles on is the gold one. A problem's options, where it has them in `meta`, let an
    answer be given in their words too."""

    def __call__(self, text: str, problem: Problem) -> Verdict:
        options = problem.meta.get("options")
        options = [str(option) for option in options] if isinstance(options, list | tuple) else []
        gold = (problem.answer or "").strip().upper()
        letters = LETTERS[: len(options) or UNKNOWN]
        if len(gold) > 1 or gold not in letters:
            raise UserError(
                f"ChoiceGrader: problem {problem.id} has the gold answer {sentences.value(gold, 40)}, which is no letter of its "
                "options; say which fields hold them (Fields.choices), or use another grader"
            )
        found = read(text, options, letters)
        if not gold:
            return Verdict("ungraded", found.letter, found.rule, "none")
        if found.letter is None:
            return Verdict("unparsed", None, found.rule, "none")
        return Verdict("correct" if found.letter == gold else "incorrect", found.letter, found.rule, "choice")


def read(text: str, options: Sequence[str], letters: str) -> Reading:
    """The letter that a text settles on.

    Thoughts and what follows the answer's end are not read (`answers.reading.scope.said`). Rules in order, each taking its last
    occurrence that says anything: `tag` (`<answer>C</answer>`), `####` (no heading, as `#### B. Discussion`), `boxed` (the last
    box), `answer` (`Answer: C`, `the answer is (C) Paris`, `C is correct`, in some fifteen languages), `last_line` (nothing but
    a letter or an option's words; or one bracketed letter, or one option's words, in a line that denies nothing). Where the
    place of a rule names two letters, or a letter and the words of another option, no later rule is asked: the text is
    ambiguous. Only the last 30,000 characters are looked at.
    """
    text = scope.said(text).translate(_BRACKETS)
    for rule, places in (
        ("tag", _tagged(text)),
        ("####", _after_hashes(text, options)),
        ("boxed", _boxed(text)),
        ("answer", _said(text, letters)),
    ):
        for place in places[:_PLACES]:
            meant = _meant(_affirmed(place), options, letters)
            if meant:
                return _reading(meant, rule)
    ending = _ENDING.search(text.rstrip()[-_LONGEST_PLACE:])
    if ending is not None and ending[1] in letters:
        return Reading(ending[1], "last_line")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")[-_LONGEST_PLACE:]
    return _reading(_meant(last, options, letters, alone=True) or _mentioned(last, options, letters), "last_line")


def _reading(meant: set[str], rule: str) -> Reading:
    return Reading(next(iter(meant)) if len(meant) == 1 else None, rule if meant else "none")


def _tagged(text: str) -> list[str]:
    return [match[2].strip() for match in _TAG.finditer(text)][::-1] if "<" in text else []


def _after_hashes(text: str, options: Sequence[str]) -> list[str]:
    """What stands after `####`, but for headings: a letter before words that no option has, with text after them."""
    places = []
    for match in _HASHES.finditer(text):
        label = _LABEL.match(_bare(match[1]))
        rest = _bare(_bare(match[1])[label.end() :].lstrip(" ).:")) if label else ""
        if rest and text[match.end() :].strip() and not any(_spelling(option) in _spelling(rest) for option in options if option):
            continue
        places.append(match[1])
    return places[::-1]


def _affirmed(place: str) -> str:
    """The place from where it says what the answer is, where it says first what it is not."""
    match = _NOT_BUT.match(place)
    return place[match.end() :] if match else place


def _boxed(text: str) -> list[str]:
    """What is in the last box, with what is in boxes on the same line: those give one answer, or contradict each other."""
    found = filled(text)
    if not found:
        return []
    line = text.rfind("\n", 0, found[-1].start) + 1
    together = [box.content for box in found if box.start >= line]
    return [", ".join(dict.fromkeys(together))]


def _said(text: str, letters: str) -> list[str]:
    said = [(match.start(1), match[1]) for match in _SAID.finditer(text)]
    called = [(match.start(), match[1]) for match in _CALLED.finditer(text) if match[1] in letters]
    return [place for _, place in sorted(said + called, reverse=True)]


def _meant(place: str, options: Sequence[str], letters: str, alone: bool = False) -> set[str]:
    """The letters that a place means: none, one or, where it is ambiguous, several. `alone`: nothing else may be in it."""
    place = _bare(place[:_LONGEST_PLACE])
    label = _LABEL.match(place)
    letter = (label[1] or label[2]).upper() if label else ""
    if label is None or letter not in letters:
        first = "" if alone else tidy(re.split(r"(?<=[.!?])\s", place, maxsplit=1)[0])
        return _worded(place, options, letters) or _worded(first, options, letters)
    rest = place[label.end() :]
    if label[2] is not None and label[2].islower() and rest[:1] not in ("", ")", "]", ":", "."):
        return _worded(place, options, letters)  # the article
    meant = {letter}
    while more := _MORE.match(rest):
        meant |= {more[1]} & set(letters)
        rest = rest[more.end() :]
    rest = _bare(rest.lstrip(" ).:;,–—-]="))
    worded = _worded(rest, options, letters)
    if rest and not worded:
        # The label may be the beginning of an option's own words; or, in a line alone, of something else.
        worded = _worded(place, options, letters)
        return worded or (set() if alone else meant)
    return meant | worded


def _mentioned(line: str, options: Sequence[str], letters: str) -> set[str]:
    """Letters in brackets in a line or else, of options whose words are in it, those that are not part of another's."""
    if _DENIED.search(line):
        return set()
    bracketed = {match[1] for match in _BRACKETED.finditer(line) if match[1] in letters}
    if bracketed:
        return bracketed
    line = _spelling(line)
    there = {letter: words for letter, option in zip(letters, options) if _within(words := _spelling(option), line)}
    return {
        a
        for a, words in there.items()
        if not any(a != b and words != other and _within(words, other) for b, other in there.items())
    }


def _within(words: str, line: str) -> bool:
    return bool(words) and re.search(rf"(?<!\w)(?<!\d[.,])(?<![-−]){re.escape(words)}(?!\w|[.,]\d)", line) is not None


def _worded(place: str, options: Sequence[str], letters: str) -> set[str]:
    """The options that a place spells out, numbers compared as numbers."""
    return {letter for letter, option in zip(letters, options) if place and grade_one(place, _bare(option)) is True}


def _bare(text: str) -> str:
    """Without delimiters, emphasis, LaTeX's text commands and a closing full stop."""
    previous = None
    text = text.strip()
    while text != previous:
        previous = text
        text = tidy(_BOXED.sub(r"\1", UPRIGHT.sub(r"\1", text))).strip()
        text = text.replace("**", "").replace("__", "").strip("\"'“”„«»「」『』‘’")
    return _SPACE.sub(" ", text)


def _spelling(text: str) -> str:
    return _bare(text).casefold()
