import dataclasses
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Example, Problem, Stored, Trace, Verdict
from w2sr_jax.curation.dispositions import Disposition

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


def test_a_trace_of_its_text_alone_is_ungraded_and_known_by_its_content():
    trace = Trace.of("p", "T", 1, "1 + 1 = 2 #### 2")
    assert (trace.verdict, trace.answer, trace.finish, trace.tokens) == ("ungraded", None, "stop", 0)
    assert trace.id == Trace.identity("p", "T", 1, "1 + 1 = 2 #### 2")
    assert trace.graded(Verdict("correct", "2", "####", "exact")).verdict == "correct"
    assert len({trace.id, Trace.of("p", "T", 0, trace.text).id, Trace.of("q", "T", 1, trace.text).id}) == 3


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


def traces():
    """Rows with every kind of value: absent ones, empty lists, letters beyond ASCII."""
    return [
        trace(
            id=f"t{i}",
            sample=i,
            text="é" * i,
            answer="2" if i % 2 else None,
            mean_logprob=None if i % 3 else -0.25 * i,
            token_ids=(3,) * i,
        )
        for i in range(6)
    ]


def refused(path):
    """What reading says, or None where it gives the rows that were written."""
    try:
        rows = records.read(path, Trace)
    except UserError as error:
        return str(error)
    assert rows == traces()
    return None


def test_no_flipped_bit_changes_a_row_unnoticed(tmp_path):
    """Checksums cover the pages, the digest of the values all else; a flip that is not noticed changed nothing."""
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    data, refusals = path.read_bytes(), []
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ (128 if at % 2 else 1)]) + data[at + 1 :])
        refusals.append(refused(path))
    noticed = [text for text in refusals if text]
    assert len(noticed) > len(refusals) / 3
    assert all(text.startswith(str(path)) and text.isprintable() for text in noticed)
    assert any("CRC checksum" in text for text in noticed)


def rewrite(path, table, **options):
    """Another tool's table in place of ours, with what ours said of its rows."""
    metadata = {key: value for key, value in pq.read_metadata(path).metadata.items() if key.startswith(b"w2sr")}
    assert metadata
    pq.write_table(table.replace_schema_metadata(metadata), path, **options)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("text", lambda values: [*values[:-1], "other"]),
        ("answer", lambda values: ["" if value is None else value for value in values]),
        ("mean_logprob", lambda values: [0.0 if value is None else value for value in values]),
        ("token_ids", lambda values: [*values[1:], values[0]]),
        ("logprobs", lambda values: [*values[:-1], [-0.5, -0.25]]),
        ("sample", lambda values: values[::-1]),
    ],
)
def test_the_digest_is_of_every_value(tmp_path, column, change):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    table = pq.read_table(path)
    field = table.schema.field(column)
    changed = pa.array(change(table[column].to_pylist()), field.type)
    rewrite(path, table.set_column(table.schema.get_field_index(column), field, changed))
    with pytest.raises(UserError, match="is damaged: its rows are not those that were written"):
        records.read(path, Trace)


