"""The text that a chat template writes around a question, learnt once from the template itself.

The template is run on a few made-up questions, in a process of its own (`text.template`). Prompts are then composed of the text
that it wrote around these, so that no template ever runs on a question of the data. Templates that do more to a question than
trim its ends are refused.
"""

import dataclasses
import functools
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, sentences, thinking
from w2sr_jax.core.errors import UserError
from w2sr_jax.text import template as program

PATIENCE = 60.0
"""Seconds on the clock that the process of a template may take, including its start on a busy machine."""

_QUESTION, _ANSWER = "Qw2srQuestionQ", "Aw2srAnswerA"
_WEIRD = (
    "{{ 7 * 7 }} {% raw %} <b>&amp;</b> 'it's' \"said\" \\boxed{1} \\n\n\n\té 好 🙂 \u202e</think> /no_think <tool_call> [INST] "
    "#### 5 %s {0}"
)


@dataclasses.dataclass(frozen=True)
class Turn:
    """The parts of a prompt: `before`, the user's text, and `after`, which ends where the response begins. `left` and `right` are
    whether whitespace is trimmed at that end of the user's text."""

    before: str
    after: str
    left: bool
    right: bool

    def text(self, asked: str) -> str:
        """The user's text as the template writes it."""
        asked = asked.lstrip() if self.left else asked
        return asked.rstrip() if self.right else asked

    @functools.cached_property
    def response_prefix(self) -> str:
        """The beginning of the response that the prompt ends with: an opened `<think>`, or a closed one; "" where it ends with
        neither."""
        tail = self.after.rstrip()
        for start in [*thinking.OPENING.finditer(tail)][-1:]:
            if tail[start.end() :].strip().casefold() in ("", thinking.closing(start.group()).casefold()):
                return self.after[start.start() :]
        ends = [end for end in thinking.CLOSING.finditer(tail) if end.end() == len(tail)]
        return self.after[ends[-1].start() :] if ends else ""

    def without_prefix(self, response: str) -> str:
        """The response without the beginning that the prompt has already, so that no `<think>` is written twice."""
        begun = self.response_prefix
        match = re.match(r"\s*" + r"\s*".join(map(re.escape, _pieces(begun))), response, re.I) if begun else None
        if match is None:
            return response
        rest, space = response[match.end() :], begun[len(begun.rstrip()) :]
        return rest[shared(rest, space) :]


@dataclasses.dataclass(frozen=True)
class Chat:
    """A template's turns by style, and the text that it writes after an assistant's words ("" where it renders no assistant)."""

    turns: Mapping[str, Turn]
    ending: str


def opens(begun: str) -> bool:
    """Whether a response prefix is an opened thought, which the response must close."""
    return thinking.OPENING.fullmatch(begun.strip()) is not None


