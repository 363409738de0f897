"""What a server answered: a text with its usage, or the reason why none can be had from it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from w2sr_jax.core import sentences
from w2sr_jax.core.records import Finish
from w2sr_jax.teachers import finish_reasons, thoughts
from w2sr_jax.teachers.served.distributions import Position, positions

Outcome = Literal["answered", "refused", "filtered", "empty"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)

_REASONS = ("finish_reason", "native_finish_reason", "done_reason")
_CODES = {"insufficient_quota": 429, "invalid_api_key": 401, "model_not_found": 404}  # codes that stand for a status
_MOST_TOKENS = 2**31 - 1
_LONGEST_NAME = 300  # characters of a model's name
_SHOWN = 200  # characters of an error that are shown


class Malformed(Exception):
    """An answer that is not what the API promises."""


class Failed(Malformed):
    """An error that came with the status of a success. `status` is the one that it says it has; None where it says none, or where
    it befell a choice, so that asking again may help."""

    def __init__(self, words: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(words)
        self.status, self.body = status, body


class Answer(NamedTuple):
    """`text` counts only where the outcome is `answered`. `refused`: the model declined; `filtered`: the server cut it off for
    its content; `empty`: there is no text. `finish` is `stop` only where the model ended by itself and the text has an answer
    besides its thoughts. Tokens are None where the server does not report them. `model` is the server's name of it. `reason` is
    the finish reason as the server writes it ("": none); None in older journals. `top` has the most probable tokens at each
    position, where they were asked for and the server reports them."""

    text: str
    outcome: Outcome
    finish: Finish
    prompt_tokens: int | None
    completion_tokens: int | None
    mean_logprob: float | None
    model: str
    reason: str | None = None
    top: Sequence[Position] | None = None


def parse(raw: bytes, clean: Callable[[str], str] = str, top: bool = False) -> Answer:
    """The first choice of a chat completion or a completion, with the most probable tokens if `top` says so. `clean` goes over
    every text. Raises Malformed, and Failed for an error, be it the body's, the choice's or its finish reason.

    Reasoning that a server keeps apart, in a field or in parts of the content, is put back before the content, between `<think>`
    and `</think>`; without content it stays open, as in an answer that was cut off while it was thinking.
    """
    value = _json(raw)
    if not isinstance(value, dict):
        raise Malformed("it is no JSON object")
    _check_body(value, raw, clean)
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Malformed("it holds no choices")
    choice = choices[0]
    message = choice.get("message", {"content": choice["text"]} if "text" in choice else None)
    reason = clean(_characters(_reason(choice)))
    _check_choice(choice, message, reason, clean)
    if not isinstance(message, dict):
        raise Malformed("its first choice holds no message")
    content = thoughts.parts(message.get("content"))
    if content is None:
        raise Malformed("its message is no text")
    text = thoughts.joined(thoughts.of_fields(message, [content.thought, thoughts.of_fields(choice)]), content.answer)
    usage = value.get("usage")
    model = value.get("model")
    return Answer(
        text=clean(_characters(text)),
        outcome=_outcome(message, content.other, reason, text),
        finish="stop" if finish_reasons.meaning(reason) == "finished" and not thoughts.unanswered(text) else "length",
        prompt_tokens=_count(usage, "prompt_tokens"),
        completion_tokens=_count(usage, "completion_tokens"),
        mean_logprob=_mean(choice.get("logprobs")),
        model=clean(_characters(model[:_LONGEST_NAME])) if isinstance(model, str) else "",
        reason=reason,
        top=positions(choice.get("logprobs"), lambda text: clean(_characters(text))) if top else None,
    )


def _reason(choice: Mapping[str, Any]) -> str:
    """The reason that a choice states for its end, "" for none. vLLM's `stop_reason` may be the text at which it stopped, so only
    words that `finish_reasons` knows count there."""
    reason = next((reason for name in _REASONS if (reason := finish_reasons.readable(choice.get(name)))), "")
    other = finish_reasons.readable(choice.get("stop_reason"))
    return reason if reason or finish_reasons.meaning(other) == "unknown" else other


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Malformed("it is not valid JSON") from None


def _check_body(value: Mapping[str, Any], raw: bytes, clean: Callable[[str], str]) -> None:
    """Raises Failed for a body that is an error."""
    error = value.get("error") or (value if value.get("object") == "error" else None)
    if not error:
        return
    details = error if isinstance(error, dict) else value
    status = next((code for name in ("code", "status", "status_code") if (code := _status(details.get(name)))), None)
    raise Failed(f"it is an error ({_message(error, clean)})", status, raw)


def _check_choice(choice: Mapping[str, Any], message: Any, reason: str, clean: Callable[[str], str]) -> None:
    """Raises Failed for a choice that is an error, or that one has broken off."""
    error = choice.get("error") or (message.get("error") if isinstance(message, dict) else None)
    if error:
        raise Failed(f"its choice is an error ({_message(error, clean)})")
    if finish_reasons.meaning(reason) == "failed":
        raise Failed(f"it was broken off (finish reason {sentences.value(reason)})")


def _status(code: Any) -> int | None:
    """The status that a code is or stands for."""
    if isinstance(code, str):
        code = int(code) if code.isascii() and code.isdigit() and len(code) == 3 else _CODES.get(code)
    return code if type(code) is int and 400 <= code < 600 else None


def _message(error: Any, clean: Callable[[str], str]) -> str:
    message = error.get("message") or error.get("detail") or error if isinstance(error, dict) else error
    words = message if isinstance(message, str) else sentences.value(message, _SHOWN)
    return sentences.shown(" ".join(clean(words).split()), _SHOWN)


def _outcome(message: Mapping[str, Any], other: str, reason: str, text: str) -> Outcome:
    meaning = finish_reasons.meaning(reason)
    if message.get("refusal") or other == "refusal" or meaning == "refused":
        return "refused"
    if meaning == "filtered":
        return "filtered"
    return "answered" if text else "empty"


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
