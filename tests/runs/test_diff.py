"""The first difference between two stages' outputs, as words name it."""

import json

import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hand_made import commit

from w2sr_jax.core import records
from w2sr_jax.core.records import Trace
from w2sr_jax.runs.diff import MOST, differences, in_checkpoints, in_files, in_values
from w2sr_jax.training import checkpoints


@pytest.fixture
def pair(tmp_path):
    """Two runs' directories."""
    runs = tmp_path / "old", tmp_path / "new"
    for run in runs:
        run.mkdir()
    return runs


def traces(texts, **changed):
    return [
        Trace(Trace.identity(f"p{i}", "t", 0, text), f"p{i}", "t", 0, text, "1", "correct", "stop", 3, -0.5, "x", **changed)
        for i, text in enumerate(texts)
    ]


def write_both(pair, name, write, old, new):
    paths = [run / name for run in pair]
    for path, value in zip(paths, (old, new), strict=True):
        write(path, value)
    return paths


def write_traces(path, rows):
    records.write(path, Trace, rows)


def write_json(path, value):
    path.write_text(json.dumps(value))


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_arrays(path, arrays):
    np.savez(path, **arrays)


def test_equal_files_have_no_difference(pair):
    assert in_files(*write_both(pair, "t.parquet", write_traces, traces(["a"]), traces(["a"]))) is None
    assert in_files(*write_both(pair, "x.bin", lambda p, v: p.write_bytes(v), b"abc", b"abc")) is None


@pytest.mark.parametrize("row", [0, 1, 511, 999])
def test_a_parquet_row_is_found_with_its_id_and_what_follows_from_the_text_is_not_named(pair, row):
    old = [f"{i} + 1 = {i + 1}" for i in range(1000)]
    new = list(old)
    new[row] = f"{row} + 1 = 7000"
    new[-1] += "."
    words = in_files(*write_both(pair, "t.parquet", write_traces, traces(old), traces(new)))
    assert f"row {row:,} " in words
    assert Trace.identity(f"p{row}", "t", 0, old[row]) in words
    assert f"column 'text' was {json.dumps(old[row])}, is " in words


def test_rows_that_came_or_went_are_named(pair):
    words = in_files(*write_both(pair, "t.parquet", write_traces, traces("abc"), traces("ab")))
    assert "there were 3 rows and are 2" in words
    assert f'row 2 (id "{Trace.identity("p2", "t", 0, "c")}") is missing' in words


def test_a_number_in_a_list_is_named_and_nan_equals_itself(pair):
    nan = float("nan")
    old, new = (traces(["a", "b"], logprobs=(nan, -1.0, last)) for last in (-0.5, -0.25))
    old[0] = new[0]
    words = in_files(*write_both(pair, "t.parquet", write_traces, old, new))
    assert "row 1 " in words
    assert "column 'logprobs' at 2 was -0.5, is -0.25" in words


def test_a_column_that_is_missing_is_named(pair):
    old, new = pa.table({"id": ["a"], "b": [1]}), pa.table({"id": ["a"]})
    assert in_files(*write_both(pair, "t.parquet", lambda p, t: pq.write_table(t, p), old, new)) == (
        "column 'b' was there and is missing"
    )


def test_of_a_long_text_what_surrounds_the_difference_is_shown_with_hidden_characters_escaped(pair):
    old, new = "x" * 5000 + "left" + "y" * 5000, "x" * 5000 + "ri\x1bght" + "y" * 5000
    words = in_files(*write_both(pair, "t.parquet", write_traces, traces([old]), traces([new])))
    assert "left" in words
    assert "ri\\u001bght" in words
    assert len(words) < 300


def test_a_line_and_its_key_are_named(pair):
    old = [{"step": step, "loss": 1 / step, "clipped": False} for step in range(1, 30)]
    new = [dict(row) for row in old]
    new[16]["loss"] += 1e-9
    words = in_files(*write_both(pair, "metrics.jsonl", write_lines, old, new))
    assert words.startswith("line 17, loss was 0.0588")
    words = in_files(*write_both(pair, "metrics.jsonl", write_lines, old, old[:-1]))
    assert words == "there were 29 lines and are 28"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "a.1.b was 2, is 3"),
        ({"a": 1, "b": 1}, {"a": 1}, "b was there and is missing"),
        ({"a": 1}, {"a": 1, "b": 1}, "b is there only now"),
        ([1, 2], [1, 2, 3], "2 is there only now"),
        ({"a": 1}, {"a": True}, "a was 1, is true"),
        ({"a": 1}, {"a": None}, "a was 1, is null"),
        ({"a": {"x": 1}}, {"a": {"x": 1}}, None),
    ],
)
def test_a_value_in_json_is_named_by_its_path(pair, old, new, words):
    assert in_values(old, new) == words
    if words:
        assert in_files(*write_both(pair, "r.json", write_json, old, new)) == words


