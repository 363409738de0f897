"""Reasoning in fields and parts of a message: kept once, in front of the answer."""

import json
from typing import Any

import pytest

from w2sr_jax.core import thinking
from w2sr_jax.teachers import thoughts
from w2sr_jax.teachers.served.answer import Answer, parse

WHOLE = "<think>\nfive and seven\n</think>\n\n#### 12"
TEXT = {"type": "text", "text": "#### 12"}


def answered(reason: str = "stop", **message: Any) -> Answer:
    return parse(json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode())


KEPT: dict[str, dict[str, Any]] = {
    "Mistral": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "five and seven"}]}, TEXT]},
    "Mistral in pieces": {
        "content": [{"type": "thinking", "thinking": [{"text": "five "}, {"type": "text", "text": "and seven"}]}, TEXT]
    },
    "Anthropic": {"content": [{"type": "thinking", "thinking": "five and seven", "signature": "x"}, TEXT]},
    "a part with text": {"content": [{"type": "reasoning", "text": "five and seven"}, TEXT]},
    "a part of type reasoning": {"content": [{"type": "reasoning", "reasoning": "five and seven"}, TEXT]},
    "Responses": {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": "five and seven"}]}, TEXT]},
    "Gemini": {"content": [{"text": "five and seven", "thought": True}, {"text": "#### 12"}]},
    "thoughts after the answer": {"content": [TEXT, {"type": "thinking", "thinking": "five and seven"}]},
    "DeepSeek": {"content": "#### 12", "reasoning_content": "five and seven"},
    "vLLM": {"content": "#### 12", "reasoning": "five and seven", "reasoning_content": "five and seven"},
    "Ollama": {"content": "#### 12", "thinking": "five and seven\n"},
    "LiteLLM": {
        "content": "#### 12",
        "reasoning_content": "five and seven",
        "thinking_blocks": [{"type": "thinking", "thinking": "five and seven", "signature": "x"}],
    },
    "OpenRouter": {
        "content": "#### 12",
        "reasoning": "five and seven",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "five "},
            {"type": "reasoning.text", "text": "and seven"},
            {"type": "reasoning.encrypted", "data": "abc"},
        ],
    },
    "details alone": {"content": "#### 12", "reasoning_details": [{"type": "reasoning.summary", "summary": "five and seven"}]},
    "parts and a field": {
        "content": [{"type": "thinking", "thinking": "five and seven"}, TEXT],
        "reasoning_content": " five\nand seven ",
    },
    "marks in the field": {"content": "#### 12", "reasoning_content": "<think>\nfive and seven\n</think>"},
    "an opened mark in the field": {"content": "#### 12", "reasoning": "[THINK]five and seven"},
    "an object": {"content": "#### 12", "reasoning": {"content": [{"type": "text", "text": "five and seven"}]}},
    "already in the content": {"content": WHOLE, "reasoning_content": "five and seven"},
    "its end in the content": {"content": "</think>\n\n#### 12", "reasoning_content": "five and seven"},
}


@pytest.mark.parametrize("server", KEPT)
def test_reasoning_is_kept_once_in_front_of_the_answer(server: str) -> None:
    answer = answered(**KEPT[server])
    assert "".join(answer.text.split()) == "".join(WHOLE.split())
    assert (answer.outcome, answer.finish) == ("answered", "stop")
    assert thinking.read(answer.text).balanced


NONE: dict[str, dict[str, Any]] = {
    "null": {"content": "#### 12", "reasoning_content": None, "reasoning": ""},
    "a switch": {"content": "#### 12", "thinking": True, "reasoning": 7},
    "encrypted": {"content": "#### 12", "reasoning_details": [{"type": "reasoning.encrypted", "data": "abc"}]},
    "redacted": {"content": [{"type": "redacted_thinking", "data": "abc"}, TEXT]},
    "other fields": {"content": "#### 12", "annotations": [{"text": "five and seven"}], "audio": {"text": "x"}},
    "an image beside": {"content": [{"type": "image_url", "image_url": {"url": "x"}}, TEXT]},
}


@pytest.mark.parametrize("server", NONE)
def test_what_is_no_reasoning_is_none(server: str) -> None:
    assert answered(**NONE[server]).text == "#### 12"


UNANSWERED: dict[str, dict[str, Any]] = {
    "a field alone": {"content": None, "reasoning_content": "so #### 12"},
    "two fields": {"content": "", "reasoning": "so #### 12", "reasoning_content": "so #### 12"},
    "parts alone": {"content": [{"type": "thinking", "thinking": "so #### 12"}]},
    "an open mark": {"content": "<think>\nso #### 12"},
    "closed, and nothing after": {"content": "<think>\nso #### 12\n</think>\n"},
    "opened by the prompt": {"content": "so #### 12\n</think>\n\n"},
    "other marks": {"content": "[THINK]so #### 12[/THINK]"},
}


@pytest.mark.parametrize("case", UNANSWERED)
def test_reasoning_without_an_answer_is_not_finished_whatever_the_server_says(case: str) -> None:
    answer = answered(**UNANSWERED[case])
    assert (answer.outcome, answer.finish, answer.reason) == ("answered", "length", "stop")
    assert thoughts.unanswered(answer.text)
    assert "so #### 12" in answer.text


@pytest.mark.parametrize("text", ["#### 12", "", "<think>\na\n</think>\nb", "a </think> b", "I think so.", "it is < think >"])
def test_an_answer_is_one(text: str) -> None:
    assert not thoughts.unanswered(text)


def test_short_reasoning_that_the_answer_happens_to_contain_is_kept() -> None:
    assert answered(content="It is #### 12", reasoning="12").text == "<think>\n12\n</think>\n\nIt is #### 12"
    assert answered(content="five and seven", reasoning="five and seven").text == "five and seven"
    long = "First I add five and seven, which gives twelve, and check it."
    assert answered(content=f"Well. {long} So 12.", reasoning=long).text == f"Well. {long} So 12."


def test_reasoning_beside_the_message_or_the_text_of_a_completion_is_kept() -> None:
    for choice in ({"text": "#### 12"}, {"message": {"content": "#### 12", "reasoning": "five and seven"}}):
        body = {"choices": [choice | {"reasoning": "five and seven", "finish_reason": "stop"}]}
        assert parse(json.dumps(body).encode()).text == WHOLE


def test_different_reasoning_is_all_kept() -> None:
    text = answered(content="12", reasoning_content="five and seven", reasoning="a summary").text
    assert text == "<think>\nfive and seven\n\na summary\n</think>\n\n12"
    assert answered(content="<think>a</think>12", reasoning="other").text == "<think>\nother\n</think>\n\n<think>a</think>12"


def test_nothing_nested_too_deep_is_read() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [{"type": "thinking", "thinking": deep}]
    assert thoughts.text_of(deep) == ""
    assert answered(content="12", reasoning_details=deep).text == "12"
    assert thoughts.text_of([1, None, {"text": 7}, {"text": ["a"]}, "b"]) == "a\nb"
    assert thoughts.parts([{"type": 7, "text": "a"}]) is None