def shared(a: str, b: str) -> int:
    """The length of the longest common beginning of two texts."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def learn(template: str, variables: Mapping[str, str], system: str | None, thinking: bool) -> Chat:
    """The turns of `template`. `variables` are the special tokens by name. Raises UserError with the second half of a sentence
    that says what is wrong with the template."""
    return _learn(template, files.canonical_json(dict(variables)), system, thinking)


@functools.lru_cache(maxsize=16)
def _learn(template: str, variables: str, system: str | None, thinking: bool) -> Chat:
    first = [{"role": "system", "content": system}] if system is not None else []

    def request(content: str, style: str, prompt: bool = True) -> dict[str, Any]:
        messages = [*first, {"role": "user", "content": content}]
        return {
            "messages": messages,
            "add_generation_prompt": prompt,
            "enable_thinking": thinking and style == "reason",
        }

    weird = f"{_QUESTION}{_WEIRD}{_QUESTION}"
    contents = [_QUESTION, f" \n{_QUESTION}\t \n", weird]
    requests = [request(content, style) for style in ("reason", "direct") for content in contents]
    answered = request(_QUESTION, "reason", False)
    spoken = {**answered, "messages": [*answered["messages"], {"role": "assistant", "content": _ANSWER}]}
    *prompts, bare, spoke = _run(template, variables, [*requests, answered, spoken])
    turns = {style: _turn(weird, *prompts[3 * i : 3 * i + 3]) for i, style in enumerate(("reason", "direct"))}
    dialogue = spoke.get("text", "")
    _check_generation(prompts[0]["text"], bare.get("text"), dialogue)
    return Chat(turns, dialogue.rpartition(_ANSWER)[2] if _ANSWER in dialogue else "")


def _turn(weird: str, plain: dict[str, str], spaced: dict[str, str], odd: dict[str, str]) -> Turn:
    for outcome in (plain, spaced, odd):
        if "error" in outcome:
            raise UserError(f"raises “{sentences.shown(outcome['error'], 300)}”")
    parts = plain["text"].split(_QUESTION)
    if len(parts) != 2:
        how = "drops or changes the question" if len(parts) == 1 else f"writes the question {len(parts) - 1} times"
        raise UserError(how)
    before, after = parts
    for left in (False, True):
        for right in (False, True):
            turn = Turn(before, after, left, right)
            if before + turn.text(f" \n{_QUESTION}\t \n") + after == spaced["text"]:
                if before + turn.text(weird) + after != odd["text"]:
                    raise UserError("drops or changes the question: what it writes depends on the question's words")
                return turn
    raise UserError("drops or changes the question: it does more to whitespace than trimming it")


def _check_generation(prompt: str, bare: str | None, dialogue: str) -> None:
    """Raises UserError where a template begins an assistant's turn with words that a prompt does not end with: training texts
    would not have the form that the model knows. Marks of a thought do not count, since prompts may open and close one."""
    if _ANSWER not in dialogue:
        return
    wanted = _wordless(prompt.rpartition(_QUESTION)[2])
    written = _wordless(dialogue.partition(_ANSWER)[0].rpartition(_QUESTION)[2])
    own = written[shared(written, wanted) :]
    if not own:
        return
    if prompt == bare:
        raise UserError(
            f"has no generation prompt: it begins an assistant's turn with {sentences.value(own)} but does not write that when "
            f"add_generation_prompt is set"
        )
    raise UserError(
        f"begins an assistant's turn with {sentences.value(own)} behind its generation prompt, which a prompt here would not "
        f"have; write it there too when add_generation_prompt is set, or take a template that does"
    )


def _wordless(text: str) -> str:
    """The text without whitespace and without marks of thoughts, empty ones included."""
    bare = "".join(text.split())
    for opening, closing in thinking.PAIRS:
        bare = re.sub(re.escape(f"{opening}{closing}"), "", bare, flags=re.I)
    return thinking.CLOSING.sub("", thinking.OPENING.sub("", bare))


def _pieces(begun: str) -> list[str]:
    """The marks of a response prefix, between which there may be any whitespace."""
    marks = [mark.group() for mark in thinking.OPENING.finditer(begun)][:1]
    rest = begun.strip()[len(marks[0]) :].strip() if marks else begun.strip()
    return [*marks, *([rest] if rest else [])]


def _run(template: str, variables: str, requests: list[dict[str, Any]]) -> list[dict[str, str]]:
    job = json.dumps({"template": template, "variables": json.loads(variables), "requests": requests})
    try:
        done = subprocess.run(
            [sys.executable, "-P", str(Path(program.__file__))], input=job.encode(), capture_output=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"does not end within {PATIENCE:.0f} seconds") from None
    if done.returncode < 0:
        raise UserError(f"does not end within {program.SECONDS} seconds of processor time")
    if done.returncode > 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UserError(f"cannot be run: {sentences.shown(last)}")
    outcomes: list[dict[str, str]] = json.loads(done.stdout)
    return outcomes