def test_the_digest_does_not_depend_on_how_a_table_is_cut(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    table = pq.read_table(path)
    pieces = pa.concat_tables([table.slice(0, 1), table.slice(1, 0), table.slice(1, 3), table.slice(4)])
    rewrite(path, pieces, row_group_size=2, compression="none", use_dictionary=False)
    assert records.read(path, Trace) == traces()


def test_rows_lost_by_the_file_are_noticed(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    rewrite(path, pq.read_table(path).slice(0, 5))
    with pytest.raises(UserError, match="damaged"):
        records.read(path, Trace)


def test_rows_added_to_a_file_are_noticed(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    table = pq.read_table(path)
    rewrite(path, pa.concat_tables([table, table.slice(0, 1)]))
    with pytest.raises(UserError, match="damaged"):
        records.read(path, Trace)


def test_rows_are_written_and_read_as_they_come(tmp_path, monkeypatch):
    """No more than a group is asked for before it is written, and none of the next group is read before it is asked for."""
    monkeypatch.setattr(records, "GROUP", 2)
    path, asked, sizes = tmp_path / "traces.parquet", [], []
    table = records.pq.ParquetWriter.write_table

    def written(self, part, *rest, **options):
        sizes.append((len(part), len(asked)))
        return table(self, part, *rest, **options)

    monkeypatch.setattr(records.pq.ParquetWriter, "write_table", written)
    records.write(path, Trace, (asked.append(trace) or trace for trace in traces()[:5]))
    assert sizes == [(2, 2), (2, 4), (1, 5)]
    assert pq.read_metadata(path).num_row_groups == 3
    last = traces()[5]  # not the row that was written fifth
    rewrite(path, pa.concat_tables([pq.read_table(path).slice(0, 4), pa.Table.from_pylist([last.row()], Trace.schema())]))
    rows = records.iterate(path, Trace)
    assert [next(rows) for _ in range(4)] == traces()[:4]
    with pytest.raises(UserError, match=str(path)):
        next(rows)


def test_columns_can_be_left_out(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    light = records.read(path, Trace, without=("token_ids", "logprobs"))
    assert light == [dataclasses.replace(trace, token_ids=(), logprobs=()) for trace in traces()]


def test_tables_that_other_tools_wrote_are_read(tmp_path):
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, traces())
    pd.read_parquet(path).to_parquet(path)
    assert records.read(path, Trace) == traces()


@pytest.mark.parametrize(
    ("kind", "rows", "words"),
    [
        (Trace, [{**trace().row(), "sample": "first"}], "ArrowInvalid"),
        (Trace, [{**trace().row(), "verdict": "perhaps"}], "column 'verdict' holds 'perhaps'"),
        (Trace, [{**trace().row(), "finish": "later"}], "column 'finish' holds 'later'"),
        (Trace, [trace().row(), {**trace().row(), "text": None}], "null"),
        (Problem, [{**Problem.of("q", "1").row(), "meta": "{"}], "JSONDecodeError"),
        (Problem, [{**Problem.of("q", "1").row(), "meta": "[]"}], "column 'meta' does not hold a JSON object"),
    ],
)
def test_foreign_values_are_refused_in_one_sentence(tmp_path, kind, rows, words):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    with pytest.raises(UserError, match="is not a table of") as error:
        records.read(path, kind)
    assert words in str(error.value)
    assert str(error.value).isprintable()


def test_only_the_rows_of_some_problems_can_be_read(tmp_path):
    rows = [Disposition(f"t{number}", f"p{number % 3}", "all", "given", "kept") for number in range(9)]
    records.write(tmp_path / "a.parquet", Disposition, rows)
    assert records.read(tmp_path / "a.parquet", Disposition, {"p1", "p9"}) == rows[1::3]
    assert records.read(tmp_path / "a.parquet", Disposition, ()) == []


def test_a_stored_sequence_is_the_list_it_stands_for(tmp_path: Path) -> None:
    rows = [Problem(str(n), f"question {n}", str(n), None, "test", {"n": n}) for n in range(20)]
    records.write(tmp_path / "p.parquet", Problem, rows)
    stored = records.Stored(tmp_path / "p.parquet", Problem)
    assert list(stored) == list(stored) == rows  # read twice
    assert len(stored) == 20
    for index in (0, 7, 19, -1, -20):
        assert stored[index] == rows[index]
    ahead = (slice(3), slice(3, 9), slice(15, None), slice(None, None, 6), slice(9, 3))
    for part in (*ahead, slice(None, None, -1), slice(17, 2, -4)):
        assert stored[part] == rows[part]
    with pytest.raises(IndexError):
        stored[20]
    with pytest.raises(UserError, match="does not exist"):
        records.Stored(tmp_path / "none.parquet", Problem)
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(UserError, match="is not a table of Problem rows"):
        records.Stored(tmp_path / "bad.parquet", Problem)


def test_reading_holds_no_groups_that_were_read(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "GROUP", 64)
    path, like, numbers = tmp_path / "traces.parquet", traces()[0], random.Random(0)
    rows = (dataclasses.replace(like, id=str(number), text=numbers.randbytes(1 << 15).hex()) for number in range(2048))
    records.write(path, Trace, rows)
    most, before = 0, pa.total_allocated_bytes()
    for _ in records.iterate(path, Trace):
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 8 * 64 * (1 << 16)  # of 32 groups


def test_a_part_of_the_stored_rows_is_a_sequence_of_its_own(tmp_path):
    records.write(tmp_path / "traces.parquet", Trace, traces())
    every = Stored(tmp_path / "traces.parquet", Trace)
    some = every.between(1, 5)
    assert (len(every), len(some)) == (len(traces()), 4)
    assert list(some) == traces()[1:5] == some[:]
    assert (some[0], some[-1], some[1:3]) == (traces()[1], traces()[4], traces()[2:4])
    assert list(some.between(1, 3)) == traces()[2:4]
    assert list(every) == traces()
