"""Lists of messages: one question and one trace out of a dialogue of one exchange, or the reason why there is none."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from w2sr_jax.core import sentences, thinking
from w2sr_jax.problems.rows import Unusable
from w2sr_jax.teachers import thoughts

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "function": "tool",
    "function_call": "tool",
    "observation": "tool",
}


class Turn(NamedTuple):
    """Who speaks (`system`, `user`, `assistant` or `tool`), what, and what was done with the reasoning beside it, if any was."""

    role: str
    text: str
    note: str = ""


def turns(value: Any, field: str) -> list[Turn]:
    """The turns in a field: a list of messages, or a table's columns of them. Raises Unusable."""
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        names, columns = list(value), list(value.values())
        if len(set(map(len, columns))) > 1:
            raise Unusable(f"field {field!r} has columns of different lengths")
        value = [dict(zip(names, parts)) for parts in zip(*columns)]
    if not isinstance(value, list):
        raise Unusable(f"field {field!r} holds {type(value).__name__}, not a list of messages")
    return [_turn(message, f"message {number} of field {field!r}") for number, message in enumerate(value)]


def spoken(value: Any, field: str, role: str) -> list[Turn]:
    """The turns in a field that holds messages or a text; a text is what `role` says."""
    return [Turn(role, value)] if isinstance(value, str) else turns(value, field)


def exchange(said: Sequence[Turn]) -> tuple[str, str]:
    """The question and the trace of a dialogue in which, system turns aside, the user and then the assistant speak. Raises
    Unusable."""
    question = asked(said)
    answers = [turn.text for turn in said if turn.role == "assistant"]
    if not answers:
        raise Unusable("it has no assistant's turn")
    if [turn.role for turn in said if turn.role != "system"] != ["user", "assistant"]:
        raise Unusable(f"it is a dialogue of {len(said)} turns, not one question and one answer")
    return question, sound(answers[0], "the assistant's turn")


def asked(said: Sequence[Turn]) -> str:
    """The only question in a dialogue. Raises Unusable."""
    if any(turn.role == "tool" for turn in said):
        raise Unusable("it calls tools")
    questions = [turn.text for turn in said if turn.role == "user"]
    if len(questions) != 1:
        raise Unusable(f"it is a dialogue with {len(questions)} questions, not one" if questions else "it has no user's turn")
    return sound(questions[0], "the user's turn")


def reasoned(reasoning: str, name: str, text: str) -> str:
    """A text behind the reasoning that is kept beside it under a name, as `<think>…</think>`; a text that holds it already stays
    as it is. Raises Unusable where one of the two has other thoughts between marks."""
    if not reasoning.strip() or thoughts.held(reasoning, text):
        return text
    for one in (text, thoughts.unmarked(reasoning)):
        if thinking.marked(one):
            what = f"its end, {thoughts.CLOSED}," if thinking.read(one).closed else "a mark of thinking"
            raise Unusable(f"field {name!r} holds reasoning, but {what} stands in the text already")
    return thoughts.joined(sound(reasoning, f"field {name!r}"), text)


def noted(what: str, joined: bool) -> str:
    """What was done with reasoning beside a trace, in words."""
    done = "put in front of the trace as its reasoning" if joined else "left out, since the trace holds it already"
    return f"{what} {done}"


def sound(text: str, what: str) -> str:
    """Text without space around it. Raises Unusable where nothing is left, or where it is not made of characters."""
    stripped = text.strip()
    if not stripped:
        raise Unusable(f"{what} is empty")
    if any("\ud800" <= character <= "\udfff" for character in stripped):
        raise Unusable(f"{what} holds half a surrogate pair, which is no character")
    return stripped


def _turn(message: Any, what: str) -> Turn:
    if not isinstance(message, dict):
        raise Unusable(f"{what} holds {type(message).__name__}, not role and content")
    role = message.get("role", message.get("from"))
    known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        raise Unusable(f"{what} has the role {sentences.value(role, 40)}, which is neither system, user nor assistant")
    if message.get("tool_calls") or message.get("function_call"):
        return Turn("tool", "")
    said = _content(message.get("content", message.get("value")), what)
    if known != "assistant":
        return Turn(known, said.answer)
    fields = [name for name in thoughts.FIELDS if message.get(name) and not isinstance(message[name], bool | int | float)]
    reasoning = thoughts.of_fields(message, [said.thought])
    if fields and not reasoning and any(not isinstance(message[name], str | list) for name in fields):
        raise Unusable(f"field {fields[0]!r} is not text")
    if reasoning and not said.answer.strip():
        raise Unusable("the assistant's turn is empty but for its reasoning")
    name = next(iter(fields), "content")
    told = reasoned(reasoning, name, said.answer)
    return Turn(known, told, noted(f"field {name!r} of messages", told != said.answer) if reasoning else "")


def _content(value: Any, what: str) -> thoughts.Parts:
    """What a message says, also in parts."""
    said = thoughts.parts(value)
    if said is None and not isinstance(value, list):
        raise Unusable(f"{what} holds {type(value).__name__}, not text")
    if said is None or said.other:
        raise Unusable(f"{what} holds an image or another part that is not text")
    return said
