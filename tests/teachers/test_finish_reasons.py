"""What servers say of an answer's end: only what means that the model ended it itself makes it finished."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from w2sr_jax.teachers import finish_reasons
from w2sr_jax.teachers.served.answer import Failed, Malformed, parse

FINISHED = {
    "OpenAI, vLLM, SGLang, llama.cpp, Ollama, Mistral, DeepSeek": "stop",
    "TGI": "eos_token",
    "TGI and Anthropic, at a stop sequence": "stop_sequence",
    "Anthropic and Bedrock": "end_turn",
    "Together": "eos",
    "Cohere": "COMPLETE",
    "Gemini": "STOP",
    "Gemini's enumeration": "FinishReason.STOP",
    "in capitals within": "endTurn",
    "TensorRT-LLM": "stop_words",
    "Baidu": "normal",
}
CUT = (
    *("length", "LENGTH", "max_tokens", "MAX_TOKENS", "maxTokens", "max-tokens", "FinishReason.MAX_TOKENS", "model_length"),
    *("model_context_window_exceeded", "token_limit", "tool_calls", "function_call", "tool_use", "pause_turn", "not_finished"),
    *("", "null", "None", "FINISH_REASON_UNSPECIFIED"),
)
UNKNOWN = ("stopped early", "non-stop", "weird", "stop!length", "eos_token stop", "完成", "0", "True")


@pytest.mark.parametrize("server", FINISHED)
def test_words_for_an_end_of_its_own(server: str) -> None:
    assert finish_reasons.meaning(FINISHED[server]) == "finished"
    assert finish_reasons.meaning(f" {FINISHED[server]}\n") == "finished"


@pytest.mark.parametrize("reason", CUT)
def test_words_for_a_text_that_was_cut(reason: str) -> None:
    assert finish_reasons.meaning(reason) == "cut"


@pytest.mark.parametrize("reason", UNKNOWN)
def test_other_words_are_not_known(reason: str) -> None:
    assert finish_reasons.meaning(finish_reasons.readable(reason)) == "unknown"


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("content_filter", "filtered"),
        ("content_filter: PROHIBITED_CONTENT", "filtered"),
        ("SAFETY", "filtered"),
        ("guardrail_intervened", "filtered"),
        ("refusal", "refused"),
        ("abort", "failed"),
        ("error", "failed"),
        ("insufficient_system_resource", "failed"),
    ],
)
def test_filters_refusals_and_errors_are_told_apart(reason: str, meaning: str) -> None:
    assert finish_reasons.meaning(reason) == meaning


@pytest.mark.parametrize(
    ("given", "spelled"),
    [
        ("stop", "stop"),
        (None, ""),
        (False, ""),
        ("null", ""),
        ({"type": "length", "length": 7}, "length"),
        ({"kind": 1}, ""),
        (7, "7"),
        (["stop"], "['stop']"),
        ("a\n\x1b[31m\u202eb", "a \\x1b[31m\\u202eb"),
        ("x" * 10_000, "x" * 37 + "..."),
    ],
)
def test_a_reason_can_be_shown_whatever_it_is(given: Any, spelled: str) -> None:
    assert finish_reasons.readable(given) == spelled
    assert spelled.isprintable()


SOUND = {"message": {"content": "4"}, "finish_reason": "stop"}


def choice(**fields: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "so #### 12"}, **fields}]}).encode()


def test_where_a_choice_says_how_it_ended() -> None:
    assert parse(choice(finish_reason="stop", stop_reason=128009)).finish == "stop"
    assert parse(choice(finish_reason="length", stop_reason="end_turn")).finish == "length"
    assert parse(choice(finish_reason=None, native_finish_reason="STOP")).finish == "stop"
    assert parse(choice(done_reason="stop")).finish == "stop"
    assert parse(choice(stop_reason="end_turn")).finish == "stop"
    assert parse(choice(stop_reason="max_tokens")).finish == "length"
    for nothing in ({}, {"finish_reason": None}, {"stop_reason": "\n\n"}):  # vLLM gives the text that it stopped at
        answer = parse(choice(**nothing))
        assert (answer.finish, answer.reason) == ("length", "")
    unknown = parse(choice(finish_reason="weird\n"))
    assert (unknown.finish, unknown.outcome, unknown.reason) == ("length", "answered", "weird")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"error": {"message": "overloaded"}}, None),
        ({"error": "overloaded"}, None),
        ({"error": {"message": "overloaded", "code": 502}, "choices": [SOUND]}, 502),
        ({"error": {"message": "overloaded", "code": "insufficient_quota"}}, 429),
        ({"error": {"message": "overloaded", "code": 7}}, None),
        ({"object": "error", "message": "overloaded", "code": 400}, 400),
        ({"choices": [SOUND | {"error": {"message": "overloaded", "code": 400}}]}, None),
        ({"choices": [{"error": "overloaded"}]}, None),
        ({"choices": [{"message": {"content": "4", "error": "overloaded"}, "finish_reason": "stop"}]}, None),
    ],
)
def test_an_error_in_a_success_is_an_error(body: Any, status: int | None) -> None:
    with pytest.raises(Failed, match="overloaded") as failure:
        parse(json.dumps(body).encode())
    assert failure.value.status == status


@pytest.mark.parametrize("reason", ["error", "ABORT", "network_error", "cancelled"])
def test_a_reason_that_is_an_error_is_one(reason: str) -> None:
    with pytest.raises(Malformed, match=f"broken off .*'{reason}'"):
        parse(choice(finish_reason=reason))


def test_what_an_error_says_is_cleaned_and_short() -> None:
    body = {"error": {"message": "bad key sk-1 \x1b[31m" + "x" * 5000, "code": [1]}}
    with pytest.raises(Failed) as failure:
        parse(json.dumps(body).encode(), lambda text: text.replace("sk-1", "[key]"))
    assert str(failure.value).isprintable()
    assert len(str(failure.value)) < 300
    assert "[key]" in str(failure.value)
    assert "sk-1" not in str(failure.value)
    assert parse(choice(finish_reason="stop", error=None)).text == "so #### 12"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["stop", "thinking", "error", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "thinking", "message"]), inner),
    max_leaves=6,
)
FIELDS = ("content", "reasoning", "reasoning_content", "reasoning_details", "thinking", "refusal", "tool_calls", "error")
MESSAGE = JSON | st.dictionaries(st.sampled_from(FIELDS), JSON)
CHOICE = st.fixed_dictionaries(
    {}, optional={"message": MESSAGE, "finish_reason": JSON, "stop_reason": JSON, "text": JSON, "error": JSON, "logprobs": JSON}
)


@given(
    st.fixed_dictionaries(
        {}, optional={"choices": JSON | st.lists(CHOICE, min_size=1), "error": JSON, "usage": JSON, "model": JSON}
    )
)
@trials(deadline=None, max_examples=400)
def test_whatever_a_server_sends_is_an_answer_or_malformed(body: dict[str, Any]) -> None:
    answer, words = None, ""
    try:
        answer = parse(json.dumps(body).encode())
    except Malformed as bad:
        words = str(bad)
    assert (answer is None) == bool(words)
    assert words.isprintable()
    assert len(words) < 400
    if answer is None:
        return
    assert answer.reason is not None
    assert answer.reason.isprintable()
    assert len(answer.reason) <= finish_reasons.LONGEST
    assert answer.text == answer.text.encode().decode()
    assert (answer.finish == "stop") <= (finish_reasons.meaning(answer.reason) == "finished")
    assert (answer.outcome == "answered") <= bool(answer.text.strip())


def test_an_answer_nested_as_deep_as_json_allows_is_an_answer_or_malformed() -> None:
    deep = "[" * 900 + "]" * 900
    for body in (
        '{"choices": [{"message": {"content": "4", "reasoning": DEEP}, "finish_reason": DEEP}]}',
        '{"choices": [{"message": {"content": DEEP}, "finish_reason": "stop"}]}',
        '{"error": {"message": DEEP}}',
    ):
        with contextlib.suppress(Malformed):
            assert parse(body.replace("DEEP", deep).encode()).finish == "length"
