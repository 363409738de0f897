"""Columns that say how recorded traces ended."""

import json
from pathlib import Path
from typing import Any

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

ROW = {"question": "1 + 1?", "trace": "It is 2", "gold": "2"}


def load(tmp_path: Path, *rows: dict[str, Any], **settings: Any) -> recorded.Loaded:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(ROW | row) + "\n" for row in rows))
    return recorded.load(Recorded("weak", str(path), **settings))


@pytest.mark.parametrize("name", ["finish_reason", "stop_reason", "done_reason", "finish"])
def test_a_column_that_servers_fill_is_read_by_their_words(tmp_path: Path, name: str) -> None:
    reasons = ["stop", "length", "MAX_TOKENS", "end_turn", "abort", "content_filter", None]
    loaded = load(tmp_path, *({name: word} for word in reasons))
    assert [trace.finish for trace in loaded.traces] == ["stop", "length", "length", "stop", "length", "length", "stop"]
    assert dict(loaded.notes) == {f"how it ended is read in column {name!r}": 6}
    assert {trace.finish for trace in load(tmp_path, {name: "length"}, finish="").traces} == {"stop"}


def test_a_switch_says_whether_a_trace_was_cut_or_finished(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"truncated": True}, {"truncated": False}, {"truncated": "True"})
    assert [trace.finish for trace in loaded.traces] == ["length", "stop", "length"]
    loaded = load(tmp_path, {"completed": True}, {"completed": False}, finish="completed")
    assert [trace.finish for trace in loaded.traces] == ["stop", "length"]


def test_words_that_are_not_known_are_refused_by_row(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"finish_reason": "stop"}, {"finish_reason": "odd"}, {"finish_reason": 7})
    assert [(bad.line, "holds 'odd'" in bad.reason or "holds 7" in bad.reason) for bad in loaded.quarantine] == [
        (2, True),
        (3, True),
    ]
    with pytest.raises(UserError, match=r"field 'end' holds 'odd', which is neither 'stop' nor 'length', nor another known word"):
        load(tmp_path, {"end": "odd"}, finish="end")


def test_a_column_of_something_else_is_left_alone(tmp_path: Path) -> None:
    for odd in ("matte", 7, ["a"], {"a": 1}, ""):
        loaded = load(tmp_path, {"finish": odd}, {"finish": odd})
        assert ([trace.finish for trace in loaded.traces], len(loaded.quarantine), dict(loaded.notes)) == (
            ["stop", "stop"],
            0,
            {},
        )
    both = load(tmp_path, {"finish_reason": "length", "stop_reason": "\n\n"})  # as vLLM writes them
    assert [trace.finish for trace in both.traces] == ["length"]
