import dataclasses

import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax import records
from w2sr_jax.errors import UserError
from w2sr_jax.records import Example, Problem, Trace, Verdict

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def trace(**changes):
    values = {
        "id": "t",
        "problem_id": "p",
        "teacher": "T",
        "sample": 0,
        "text": "1 + 1 = 2 #### 2",
        "answer": "2",
        "verdict": "correct",
        "finish": "stop",
        "tokens": 2,
        "mean_logprob": -0.5,
        "provenance": "file:1",
        "token_ids": (3, 4),
        "logprobs": (-0.5, -0.5),
    }
    return Trace(**{**values, **changes})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(TEXT, st.none() | TEXT, st.dictionaries(TEXT, st.integers(-(2**53), 2**53) | TEXT, max_size=3)), max_size=5
    )
)
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("records") / "problems.parquet"
    problems = [Problem.of(question, answer, None, "task", meta) for question, answer, meta in rows]
    records.write(path, Problem, problems)
    assert records.read(path, Problem) == problems


def test_a_trace_keeps_its_tokens_and_log_probabilities(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, [trace(), trace(id="u", answer=None, mean_logprob=None, token_ids=(), logprobs=())])
    first, second = records.read(path, Trace)
    assert first == trace()
    assert second.mean_logprob is None
    assert second.token_ids == ()


def test_equal_rows_are_equal_bytes(tmp_path):
    for name in ("a", "b"):
        records.write(tmp_path / name, Trace, [trace()])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_other_tools_read_the_files(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, [trace()])
    assert pd.read_parquet(path)["text"][0] == trace().text
    assert Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))[0]["token_ids"] == [3, 4]


def test_a_problems_id_follows_from_its_content():
    one = Problem.of("How many?", "3", task="t")
    assert one.id == Problem.of("How many?", "3", "a solution", "t", {"level": 1}).id
    assert one.id != Problem.of("How many?", "4", task="t").id


def test_grading_changes_the_verdict_and_nothing_else():
    graded = trace(verdict="ungraded", answer=None).graded(Verdict("incorrect", "3", "####", "exact"))
    assert (graded.verdict, graded.answer, graded.rule, graded.grader) == ("incorrect", "3", "####", "exact")
    assert dataclasses.replace(graded, verdict="correct", answer="2", rule="", grader="") == trace()


@pytest.mark.parametrize("content", [None, b"", b"PAR1 not really", b"x" * 1000])
def test_a_missing_or_damaged_file_is_one_sentence(tmp_path, content):
    path = tmp_path / "traces.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"traces\.parquet") as error:
        records.read(path, Trace)
    assert "\n" not in str(error.value)


def test_a_foreign_table_is_refused_by_the_missing_column(tmp_path):
    path = tmp_path / "examples.parquet"
    records.write(path, Problem, [Problem.of("q", "1")])
    assert pq.read_table(path).num_rows == 1
    with pytest.raises(UserError, match="problem_id"):
        records.read(path, Example)
