"""What a server answered: a text with its usage, or the reason why none can be had from it."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from w2sr_jax.records import Finish

Outcome = Literal["answered", "refused", "filtered", "empty"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)

_REASONING = ("reasoning_content", "reasoning")
_MOST_TOKENS = 2**31 - 1


class Malformed(Exception):
    """An answer that is not what the API promises."""


class Answer(NamedTuple):
    """`text` counts only where the outcome is `answered`. `refused`: the model declined; `filtered`: the server cut it off for
    its content; `empty`: there is no text. Tokens are None where the server does not say. `model` is what the server calls it."""

    text: str
    outcome: Outcome
    finish: Finish
    prompt_tokens: int | None
    completion_tokens: int | None
    mean_logprob: float | None
    model: str


def parse(raw: bytes, clean: Callable[[str], str] = str) -> Answer:
    """The first choice of a chat completion or a completion. `clean` goes over every text. Raises Malformed.

    Reasoning that a server keeps apart (`reasoning_content` or `reasoning`) is put back before the content, between `<think>`
    and `</think>`; without content it stays open, as in an answer that was cut off while it was thinking.
    """
    value = _json(raw)
    if not isinstance(value, dict):
        raise Malformed("it is no JSON object")
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("it holds no choices")
    choice = choices[0]
    message = choice.get("message", {"content": choice["text"]} if "text" in choice else None)
    if not isinstance(message, dict):
        raise Malformed("its first choice holds no message")
    text = _joined(message)
    reason = choice.get("finish_reason")
    usage = value.get("usage")
    model = value.get("model")
    return Answer(
        text=clean(_characters(text)),
        outcome=_outcome(message, reason, text),
        finish="length" if reason == "length" else "stop",
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        mean_logprob=_mean(choice.get("logprobs")),
        model=clean(_characters(model)) if isinstance(model, str) else "",
    )


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Malformed("it is not valid JSON") from None


def _outcome(message: Mapping[str, Any], reason: Any, text: str) -> Outcome:
    if message.get("refusal"):
        return "refused"
    if reason == "content_filter":
        return "filtered"
    return "answered" if text else "empty"


def _joined(message: Mapping[str, Any]) -> str:
    content = _text(message.get("content")).strip()
    reasoning = next((found for name in _REASONING if (found := _text(message.get(name)).strip())), "")
    if not reasoning or reasoning in content:
        return content
    opened = reasoning if reasoning.startswith("<think>") else f"<think>\n{reasoning}"
    if not content:
        return opened
    closed = opened if "</think>" in opened or "</think>" in content else f"{opened}\n</think>"
    return f"{closed}\n\n{content}"


def _text(value: Any) -> str:
    """A text, or the texts of a list of parts. Raises Malformed."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, dict) for part in value):
        return "".join(part["text"] for part in value if isinstance(part.get("text"), str))
    raise Malformed("its message is no text")


def _characters(text: str) -> str:
    """Without half surrogate pairs, which no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if not text.isascii() else text


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None


def _mean(logprobs: Any) -> float | None:
    """The mean over a chat completion's or a completion's log-probabilities; None where there are none."""
    if not isinstance(logprobs, dict):
        return None
    rows, flat = logprobs.get("content"), logprobs.get("token_logprobs")
    if isinstance(rows, list):
        values: list[Any] = [row.get("logprob") if isinstance(row, dict) else None for row in rows]
    else:
        values = flat if isinstance(flat, list) else []
    reals = [float(value) for value in values if type(value) in (int, float) and abs(value) < _MOST_TOKENS]
    return sum(reals) / len(reals) if reals and len(reals) == len(values) else None
