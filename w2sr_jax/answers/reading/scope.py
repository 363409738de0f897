"""The part of a response that is read for its answer: not its thoughts, nor what a model goes on to write after the answer."""

import re
from itertools import chain, islice

from w2sr_jax.answers.numbers import number
from w2sr_jax.answers.reading import cues, languages
from w2sr_jax.answers.values import characters
from w2sr_jax.core import thinking, turns

LONGEST = 30_000  # characters from the end of that part that are read
_MOST = 50  # possible beginnings of another question that are tried

_END_OF_TURN = re.compile(
    "|".join(map(re.escape, (*turns.KNOWN, *turns.CLOSING)))
    + r"|<pad>|<EOT>|\[EOS\]|<\|end_of_solution\|>|<\|END_RESPONSE\|>"
    + r"|<\|user\|>|\[/?INST\]|<\|im_start\|>(?=\s*(?:user|human|system))",  # somebody else's turn begins
    re.I | re.A,
)
_HEADER = re.compile(
    r"\s*(?:<\|(?:start|im_start|start_header_id|begin_of_solution|assistant|START_RESPONSE)\|>|<\|turn>|<start_of_turn>|<s>|<bos>"
    r"|<\|channel\|>\s*(?:final|commentary)|<\|message\|>|<\|end_header_id\|>|<\|constrain\|>|\b(?:assistant|model)\b(?=\s*(?:<\||\n)))\s*",
    re.I,
)
_RUN_ON = re.compile(
    r"^[ \t]{0,12}[#>*_]{0,6}[ \t]{0,4}(?:(?:Question|Problem|Exercise|Q|Human|User|Instruction|Input|Student|Query|Task|Prompt"
    r"|Frage|Aufgabe|Pregunta|Problema|Pergunta|Вопрос|Задача|题目|问题|問題|问|例题|質問|문제|질문)"
    r"[ \t]*(?:\d{0,4}|#\d{1,4}|\(\d{1,4}\))[ \t*_]*(?:[:：](?!//)|\.(?!\w))"
    r"|(?:Below is an instruction|Solve the following|Please (?:solve|reason|answer|think|provide|put)\b|You are (?:a|an)\b"
    r"|Given the following|Answer the following|请逐步|请一步步|请解答|Next (?:question|problem)\b|Here is another)[^\n]*)",
    re.I | re.M,
)
_QUESTION = re.compile(
    r"\n[ \t]*\n(?![ \t]*(?:Wait|But|Hmm|Let|So|Now|Is|Does|Check|Right|OK|Okay|Why|What if|Can)\b)"
    r"([^\n]{40,2000}\?)[ \t]*(?=\n|$)"
)
_ANSWERED = re.compile(r"(?:\bA|Answer|Assistant|答|답)[ \t*_]*[:：]")
_WORK = re.compile(r"=\s*[$€£]?-?\d")
_MARKED = re.compile(r"####[ \t]*[-$€£]?[ \t]*[-\d]|\\boxed\s*\{\s*[^\s{}]|</answer>")
_VALUE = re.compile(r"[ \t*_$\\(]*[-\w]")


def answer_text(text: str) -> str:
    """The part of a response that is read for its answer: at most its last 30,000 characters, with ASCII digits for all others.

    Left out are thoughts (`core.thinking`; a thought that is cut off lasts to the end), everything from the first end-of-turn
    mark that has text before it, and a further question or prompt behind a stated answer, as base models write them.
    """
    text = thinking.read(text).outside if thinking.marked(text) else text
    text = text[-2 * LONGEST :]
    while header := _HEADER.match(text):
        text = text[header.end() :]
    return characters.plain(_without_run_on(_first_turn(text))[-LONGEST:])


def _first_turn(text: str) -> str:
    begin = 0
    for end in _END_OF_TURN.finditer(text):
        if text[begin : end.start()].strip():
            return text[begin : end.start()]
        begin = end.end()
    return text[begin:]


def _without_run_on(text: str) -> str:
    for match in islice(_RUN_ON.finditer(text), _MOST):
        before = text[: match.start()]
        if not before.strip():
            continue
        if _states(before) or (len(before) < 100 and number(before.strip()) is not None):
            return before
        label = match.group().lstrip(" \t#>*_")
        if label[:1] in "QqHhUu问質질" and _WORK.search(before) and _ANSWERED.search(text, match.end()):
            return before
    for match in islice(_QUESTION.finditer(text), _MOST):
        before, after = text[: match.start()], text[match.end() :]
        if any(char.isdigit() for char in match[1]) and _states(before) and _states(after):
            return before
    return text


def _states(text: str) -> bool:
    """Whether a text seems to state an answer, judged by its marks and cues alone."""
    if _MARKED.search(text):
        return True
    return any(_VALUE.match(text, cue.end()) for cue in chain(languages.cues(text), cues.labels(text)))
