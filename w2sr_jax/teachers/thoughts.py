"""Reasoning that a message holds apart from its answer (in a field of its own, in parts of its content, or in both) as one text.

The fields are those of vLLM, SGLang and DeepSeek (`reasoning_content`, `reasoning`), OpenRouter (`reasoning_details`), LiteLLM
(`thinking_blocks`) and Ollama (`thinking`); the parts those of Mistral, Anthropic, Gemini and OpenAI's Responses.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from w2sr_jax.core import thinking

FIELDS = (
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_text",
    "thinking_content",
    "thought",
    "thoughts",
    "chain_of_thought",
    "thinking_blocks",
    "reasoning_details",
)
"""Fields of a message that hold its reasoning."""

OPENED, CLOSED = "<think>", "</think>"
"""The marks around reasoning that was joined to an answer, whatever marks the model itself has."""

_KINDS = ("think", "thought", "reason")  # in the types of parts that are thoughts: thinking, reasoning.text, redacted_thinking …
_TEXTS = ("thinking", "reasoning", "reasoning_content", "thought", "text", "content", "summary")  # where a part keeps its text
_NESTING = 6
_WHOLE = 40  # characters from which on a text is not contained in another one by chance


class Parts(NamedTuple):
    """A message's content: its answer, its thoughts, and the type of the first part that is neither ("" where all are)."""

    answer: str
    thought: str
    other: str = ""


def parts(content: Any) -> Parts | None:
    """The parts of a message's content, which is null, a text, or a list of parts; None where it is none of these."""
    if content is None:
        return Parts("", "")
    if isinstance(content, str):
        return Parts(content, "")
    if not isinstance(content, list):
        return None
    answers: list[str] = []
    thoughts: list[Any] = []
    other = ""
    for part in content:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(part, dict | str) or not isinstance(kind, str):
            return None
        if isinstance(part, dict) and (part.get("thought") is True or any(word in kind.casefold() for word in _KINDS)):
            thoughts.append(part)
        elif isinstance(text, str):
            answers.append(text)
            other = other or ("" if kind in ("text", "output_text", "input_text") else kind)
        else:
            other = other or kind
    return Parts("".join(answers), text_of(thoughts), other)


def text_of(value: Any, nesting: int = _NESTING) -> str:
    """The text of reasoning that is a text itself, a part, or a list of either; "" where it has none."""
    if isinstance(value, str):
        return value
    if not nesting:
        return ""
    if isinstance(value, list):
        texts = [text for part in value if (text := text_of(part, nesting - 1)).strip()]
        return _between(value).join(texts)
    if isinstance(value, dict):
        return next((text for name in _TEXTS if (text := text_of(value.get(name), nesting - 1)).strip()), "")
    return ""


def of_fields(message: Mapping[str, Any], more: Iterable[str] = ()) -> str:
    """The reasoning of a message: the texts `more` and those of its fields, without repetitions."""
    return merged([*more, *(text_of(message.get(name)) for name in FIELDS)])


def merged(texts: Iterable[str]) -> str:
    """Texts one after the other, without those that another one contains, whitespace aside."""
    distinct: list[str] = []
    for text in texts:
        bare = _bare(text)
        if bare and not any(bare in _bare(one) for one in distinct):
            distinct = [*(one for one in distinct if _bare(one) not in bare), text.strip()]
    return "\n\n".join(distinct)


def contains(reasoning: str, answer: str) -> bool:
    """Whether an answer contains the reasoning: between marks of its own, at its beginning, or as a passage too long to be
    there by chance."""
    bare, whole = _bare(unmarked(reasoning)), _bare(answer)
    return bare in whole and (len(bare) >= _WHOLE or thinking.marked(answer) or whole.startswith(bare))


def joined(reasoning: str, answer: str) -> str:
    """The reasoning between `<think>` and `</think>` in front of the answer; without `</think>` where there is no answer, as in a
    text that was cut off while its model was thinking. An answer that contains the reasoning stays as it is."""
    body, answer = unmarked(reasoning), answer.strip()
    if not body or (answer and contains(reasoning, answer)):
        return answer
    if not answer:
        return f"{OPENED}\n{body}"
    ended = thinking.marked(answer) and (marks := thinking.read(answer)).closed > marks.opened
    return f"{OPENED}\n{body}\n\n{answer}" if ended else f"{OPENED}\n{body}\n{CLOSED}\n\n{answer}"


def unmarked(reasoning: str) -> str:
    """Reasoning without marks of thinking at its ends."""
    text = reasoning.strip()
    opening = thinking.OPENING.match(text)
    text = text[opening.end() :].lstrip() if opening else text
    closings = list(thinking.CLOSING.finditer(text))
    return text[: closings[-1].start()].rstrip() if closings and closings[-1].end() == len(text) else text


def unanswered(text: str) -> bool:
    """Whether a text has thoughts and nothing outside of them."""
    return thinking.marked(text) and not thinking.read(text).outside.strip()


def _between(parts: list[Any]) -> str:
    """The separator for the texts of a list: steps and summaries are paragraphs, other parts are pieces of one text."""
    if any(isinstance(part, dict) and part.get("summary") for part in parts):
        return "\n\n"
    if any(isinstance(part, dict) and "summary" in str(part.get("type")) for part in parts):
        return "\n\n"
    return "\n" if any(isinstance(part, str) for part in parts) else ""


def _bare(text: str) -> str:
    return "".join(text.split())
