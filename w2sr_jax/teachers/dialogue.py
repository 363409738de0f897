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
    """Who speaks (`system`, `user`, `assistant` or `tool`), the text, and a note on what was done with its reasoning, if any."""

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


def turns_or_text(value: Any, field: str, role: str) -> list[Turn]:
    """The turns in a field that holds messages or a text; a text is one turn of `role`. Raises Unusable."""
    return [Turn(role, value)] if isinstance(value, str) else turns(value, field)


def exchange(dialogue: Sequence[Turn]) -> tuple[str, str]:
    """The question and the trace of a dialogue in which, system turns aside, the user and then the assistant speak. Raises
    Unusable."""
    question = only_question(dialogue)
    answers = [turn.text for turn in dialogue if turn.role == "assistant"]
    if not answers:
        raise Unusable("it has no assistant's turn")
    if [turn.role for turn in dialogue if turn.role != "system"] != ["user", "assistant"]:
        raise Unusable(f"it is a dialogue of {len(dialogue)} turns, not one question and one answer")
    return question, checked(answers[0], "the assistant's turn")


def only_question(dialogue: Sequence[Turn]) -> str:
    """The only question in a dialogue. Raises Unusable."""
    if any(turn.role == "tool" for turn in dialogue):
        raise Unusable("it calls tools")
    questions = [turn.text for turn in dialogue if turn.role == "user"]
    if len(questions) != 1:
        raise Unusable(f"it is a dialogue with {len(questions)} questions, not one" if questions else "it has no user's turn")
    return checked(questions[0], "the user's turn")


def with_reasoning(reasoning: str, name: str, text: str) -> str:
    """A text behind its reasoning, which the field `name` holds, as `<think>…</think>`; a text that contains it already stays as
    it is. Raises Unusable where one of the two has other thoughts between marks."""
    if not reasoning.strip() or thoughts.contains(reasoning, text):
        return text
    for one in (text, thoughts.unmarked(reasoning)):
        if thinking.marked(one):
            what = f"its end, {thoughts.CLOSED}," if thinking.read(one).closed else "a mark of thinking"
            raise Unusable(f"field {name!r} holds reasoning, but {what} stands in the text already")
    return thoughts.joined(checked(reasoning, f"field {name!r}"), text)


def note(what: str, joined: bool) -> str:
    """A note on what was done with reasoning in `what`: joined to the trace, or left out."""
    done = "put in front of the trace as its reasoning" if joined else "left out, since the trace holds it already"
    return f"{what} {done}"


def checked(text: str, what: str) -> str:
    """Text without space around it. Raises Unusable where nothing is left, and for half a surrogate pair."""
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
    speaker = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if speaker is None:
        raise Unusable(f"{what} has the role {sentences.value(role, 40)}, which is neither system, user nor assistant")
    if message.get("tool_calls") or message.get("function_call"):
        return Turn("tool", "")
    content = _content(message.get("content", message.get("value")), what)
    if speaker != "assistant":
        return Turn(speaker, content.answer)
    fields = [name for name in thoughts.FIELDS if message.get(name) and not isinstance(message[name], bool | int | float)]
    reasoning = thoughts.of_fields(message, [content.thought])
    if fields and not reasoning and any(not isinstance(message[name], str | list) for name in fields):
        raise Unusable(f"field {fields[0]!r} is not text")
    if reasoning and not content.answer.strip():
        raise Unusable("the assistant's turn is empty but for its reasoning")
    name = next(iter(fields), "content")
    text = with_reasoning(reasoning, name, content.answer)
    return Turn(speaker, text, note(f"field {name!r} of messages", text != content.answer) if reasoning else "")


def _content(value: Any, what: str) -> thoughts.Parts:
    """A message's content, which may be a list of parts. Raises Unusable for parts that are no text."""
    content = thoughts.parts(value)
    if content is None and not isinstance(value, list):
        raise Unusable(f"{what} holds {type(value).__name__}, not text")
    if content is None or content.other:
        raise Unusable(f"{what} holds an image or another part that is not text")
    return content