def test_an_array_its_row_and_its_index_are_named(pair):
    old = {"tokens": np.arange(12).reshape(3, 4), "weight": np.array([np.nan, 1.0], np.float32)}
    new = {"tokens": old["tokens"].copy(), "weight": old["weight"]}
    new["tokens"][2, 1] = 5
    assert in_files(*write_both(pair, "p.npz", write_arrays, old, new)) == "array 'tokens', row 2, index 1 was 9, is 5"
    new = {"tokens": old["tokens"][:2], "weight": old["weight"]}
    assert in_files(*write_both(pair, "p.npz", write_arrays, old, new)) == "array 'tokens' was int64 [3, 4] and is int64 [2, 4]"
    minus = {"weight": np.array([0.0, 1.0])}, {"weight": np.array([-0.0, 1.0])}
    assert in_files(*write_both(pair, "p.npz", write_arrays, *minus)) == "array 'weight', row 0 was 0.0, is -0.0"


def test_other_files_and_files_that_cannot_be_read_are_compared_by_bytes(pair):
    old, new = b"a" * 3_000_000, b"a" * 2_500_000 + b"b"
    paths = write_both(pair, "x.bin", lambda p, v: p.write_bytes(v), old, new)
    assert in_files(*paths) == "byte 2,500,000 is the first that differs; it had 3,000,000 bytes and has 2,500,001"
    paths = write_both(pair, "x.parquet", lambda p, v: p.write_bytes(v), b"nothing", b"nothinG")
    assert in_files(*paths).startswith("byte 6 is the first that differs (and one of the files cannot be read: ")


def test_bytes_that_differ_around_equal_rows_are_said_to(pair):
    def write(path, compression):
        pq.write_table(pa.table({"id": ["a"] * 50}), path, compression=compression)

    assert in_files(*write_both(pair, "t.parquet", write, "zstd", "none")).startswith("all rows agree, and yet byte ")


def test_a_parameter_is_named_with_shape_distance_and_count(pair):
    old = {"embedding": jnp.ones((3, 2)), "layers": {"up": jnp.zeros((4,), jnp.bfloat16), "down": jnp.zeros((2,))}}
    new = {
        "embedding": old["embedding"],
        "layers": {"up": old["layers"]["up"].at[1].set(0.5).at[3].set(-2), "down": old["layers"]["down"]},
    }
    paths = [run / "checkpoints" for run in pair]
    for path, params in zip(paths, (old, new), strict=True):
        checkpoints.save_params(path, params, {})
    assert in_checkpoints(*paths) == (
        "parameter ['layers']['up'] (bfloat16 [4]) differs in 2 of 4 elements, by 2 at most; 1 of 3 parameters differ"
    )
    assert in_checkpoints(paths[0], paths[0]) is None
    assert "cannot be compared" in in_checkpoints(paths[0], pair[0])


def manifest(run, **outputs):
    for name, text in outputs.items():
        (run / name).write_text(text)
    return commit(run, "s", "prepare", [run / name for name in outputs])


def test_a_stages_files_are_looked_at_in_the_order_of_their_names(pair):
    old = manifest(pair[0], c="1", b="2", a="3", gone="4")
    new = manifest(pair[1], c="9", b="8", a="3", come="4")
    found = differences(*pair, old, new)
    assert [difference.path for difference in found] == ["b", "c", "come", "gone"]
    assert found[0].words == "byte 0 is the first that differs"
    assert (found[2].words, found[3].words) == ("it is there only now", "it was there and is missing")
    assert differences(*pair, old, old) == []


def test_a_file_that_was_changed_after_its_manifest_is_said_to_be(pair):
    old, new = manifest(pair[0], a="1"), manifest(pair[1], a="2")
    (pair[1] / "a").write_text("1")
    (found,) = differences(*pair, old, new)
    assert "one was changed after it was written" in found.words


def test_not_more_than_a_few_files_are_looked_into(pair):
    old = manifest(pair[0], **{f"f{i:02d}": "1" for i in range(30)})
    new = manifest(pair[1], **{f"f{i:02d}": "2" for i in range(30)})
    assert len(differences(*pair, old, new)) == MOST
