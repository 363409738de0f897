"""Finish reasons as servers, and files of their answers, write them, and what each means: whether the model had finished the
text.

A text is finished only where its reason means that the model ended it by itself. Any other reason, or none, means that it is not.
"""

import re
from typing import Any, Literal

from w2sr_jax.core import sentences

Meaning = Literal["finished", "cut", "filtered", "refused", "failed", "unknown"]
"""`cut`: at a limit, or to call a tool. `filtered`: by a filter of its content. `refused`: the model declined. `failed`: an error
of the server's, so that asking again may help. `unknown`: a reason that is none of these."""

LONGEST = 40
"""Characters of a reason that are stored."""

_MEANINGS: dict[Meaning, tuple[str, ...]] = {
    # OpenAI, vLLM, SGLang, llama.cpp, Ollama, Mistral, DeepSeek and Gemini say stop; TGI eos_token and stop_sequence; Anthropic
    # and Bedrock end_turn; Together eos; Cohere complete; TensorRT-LLM end_id and stop_words; Baidu normal.
    "finished": (
        "stop",
        "stopped",
        "eos",
        "eos_token",
        "eos_token_id",
        "eot",
        "end",
        "end_id",
        "end_turn",
        "end_of_turn",
        "end_of_text",
        "endoftext",
        "stop_sequence",
        "stop_string",
        "stop_token",
        "stop_token_id",
        "stop_word",
        "stop_words",
        "complete",
        "completed",
        "finished",
        "normal",
    ),
    "cut": (
        "length",
        "limit",
        "max_tokens",
        "max_length",
        "max_new_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "model_length",
        "model_context_window_exceeded",
        "context_length_exceeded",
        "context_window_exceeded",
        "token_limit",
        "time_limit",
        "truncated",
        "incomplete",
        "not_finished",
        "repetition",
        "pause_turn",
        "tool_call",
        "tool_calls",
        "tool_use",
        "function_call",
        "malformed_function_call",
        "load",
        "unload",
    ),
    "filtered": (
        "content_filter",
        "content_filtered",
        "guardrail_intervened",
        "safety",
        "sensitive",
        "recitation",
        "blocklist",
        "prohibited_content",
        "spii",
        "error_toxic",
    ),
    "refused": ("refusal", "refused"),
    "failed": (
        "error",
        "abort",
        "aborted",
        "cancel",
        "cancelled",
        "canceled",
        "timeout",
        "network_error",
        "server_error",
        "internal_error",
        "internal_server_error",
        "insufficient_system_resource",
        "engine_overloaded",
    ),
}
_MEANING_OF: dict[str, Meaning] = {name: ending for ending, names in _MEANINGS.items() for name in names}
_NOTHING = ("", "null", "none", "not_given", "unspecified")

UNSTATED = "not given"
"""The name under which answers without a reason are counted."""


def readable(reason: Any) -> str:
    """A reason as printable text; "" where there is none. SGLang's own API gives an object with a `type`."""
    if isinstance(reason, dict):
        reason = reason.get("type")
    if reason is None or reason is False:
        return ""
    words = sentences.shown(" ".join(reason[: 4 * LONGEST].split()), LONGEST) if isinstance(reason, str) else ""
    words = words if isinstance(reason, str) else sentences.value(reason, LONGEST)
    return "" if _plain(words) in _NOTHING else words


def meaning(reason: str) -> Meaning:
    """What a reason means, however it is written (`MAX_TOKENS`, `maxTokens`, `FinishReason.STOP`). No reason means `cut`."""
    plain = _plain(reason)
    if plain.startswith("content_filter"):  # Gemini says of which kind
        return "filtered"
    return "cut" if plain in _NOTHING else _MEANING_OF.get(plain, "unknown")


def _plain(reason: str) -> str:
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason.strip().rpartition("FinishReason.")[2])
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_").removeprefix("finish_reason_")
