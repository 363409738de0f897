"""What was recorded of a teacher's distribution lies in columns of its own, in the files that have some and in no other."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from w2sr_jax.core import records, topk
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.core.topk import TopK


def recorded(seed: int, positions: int, count: int = 3) -> TopK:
    draw = np.random.default_rng(seed)
    ids = draw.integers(0, 1000, (positions, count)).astype(np.int32)
    return TopK(
        ids, -draw.exponential(size=(positions, count)).astype(np.float32), -draw.exponential(size=positions).astype("f4")
    )


def trace(number: int, top: TopK | None) -> Trace:
    count = 0 if top is None else len(top.rest)
    drawn = (7,) * count, (-0.5,) * count
    return Trace(f"t{number}", "p", "T", number, "a", "2", "correct", "stop", count, -0.5, "file", "", "", *drawn, top)


TRACES = [trace(0, recorded(0, 4)), trace(1, None), trace(2, recorded(1, 1, 5)), trace(3, recorded(2, 7))]


def check_same(one: Trace, other: Trace) -> None:
    assert one == other
    if one.top is None or other.top is None:
        assert one.top is other.top
        return
    assert one.top.available is other.top.available is None
    for a, b in zip(one.top[:3], other.top[:3], strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, TRACES, top=True)
    assert records.has_top(path, Trace)
    for one, other in zip(records.read(path, Trace), TRACES, strict=True):
        check_same(one, other)
    some = records.Stored(path, Trace).between(2, 4)
    check_same(some[0], TRACES[2])
    assert [row.top for row in records.read(path, Trace, without=("token_ids", "top"))] == [None] * 4


def test_a_file_without_them_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    records.write(tmp_path / "plain", Trace, [dataclasses.replace(row, top=None) for row in TRACES])
    records.write(tmp_path / "left out", Trace, TRACES)
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "left out").read_bytes()
    assert not records.has_top(tmp_path / "plain", Trace)
    assert not set(topk.COLUMNS) & set(pq.read_schema(tmp_path / "plain").names)


def test_other_tools_read_them(tmp_path: Path) -> None:
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, TRACES, top=True)
    row, first = pd.read_parquet(path).iloc[0], TRACES[0].top
    assert first is not None
    np.testing.assert_array_equal(row["top_ids"].reshape(len(row["token_ids"]), -1), first.ids)
    dataset = Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    np.testing.assert_allclose(dataset[0]["top_logprobs"], first.logprobs.reshape(-1))
    assert dataset[1]["top_rest"] == []


def test_many_of_them_are_written_in_smaller_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "GROUP_BYTES", 1000)
    path, rows = tmp_path / "traces.parquet", [trace(number, recorded(number, 10)) for number in range(20)]
    records.write(path, Trace, rows, top=True)
    groups = pq.read_metadata(path)
    assert [groups.row_group(index).num_rows for index in range(groups.num_row_groups)] == [4] * 5
    for one, other in zip(records.read(path, Trace), rows, strict=True):
        check_same(one, other)


@pytest.mark.parametrize("name", topk.COLUMNS)
def test_columns_that_do_not_fit_together_are_said(tmp_path: Path, name: str) -> None:
    path = tmp_path / "traces.parquet"
    records.write(path, Trace, TRACES, top=True)
    table = pq.read_table(path)
    index = table.column_names.index(name)
    short = pa.array([values[:-1] for values in table.column(index).to_pylist()], table.schema.field(index).type)
    pq.write_table(table.set_column(index, table.schema.field(index), short), path)
    with pytest.raises(UserError, match="do not have the same positions"):
        records.read(path, Trace)
