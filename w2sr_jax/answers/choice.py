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
_STATED = re.compile(  # the rest of its line counts, and what that states again
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
_MOST_PASSAGES = 50  # from the end, that are read at all …
_LONGEST_PASSAGE = 2000  # … and characters of one


class Reading(NamedTuple):
    """The letter that a text settles on, None where that is none or several, and the rule that read it."""

    letter: str | None
    rule: str


@dataclasses.dataclass(frozen=True)
class ChoiceGrader:
    """Correct where the letter that a text settles on is the gold one. Where a problem has its options in `meta["options"]`, an
    answer in the words of an option counts as its letter. Raises UserError where gold is no letter of the options."""

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
        reading = read(text, options, letters)
        if not gold:
            return Verdict("ungraded", reading.letter, reading.rule, "none")
        if reading.letter is None:
            return Verdict("unparsed", None, reading.rule, "none")
        return Verdict("correct" if reading.letter == gold else "incorrect", reading.letter, reading.rule, "choice")


def read(text: str, options: Sequence[str], letters: str) -> Reading:
    """The letter that a text settles on. `letters` are those that may be meant, `options` their options, as far as they are
    known.

    Thoughts and what follows the answer's end are not read (`answers.reading.scope.answer_text`), and of the rest the last 30,000
    characters. These rules are tried in order; each reads the last passage of its kind that names a letter or an option: `tag`
    (`<answer>C</answer>`), `####` (but no heading, as `#### B. Discussion`), `boxed` (the last box), `answer` (`Answer: C`, `the
    answer is (C) Paris`, `C is correct`, in some fifteen languages), `last_line` (a last line that is a letter or an option's
    words and nothing else, or that denies nothing and holds one bracketed letter or one option's words). Where a passage names
    two letters, or a letter and the words of another option, the text is ambiguous and no later rule is tried.
    """
    text = scope.answer_text(text).translate(_BRACKETS)
    for rule, passages in (
        ("tag", _tagged(text)),
        ("####", _after_hashes(text, options)),
        ("boxed", _boxed(text)),
        ("answer", _stated(text, letters)),
    ):
        for passage in passages[:_MOST_PASSAGES]:
            meant = _meant(_affirmed(passage), options, letters)
            if meant:
                return _reading(meant, rule)
    ending = _ENDING.search(text.rstrip()[-_LONGEST_PASSAGE:])
    if ending is not None and ending[1] in letters:
        return Reading(ending[1], "last_line")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")[-_LONGEST_PASSAGE:]
    return _reading(_meant(last, options, letters, alone=True) or _mentioned(last, options, letters), "last_line")


def _reading(meant: set[str], rule: str) -> Reading:
    return Reading(next(iter(meant)) if len(meant) == 1 else None, rule if meant else "none")


def _tagged(text: str) -> list[str]:
    return [match[2].strip() for match in _TAG.finditer(text)][::-1] if "<" in text else []


def _after_hashes(text: str, options: Sequence[str]) -> list[str]:
    """The rest of each line with `####`, the last first, without headings: a letter, words of no option, and text below."""
    passages = []
    for match in _HASHES.finditer(text):
        label = _LABEL.match(_bare(match[1]))
        rest = _bare(_bare(match[1])[label.end() :].lstrip(" ).:")) if label else ""
        if rest and text[match.end() :].strip() and not any(_spelling(option) in _spelling(rest) for option in options if option):
            continue
        passages.append(match[1])
    return passages[::-1]


def _affirmed(passage: str) -> str:
    """The passage without a beginning that says what the answer is not, as in `not A; it is C`."""
    match = _NOT_BUT.match(passage)
    return passage[match.end() :] if match else passage


def _boxed(text: str) -> list[str]:
    """The contents of the last box and of the boxes on its line, which give one answer together or contradict each other."""
    all_boxes = filled(text)
    if not all_boxes:
        return []
    line = text.rfind("\n", 0, all_boxes[-1].start) + 1
    contents = [box.content for box in all_boxes if box.start >= line]
    return [", ".join(dict.fromkeys(contents))]


def _stated(text: str, letters: str) -> list[str]:
    stated = [(match.start(1), match[1]) for match in _STATED.finditer(text)]
    called = [(match.start(), match[1]) for match in _CALLED.finditer(text) if match[1] in letters]
    return [passage for _, passage in sorted(stated + called, reverse=True)]


def _meant(passage: str, options: Sequence[str], letters: str, alone: bool = False) -> set[str]:
    """The letters that a passage means: none, one, or several where it is ambiguous. `alone`: only where it holds nothing
    else."""
    passage = _bare(passage[:_LONGEST_PASSAGE])
    label = _LABEL.match(passage)
    letter = (label[1] or label[2]).upper() if label else ""
    if label is None or letter not in letters:
        first = "" if alone else tidy(re.split(r"(?<=[.!?])\s", passage, maxsplit=1)[0])
        return _worded(passage, options, letters) or _worded(first, options, letters)
    rest = passage[label.end() :]
    if label[2] is not None and label[2].islower() and rest[:1] not in ("", ")", "]", ":", "."):
        return _worded(passage, options, letters)  # the article
    meant = {letter}
    while more := _MORE.match(rest):
        meant |= {more[1]} & set(letters)
        rest = rest[more.end() :]
    rest = _bare(rest.lstrip(" ).:;,–—-]="))
    worded = _worded(rest, options, letters)
    if rest and not worded:
        # The label may be the beginning of an option's own words; or, in a line alone, of something else.
        worded = _worded(passage, options, letters)
        return worded or (set() if alone else meant)
    return meant | worded


def _mentioned(line: str, options: Sequence[str], letters: str) -> set[str]:
    """The bracketed letters of a line or, without any, the letters of the options whose words are in it; of two options of which
    one holds the other's words, the longer one. Empty for a line that denies something."""
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


def _worded(passage: str, options: Sequence[str], letters: str) -> set[str]:
    """The letters of the options that a passage spells out; numbers are compared as numbers."""
    return {letter for letter, option in zip(letters, options) if passage and grade_one(passage, _bare(option)) is True}


def _bare(text: str) -> str:
    """The text without math delimiters, emphasis, quotation marks, LaTeX's text commands and a closing full stop."""
    previous = None
    text = text.strip()
    while text != previous:
        previous = text
        text = tidy(_BOXED.sub(r"\1", UPRIGHT.sub(r"\1", text))).strip()
        text = text.replace("**", "").replace("__", "").strip("\"'“”„«»「」『』‘’")
    return _SPACE.sub(" ", text)


def _spelling(text: str) -> str:
    return _bare(text).casefold()
