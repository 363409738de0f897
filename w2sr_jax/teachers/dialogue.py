"""Lists of messages: one question and one trace out of a dialogue of one exchange, or the reason why there is none."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from w2sr_jax import sentences
from w2sr_jax.problems.rows import Unusable

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
_REASONING = ("reasoning_content", "reasoning", "thinking")
_CLOSED = "</think>"


class Turn(NamedTuple):
    """Who speaks (`system`, `user`, `assistant` or `tool`), and what."""

    role: str
    text: str


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


def reasoned(values: Mapping[str, Any], text: str) -> str:
    """A text behind the reasoning that is kept in a field beside it, as `<think>…</think>`. Raises Unusable."""
    name = next((name for name in _REASONING if values.get(name) and not isinstance(values[name], bool | int | float)), None)
    if name is None:
        return text
    if not isinstance(values[name], str):
        raise Unusable(f"field {name!r} is not text")
    reasoning = values[name].strip()
    if not reasoning or reasoning in text:
        return text
    if _CLOSED in text or _CLOSED in reasoning:
        raise Unusable(f"field {name!r} holds reasoning, but its end, {_CLOSED}, stands in the text already")
    return f"<think>\n{sound(reasoning, f'field {name!r}')}\n{_CLOSED}\n\n{text.strip()}"


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
    text = _content(message.get("content", message.get("value")), what)
    if known != "assistant" or not text.strip():
        return Turn(known, text)
    return Turn(known, reasoned(message, text))


def _content(value: Any, what: str) -> str:
    """The text of a message, also in parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise Unusable(f"{what} holds {type(value).__name__}, not text")
    texts = []
    for part in value:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if kind != "text" or not isinstance(text, str):
            raise Unusable(f"{what} holds an image or another part that is not text")
        texts.append(text)
    return "".join(texts)
