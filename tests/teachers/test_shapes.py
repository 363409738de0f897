"""The usual shapes of trace files are recognised and read as the same questions and traces; what does not fit is set aside."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

Row = dict[str, Any]
PAIRS = [("What is 2 + 2 ?", "<think>\n2, 3, 4\n</think>\n\n\\boxed{4}"), ("Wie viel ist 3 · 3 ? é", "9 #### 9"), ("A\n\nB", "1")]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def exchanges(loaded: recorded.Loaded) -> list[tuple[str, str]]:
    questions = {problem.id: problem.question for problem in loaded.problems}
    return [(questions[trace.problem_id], trace.text) for trace in loaded.traces]


def chat(question: str, trace: str) -> list[Row]:
    spoken = (("system", "Be brief."), ("user", question), ("assistant", trace))
    return [{"role": role, "content": content} for role, content in spoken]


SHAPES: dict[str, tuple[str, Callable[[str, str], Row]]] = {
    "plain": ("columns (question, trace)", lambda q, t: {"question": q, "trace": t, "gold": "1"}),
    "responses": ("columns (question, response)", lambda q, t: {"question": q, "response": t}),
    "query": ("columns (query, response)", lambda q, t: {"type": "aug", "query": q, "response": t}),
    "generated": ("columns (problem, generated_solution)", lambda q, t: {"problem": q, "generated_solution": t}),
    "generations": (
        "columns (problem, generations), several traces a row",
        lambda q, t: {"problem": q, "solution": "so \\boxed{7}", "generations": [t]},
    ),
    "messages": ("messages (messages)", lambda q, t: {"messages": chat(q, t)}),
    "developer": (
        "messages (messages)",
        lambda q, t: {"messages": [{"role": "developer", "content": "x"}, *chat(q, t)[1:]], "tools": None},
    ),
    "parts": (
        "messages (messages)",
        lambda q, t: {"messages": [{"role": "user", "content": [{"type": "text", "text": q}]}, chat(q, t)[2]]},
    ),
    "conversations": (
        "messages (conversations)",
        lambda q, t: {"system": "s", "conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": t}]},
    ),
    "table of turns": (
        "messages (conversations)",
        lambda q, t: {"conversations": {"from": ["human", "gpt"], "value": [q, t]}},
    ),
    "prompt": ("prompt (prompt, completion)", lambda q, t: {"prompt": q, "completion": t}),
    "prompt of messages": ("prompt (prompt, completion)", lambda q, t: {"prompt": chat(q, t)[:2], "completion": chat(q, t)[2:]}),
    "prompt and response": ("prompt (prompt, response)", lambda q, t: {"prompt": q, "response": t, "chosen": None}),
    "instruction": (
        "instruction (instruction, output)",
        lambda q, t: {"instruction": q, "input": "", "output": t, "history": []},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_usual_shapes_are_recognised(tmp_path: Path, name: str) -> None:
    described, make = SHAPES[name]
    rows = [make(question, trace) for question, trace in PAIRS]
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows)))
    assert exchanges(loaded) == PAIRS
    assert (loaded.shape, loaded.quarantine) == (described, [])
    if name == "parts":  # a column of a table has one type
        return
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert exchanges(recorded.load(Recorded("weak", str(tmp_path / "t.parquet")))) == PAIRS


CHARACTERS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x00\u202e\n {}\\"), min_size=1, max_size=20)
SPOKEN = CHARACTERS.map(str.strip).filter(bool)


@given(st.sampled_from(sorted(SHAPES)), st.lists(st.tuples(SPOKEN, SPOKEN), min_size=1, max_size=4, unique_by=lambda one: one[0]))
@trials(deadline=None, max_examples=100)
def test_any_question_and_trace_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, pairs: list[tuple[str, str]]
) -> None:
    pairs = [one for one in pairs if " ".join(one[0].split())]
    keys = [" ".join(question.split()) for question, _ in pairs]
    pairs = [one for at, one in enumerate(pairs) if keys.index(keys[at]) == at]
    path = write(tmp_path_factory.mktemp("any") / "t.jsonl", [SHAPES[name][1](*one) for one in pairs])
    if pairs:
        loaded = recorded.load(Recorded("weak", path))
        assert exchanges(loaded) == pairs
        assert loaded.quarantine == []


def test_reasoning_beside_the_answer_is_joined(tmp_path: Path) -> None:
    joined = "<think>\n2, 3, 4\n</think>\n\n4"
    beside = {"role": "assistant", "reasoning_content": "2, 3, 4\n", "content": "4"}
    user = {"role": "user", "content": "q"}
    whole = {"role": "assistant", "reasoning_content": "2, 3, 4", "content": joined}
    for row in (
        {"messages": [user, beside]},
        {"messages": [user, whole]},
        {"prompt": "q", "completion": [beside]},
        {"instruction": "q", "output": "4", "reasoning_content": "2, 3, 4"},
        {"question": "q", "response": "4", "reasoning": "2, 3, 4"},
    ):
        assert exchanges(recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [row])))) == [("q", joined)]
    contradicted = {"messages": [user, whole | {"reasoning_content": "other"}]}
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [{"messages": [user, beside]}, contradicted])))
    assert [(bad.line, "'reasoning_content' holds reasoning, but its end" in bad.reason) for bad in loaded.quarantine] == [
        (2, True)
    ]


def test_an_input_belongs_to_the_question(tmp_path: Path) -> None:
    rows = [{"instruction": "Add.", "input": "2 and 3", "output": "5"}]
    assert exchanges(recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows)))) == [("Add.\n2 and 3", "5")]


def test_lists_of_traces_are_samples(tmp_path: Path) -> None:
    rows = [
        {"problem": "q1", "answer": "3", "generations": ["a", "b", " "], "reasons": ["stop", "length", None]},
        {"problem": "q2", "answer": "4", "generations": ["c"], "reasons": [None]},
        {"problem": "q3", "answer": "4", "generations": "d", "reasons": "stop"},
        {"problem": "q4", "answer": "4", "generations": [], "reasons": []},
        {"problem": "q5", "answer": "4", "generations": ["e"], "reasons": ["tool"]},
        {"problem": "q6", "answer": "4", "generations": ["e", "f"], "reasons": ["stop"]},
        {"problem": "q7", "answer": "4", "generations": ["", 7], "reasons": ["stop", "stop"]},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    loaded = recorded.load(Recorded("weak", path, finish="reasons"))
    assert [(t.text, t.sample, t.finish, t.provenance) for t in loaded.traces] == [
        ("a", 0, "stop", "t.jsonl:1"),
        ("b", 1, "length", "t.jsonl:1"),
        ("c", 0, "stop", "t.jsonl:2"),
    ]
    assert len({trace.id for trace in loaded.traces}) == 3
    assert [p.answer for p in loaded.problems] == ["3", "4"]
    assert [(bad.line, bad.reason) for bad in loaded.quarantine] == [
        (1, "trace 2 of field 'generations' is empty"),
        (3, "field 'generations' holds str where other rows hold lists of traces"),
        (4, "field 'generations' is an empty list"),
        (5, "field 'reasons' holds 'tool', which is neither 'stop' nor 'length', nor another known word"),
        (6, "field 'reasons' holds 1 values for 2 traces"),
        (7, "none of its 2 traces can be used: trace 0 of field 'generations' is empty"),
    ]
    named = Recorded("weak", path, question="problem", trace="generations", gold="answer", limit=1)
    assert [t.text for t in recorded.load(named).traces] == ["a", "b"]
    both = recorded.load_all([Recorded("a", path), Recorded("b", write(tmp_path / "u.jsonl", [rows[0] | {"answer": "9"}]))])
    assert {trace.text for trace in both.traces} == {"c", "e", "f"}
    assert sum(bad.line == 1 and "another file" in bad.reason for bad in both.quarantine) == 2


def test_a_list_among_texts_is_no_trace(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "trace": trace, "gold": "1"} for i, trace in enumerate((["a"], ["b", "c"], "t"))]
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows)))
    assert exchanges(loaded) == [("q2", "t")]
    assert [bad.line for bad in loaded.quarantine] == [1, 2]
    assert {bad.reason for bad in loaded.quarantine} == {"field 'trace' is not text"}
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows[:2])))
    assert exchanges(loaded) == [("q0", "a"), ("q1", "b"), ("q1", "c")]


def test_gold_answers_of_recognised_shapes(tmp_path: Path) -> None:
    row: Row = {"messages": chat("q", "t")}
    cases: list[tuple[Row, dict[str, Any], str | None]] = [
        ({}, {}, None),
        ({"gold": "1", "answer": "2"}, {}, "1"),
        ({"answer": "so 1\n#### 2"}, {}, "2"),
        ({"expected_answer": 3}, {}, "3"),
        ({"solution": "then $x = \\boxed{\\frac{1}{2}}$."}, {}, "\\frac{1}{2}"),
        ({"solution": "the answer is 5"}, {}, None),
        ({"answer": "2"}, {"gold": None}, None),
        ({"answer": "2", "key": "6"}, {"gold": "key"}, "6"),
    ]
    for more, settings, gold in cases:
        loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [row | more]), **settings))
        assert loaded.problems[0].answer == gold
    with pytest.raises(UserError, match="has no field 'key'; its fields are messages, answer"):
        recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [row | {"answer": "2"}]), gold="key"))


USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "t"}
UNUSABLE: list[tuple[Any, str]] = [
    ([USER, ANSWER, USER, ANSWER], "a dialogue with 2 questions"),
    ([USER, ANSWER, ANSWER], "a dialogue of 3 turns"),
    ([ANSWER, USER], "a dialogue of 2 turns, not one question and one answer"),
    ([USER], "no assistant's turn"),
    ([ANSWER], "no user's turn"),
    ([], "no user's turn"),
    ([USER, ANSWER | {"content": " \n"}], "the assistant's turn is empty"),
    ([USER, ANSWER | {"content": None, "reasoning_content": "hm"}], "the assistant's turn is empty"),
    ([USER | {"content": ""}, ANSWER], "the user's turn is empty"),
    ([USER, ANSWER | {"tool_calls": [{"name": "f"}]}], "calls tools"),
    ([USER, {"role": "tool", "content": "4"}, ANSWER], "calls tools"),
    ([{"from": "human", "value": "q"}, {"from": "function_call", "value": "f"}, {"from": "gpt", "value": "t"}], "calls tools"),
    ([USER | {"content": [{"type": "image_url", "image_url": "x"}]}, ANSWER], "message 0 of field 'messages' holds an image"),
    ([USER | {"content": 7}, ANSWER], "holds int, not text"),
    ([USER, ANSWER | {"content": "\ud800"}], "half a surrogate pair"),
    ([USER, ANSWER | {"role": "narrator"}], "has the role 'narrator'"),
    ([USER, ANSWER | {"role": ["x"]}], "has the role ['x']"),
    ([USER, "t"], "message 1 of field 'messages' holds str, not role and content"),
    ({"role": ["user"], "content": ["q", "t"]}, "columns of different lengths"),
    ("q", "holds str, not a list of messages"),
    (None, "holds NoneType"),
]


def test_dialogues_that_are_no_single_exchange_are_set_aside(tmp_path: Path) -> None:
    good = {"messages": [USER, ANSWER]}
    rows = [good, *({"messages": value} for value, _ in UNUSABLE), good | {"images": ["x.png"]}, {"text": "q"}, good]
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows)))
    assert [trace.provenance for trace in loaded.traces] == ["t.jsonl:1", f"t.jsonl:{len(rows)}"]
    assert [bad.line for bad in loaded.quarantine] == list(range(2, len(rows)))
    reasons = [reason for _, reason in UNUSABLE] + ["'images' holds more than text", "field 'messages' is missing"]
    for bad, reason in zip(loaded.quarantine, reasons, strict=True):
        assert reason in bad.reason
        assert bad.reason.isprintable()


def test_rows_of_another_shape_are_set_aside(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER]}, {"prompt": "q", "completion": "t"}, {"messages": [USER, ANSWER]}]
    rows += [{"instruction": "q", "output": "t", "history": [["a", "b"]]}]
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", rows)))
    assert len(loaded.traces) == 2
    assert [bad.reason for bad in loaded.quarantine] == [
        "it has the shape prompt (prompt, completion), where the first rows have messages (messages)",
        "it has the shape instruction (instruction, output), where the first rows have messages (messages)",
    ]
    loaded = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [rows[3] | {"history": None}, rows[3]])))
    assert [(bad.line, bad.reason) for bad in loaded.quarantine] == [(2, "field 'history' makes it a dialogue of several turns")]


def test_ambiguous_files_name_the_settings_that_decide(tmp_path: Path) -> None:
    row = {
        "problem": "q",
        "solution": "s \\boxed{4}",
        "answer": "4",
        "generations": ["t1", "t2"],
        "messages": [USER, ANSWER],
        "conversations": [USER, ANSWER | {"content": "u"}],
        "prompt": "q",
        "completion": "v",
        "response": "w",
        "instruction": "q",
        "output": "x",
    }
    path = write(tmp_path / "t.jsonl", [row])
    with pytest.raises(UserError, match="can be read in 7 ways: set ") as error:
        recorded.load(Recorded("weak", path))
    ways = str(error.value).partition(": set ")[2].split("; ")
    traces = []
    for way in ways:
        settings = dict(part.split(" = ") for part in way.partition(" for ")[0].split(", "))
        loaded = recorded.load(Recorded("weak", path, **{name: value.strip("'") for name, value in settings.items()}))
        assert loaded.shape.startswith(way.partition(" for ")[2])
        assert loaded.problems[0].answer == "4"
        traces.append("/".join(trace.text for trace in loaded.traces))
    assert sorted(traces) == ["t", "t1/t2", "u", "v", "w", "w", "x"]
    plain = recorded.load(Recorded("weak", write(tmp_path / "t.jsonl", [row | {"question": "q", "trace": "t", "gold": "5"}])))
    assert (plain.shape, plain.problems[0].answer) == ("columns (question, trace)", "5")


def test_given_names_win(tmp_path: Path) -> None:
    rows = [{"messages": [USER, ANSWER], "ask": {"text": "q2"}, "turns": [USER, ANSWER | {"content": "u"}], "gold": "1"}]
    path = write(tmp_path / "t.jsonl", rows)
    with pytest.raises(UserError, match="has no field 'cot'; its fields are messages, ask, turns, gold"):
        recorded.load(Recorded("weak", path, question="ask.text", trace="cot"))
    assert exchanges(recorded.load(Recorded("weak", path, shape="messages", trace="turns"))) == [("q", "u")]
    assert exchanges(recorded.load(Recorded("weak", path, shape="prompt", question="ask.text", trace="gold"))) == [("q2", "1")]
    assert exchanges(recorded.load(Recorded("weak", path, question="ask.text", trace="turns.1.content"))) == [("q2", "u")]
    with pytest.raises(UserError, match="has no field 'prompt'"):
        recorded.load(Recorded("weak", path, shape="prompt"))
    with pytest.raises(UserError, match="has no field 'question'"):
        recorded.load(Recorded("weak", path, shape="columns"))


def test_wrappers_are_taken_off_questions(tmp_path: Path) -> None:
    problem = Problem.of("What is 2 + 2 ?", "4")
    rows = [
        {"question": f"Question: {problem.question}\nPlease reason step by step.", "response": "4"},
        {"question": "Please reason step by step.", "response": "5"},
        {"question": problem.question, "response": "6"},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    bare = recorded.load(Recorded("weak", path), [problem])
    assert ([trace.text for trace in bare.traces], bare.unmatched) == (["6"], 2)
    loaded = recorded.load(Recorded("weak", path, strip=("Please reason step by step.\n", "Question:")), [problem])
    assert ([trace.text for trace in loaded.traces], loaded.unmatched) == (["4", "6"], 0)
    assert [(bad.line, "nothing but what strip takes off" in bad.reason) for bad in loaded.quarantine] == [(2, True)]
    with pytest.raises(UserError, match="empty text in strip"):
        Recorded("weak", path, strip=("a", " "))


@pytest.mark.parametrize("form", ["file", "hf"])
def test_data_sets_are_read_like_files(tmp_path: Path, form: str) -> None:
    rows = [{"messages": chat(*pair), "level": 1} for pair in PAIRS]
    (tmp_path / "set").mkdir()
    write(tmp_path / "set" / "train.jsonl", rows)
    path = f"file:{tmp_path}/set/train.jsonl" if form == "file" else f"hf:{tmp_path}/set:train[1:]"
    loaded = recorded.load(Recorded("weak", path, meta=("level",)))
    assert exchanges(loaded) == PAIRS[form == "hf" :]
    assert loaded.problems[0].meta == {"level": 1}
    assert loaded.traces[0].provenance == ("train.jsonl:1" if form == "file" else "set:train:1")


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\ud800\x00"), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "tool"]) | JSON,
        "content": JSON,
        "value": JSON,
        "reasoning_content": JSON,
        "tool_calls": JSON,
    },
)
NAMES = (
    "question problem trace response generations gold answer solution messages conversations prompt completion instruction input"
)
NAMES += " output history images reasoning_content"
BROKEN = st.dictionaries(st.sampled_from(NAMES.split()), JSON | st.lists(TURN, max_size=3), max_size=5)


@given(st.lists(BROKEN | JSON, max_size=6), st.sampled_from(["auto", "columns", "messages", "prompt", "instruction"]))
@trials(deadline=None, max_examples=200)
def test_broken_rows_are_sentences(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], shape: Any) -> None:
    path = write(tmp_path_factory.mktemp("any") / "t.jsonl", rows)
    refused = ""
    try:
        loaded = recorded.load(Recorded("weak", path, shape=shape))
    except UserError as error:
        refused = str(error)
    if refused:
        assert refused.isprintable()
        assert len(refused) < 1500
        return
    lines = {int(trace.provenance.rpartition(":")[2]) for trace in loaded.traces}
    assert lines | {bad.line for bad in loaded.quarantine} == set(range(1, len(rows) + 1))
    assert all(trace.text.strip() for trace in loaded.traces)
    assert all(bad.reason and bad.reason.isprintable() and len(bad.reason) < 500 for bad in loaded.quarantine)
