"""Columns beside a recorded trace: reasoning is put in front of it or the row refused, labels are left out; and that is said."""

import json
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

WORKED = "One and one makes 2, since 1 + 1 = 2."
JOINED = f"<think>\n{WORKED}\n</think>\n\nIt is 2"
PLAIN = {"question": "1 + 1?", "response": "It is 2"}
USER = {"role": "user", "content": "1 + 1?"}


def load(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> recorded.Loaded:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recorded.load(Recorded("weak", str(path), **settings))


def texts(loaded: recorded.Loaded) -> list[str]:
    return [trace.text for trace in loaded.traces]


NAMES = (
    *("reasoning_content", "reasoning", "thinking", "thought", "thoughts", "cot", "chain_of_thought", "reasoning_text"),
    *("Reasoning", "reasoningContent", "Chain-of-Thought", "thinking trace"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", ["response", "trace", "named", "prompt", "instruction", "messages"])
def test_reasoning_in_a_column_is_put_in_front_of_the_trace(tmp_path: Path, name: str, shape: str) -> None:
    rows: dict[str, dict[str, Any]] = {
        "response": PLAIN,
        "trace": {"question": "1 + 1?", "trace": "It is 2", "gold": "2"},
        "named": {"ask": "1 + 1?", "said": "It is 2", "gold": "2"},
        "prompt": {"prompt": "1 + 1?", "completion": "It is 2"},
        "instruction": {"instruction": "1 + 1?", "output": "It is 2"},
        "messages": {"messages": [USER, {"role": "assistant", "content": "It is 2"}]},
    }
    settings = {"question": "ask", "trace": "said"} if shape == "named" else {}
    loaded = load(tmp_path, rows[shape] | {name: WORKED}, **settings)
    assert texts(loaded) == [JOINED]
    assert dict(loaded.notes) == {f"column {name!r} put in front of the trace as its reasoning": 1}


LABELS: list[Any] = [
    "algebra",
    "Arithmetic",
    "high",
    "enabled",
    "multi-step",
    "代数",
    True,
    3,
    0.5,
    ["algebra", "geometry"],
    {"on": 1},
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("name", ["reasoning", "thinking", "cot", "rationale"])
def test_a_label_is_no_reasoning_even_in_a_file_of_one_row(tmp_path: Path, name: str, label: Any) -> None:
    loaded = load(tmp_path, PLAIN | {name: label})
    assert texts(loaded) == ["It is 2"]
    assert dict(loaded.notes) == {f"column {name!r} left out, since it holds labels or settings, no reasoning": 1}


def test_few_values_that_recur_are_labels_and_texts_that_differ_are_not(tmp_path: Path) -> None:
    labels = [PLAIN | {"question": f"q{i}", "reasoning": ("number theory", "counting and probability")[i % 2]} for i in range(10)]
    loaded = load(tmp_path, *labels)
    assert set(texts(loaded)) == {"It is 2"}
    assert sum(loaded.notes.values()) == 10
    worked = [PLAIN | {"question": f"q{i}", "reasoning": f"{i} and {i} make {2 * i}." if i else "Simple."} for i in range(10)]
    loaded = load(tmp_path, *worked)
    assert texts(loaded)[:2] == ["<think>\nSimple.\n</think>\n\nIt is 2", "<think>\n1 and 1 make 2.\n</think>\n\nIt is 2"]


@pytest.mark.parametrize("text", ["one and one", "number theory", "level 3 algebra"])
def test_what_may_be_either_is_refused_by_row_and_can_be_decided(tmp_path: Path, text: str) -> None:
    unsure = PLAIN | {"question": "2 + 2?", "reasoning": text}
    loaded = load(tmp_path, PLAIN, unsure)
    assert texts(loaded) == ["It is 2"]
    assert [
        (bad.line, f"'reasoning' holds {text!r}, which may be a label; set reasoning to" in bad.reason)
        for bad in loaded.quarantine
    ] == [(2, True)]
    assert texts(load(tmp_path, unsure, reasoning="reasoning")) == [f"<think>\n{text}\n</think>\n\nIt is 2"]
    assert texts(load(tmp_path, unsure, reasoning="")) == ["It is 2"]
    assert texts(load(tmp_path, unsure, meta=("reasoning",))) == ["It is 2"]
    assert texts(load(tmp_path, unsure, where=(("reasoning", text),))) == ["It is 2"]
    with pytest.raises(UserError, match="has no field 'thoughts'; its fields are question, response, reasoning"):
        load(tmp_path, unsure, reasoning="thoughts")


@pytest.mark.parametrize("name", ["rationale", "judge_reasoning", "gemini_thinking_trajectory", "gold_cot"])
def test_reasoning_that_may_be_another_s_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        UserError, match=f"field '{name}' holds .*, which may be reasoning that is not the teacher's own; set reasoning"
    ):
        load(tmp_path, PLAIN | {name: WORKED})
    assert texts(load(tmp_path, PLAIN | {name: WORKED}, reasoning=name)) == [JOINED]
    assert texts(load(tmp_path, PLAIN | {name: WORKED}, reasoning="")) == ["It is 2"]


def test_columns_that_are_as_often_something_else_are_said_and_not_used(tmp_path: Path) -> None:
    loaded = load(tmp_path, PLAIN | {"explanation": WORKED}, PLAIN | {"question": "q", "explanation": "easy"})
    assert texts(loaded) == ["It is 2", "It is 2"]
    note = "column 'explanation' not used; set reasoning to it if it belongs in front of the trace"
    assert dict(loaded.notes) == {note: 2}
    assert texts(load(tmp_path, PLAIN | {"explanation": WORKED}, reasoning="explanation")) == [JOINED]
    assert dict(load(tmp_path, PLAIN | {"analysis": "easy", "steps": 3}).notes) == {}


@pytest.mark.parametrize("name", ["reasoning_effort", "thinking_tokens", "cot_type", "season", "cotangent"])
def test_other_columns_are_none_of_it(tmp_path: Path, name: str) -> None:
    loaded = load(tmp_path, PLAIN | {name: WORKED})
    assert (texts(loaded), dict(loaded.notes)) == (["It is 2"], {})


def test_reasoning_that_is_there_already_is_not_doubled(tmp_path: Path) -> None:
    for trace in (JOINED, f"{WORKED}\nIt is 2", JOINED.replace("<think>", "<thinking>").replace("</think>", "</thinking>")):
        loaded = load(tmp_path, PLAIN | {"response": trace, "reasoning_content": WORKED})
        assert texts(loaded) == [trace]
        assert dict(loaded.notes) == {"column 'reasoning_content' left out, since the trace holds it already": 1}
    twice = load(tmp_path, PLAIN | {"reasoning_content": WORKED, "reasoning": f" {WORKED}\n"})
    assert texts(twice) == [JOINED]


def test_columns_and_traces_that_disagree_are_refused(tmp_path: Path) -> None:
    for row, reason in (
        (
            PLAIN | {"reasoning_content": WORKED, "thinking": "No, 1 + 1 = 3."},
            "'reasoning_content' and 'thinking' hold different",
        ),
        (
            PLAIN | {"response": "<think>\nno\n</think>\n2", "thinking": WORKED},
            "holds reasoning, but its end, </think>, stands in",
        ),
        (PLAIN | {"response": "[THINK]no[/THINK]2", "thinking": WORKED}, "holds reasoning, but its end, </think>, stands in"),
        (PLAIN | {"thinking": f"{WORKED}</think>It is 3. And"}, "holds reasoning, but its end, </think>, stands in"),
        (PLAIN | {"response": "so <think> it is 2", "thinking": WORKED}, "but a mark of thinking stands in the text already"),
    ):
        loaded = load(tmp_path, PLAIN | {"question": "other"}, row)
        assert [(bad.line, reason in bad.reason) for bad in loaded.quarantine] == [(2, True)]


def test_lists_of_traces_have_lists_of_reasoning(tmp_path: Path) -> None:
    row = {"problem": "1 + 1?", "generations": ["It is 2", "3"], "thinking": [WORKED, None]}
    assert texts(load(tmp_path, row)) == [JOINED, "3"]
    for wrong, words in ((WORKED, "one text of reasoning for 2 traces"), ([WORKED], "1 texts for 2 traces")):
        with pytest.raises(UserError, match=words):
            load(tmp_path, row | {"thinking": wrong})


def test_thoughts_without_an_answer_are_not_finished(tmp_path: Path) -> None:
    loaded = load(tmp_path, PLAIN | {"response": "<think>\n1 + 1 = 2"}, PLAIN | {"response": "[THINK]x[/THINK]"}, PLAIN)
    assert [trace.finish for trace in loaded.traces] == ["length", "length", "stop"]
    assert dict(loaded.notes) == {"trace of thoughts without an answer, which counts as not finished": 2}


def test_steps_and_parts_are_one_text(tmp_path: Path) -> None:
    steps = ["1 and 1", "makes 1 + 1 = 2"]
    assert texts(load(tmp_path, PLAIN | {"reasoning_steps": steps})) == ["<think>\n1 and 1\nmakes 1 + 1 = 2\n</think>\n\nIt is 2"]
    details = [{"type": "reasoning.text", "text": WORKED}, {"type": "reasoning.encrypted", "data": "x"}]
    assert texts(load(tmp_path, PLAIN | {"reasoning_details": details})) == [JOINED]


def test_a_column_that_the_first_rows_left_empty_is_not_overlooked(tmp_path: Path) -> None:
    rows = [PLAIN | {"question": f"q{i}", "thinking": None} for i in range(120)]
    loaded = load(tmp_path, *rows, PLAIN | {"thinking": WORKED})
    assert texts(loaded)[-1] == JOINED


def message(**fields: Any) -> dict[str, Any]:
    return {"messages": [USER, {"role": "assistant", **fields}]}


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "It is 2", "reasoning_content": WORKED},
        {"content": "It is 2", "reasoning": WORKED, "reasoning_content": WORKED},
        {"content": "It is 2", "thinking": WORKED},
        {"content": "It is 2", "thought": WORKED},
        {"content": [{"type": "thinking", "thinking": WORKED}, {"type": "text", "text": "It is 2"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": WORKED}]}, {"type": "text", "text": "It is 2"}]},
        {"content": [{"type": "reasoning", "text": WORKED}, {"type": "output_text", "text": "It is 2"}]},
        {"content": "It is 2", "reasoning_details": [{"type": "reasoning.text", "text": WORKED}]},
    ],
)
def test_reasoning_in_a_message_is_put_in_front_of_its_text(tmp_path: Path, fields: dict[str, Any]) -> None:
    loaded = load(tmp_path, message(**fields))
    assert texts(loaded) == [JOINED]
    assert [name.endswith("of messages put in front of the trace as its reasoning") for name in loaded.notes] == [True]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"content": None, "reasoning_content": WORKED}, "the assistant's turn is empty but for its reasoning"),
        ({"content": [{"type": "thinking", "thinking": WORKED}]}, "the assistant's turn is empty but for its reasoning"),
        ({"content": "It is 2", "reasoning": {"odd": 1}}, "field 'reasoning' is not text"),
        ({"content": [{"type": "image_url"}, {"type": "text", "text": "2"}]}, "an image or another part"),
        ({"content": [{"type": 7, "text": "2"}]}, "an image or another part"),
    ],
)
def test_a_message_without_an_answer_or_with_what_is_no_text_is_set_aside(
    tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    loaded = load(tmp_path, message(content="It is 2"), message(**fields))
    assert [(bad.line, reason in bad.reason) for bad in loaded.quarantine] == [(2, True)]


def test_the_user_s_own_words_are_no_reasoning(tmp_path: Path) -> None:
    row = {"messages": [USER | {"reasoning": WORKED}, {"role": "assistant", "content": "It is 2"}]}
    assert texts(load(tmp_path, row)) == ["It is 2"]


def test_several_files_say_whose_notes_they_are(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(PLAIN | {"thinking": WORKED}) + "\n")
    both = recorded.load_all([Recorded("a", str(path)), Recorded("b", str(path), reasoning="")])
    assert texts(both) == [JOINED, "It is 2"]
    assert dict(both.notes) == {"a: column 'thinking' put in front of the trace as its reasoning": 1}
