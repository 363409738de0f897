"""Rows of hostile files, against readings of the formats that share no code with the product."""

import base64
import gzip
import json
import os
import subprocess
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from w2sr_jax.core import tables
from w2sr_jax.core.errors import UserError
from w2sr_jax.problems import files, rows
from w2sr_jax.problems.settings import Files

GOOD = {"question": "How much is 2 and 3? é“”", "answer": "5", "level": 3}
CHARACTERS = st.characters() | st.sampled_from("\ud800\udfff\x00\u202e\u2028\ufeff\r\n#")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**4200, -(2**63), 1e308, float("nan"), float("inf")])
    | st.floats()
    | st.text(CHARACTERS, max_size=20)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8
)
ROWS = VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(("question", "answer", "level", "�", ""), VALUES))
ENDS = st.sampled_from(["\n", "\r\n"])


def spelled(value: Any, depth: int = 3) -> str | None:
    """The text that a field of a problem stands for."""
    if isinstance(value, list) and depth:
        parts = [spelled(part, depth - 1) for part in value]
        return None if None in parts else ", ".join(part for part in parts if part)
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, (bool, dict, list)) or value != value or abs(value) == float("inf"):
        return None
    return str(int(value)) if value == int(value) else str(value)


def usable(row: Any) -> bool:
    if not isinstance(row, dict) or not {"question", "answer"} <= set(row):
        return False
    texts = [spelled(row["question"]), spelled(row["answer"])]
    if any(
        text is None or not text.strip() or (not text.isascii() and text != text.encode("utf-8", "replace").decode())
        for text in texts
    ):
        return False
    return not ("####" in texts[1].strip() and not texts[1].strip().rpartition("####")[2].strip())


@given(st.lists(ROWS, max_size=5), st.integers(0, 5), ENDS, st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@example(
    [{"question": "q", "answer": "work #### "}, {"question": ["a", [["b"]]], "answer": [[[["c"]]]]}], 1, "\r\n", True, True, False
)
def test_any_rows_are_usable_or_set_aside(
    tmp_path_factory: pytest.TempPathFactory, others: list[Any], at: int, end: str, ascii_only: bool, mark: bool, last: bool
) -> None:
    everything = [*others[:at], GOOD, *others[at:]]
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in everything]
    # Half surrogate pairs have no UTF-8: such a line is no text, whatever it says.
    text = [line.encode("utf-8", "surrogatepass") for line in lines]
    readable = [usable(row) and line.decode("utf-8", "ignore") == plain for row, line, plain in zip(everything, text, lines)]
    path = tmp_path_factory.mktemp("rows") / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" * mark + end.encode().join(text) + end.encode() * last)
    problems, quarantine = files.load(Files(str(path)))
    assert [problem.meta["line"] for problem in problems] == [number for number, fine in enumerate(readable, 1) if fine]
    assert [row.line for row in quarantine.rows] == [number for number, fine in enumerate(readable, 1) if not fine]
    assert all(row.file == str(path) and row.reason and row.reason.isprintable() for row in quarantine.rows)
    rows = next(problem for problem in problems if problem.question == GOOD["question"])
    assert (rows.answer, rows.meta["level"]) == ("5", 3)


def test_lines_end_where_json_lines_end(tmp_path: Path) -> None:
    """A lone CR is white space in JSON, U+2028 and U+0085 are characters of a text; none ends a line."""
    path = tmp_path / "p.jsonl"
    path.write_bytes('{"question":\r"a\u2028b\u0085", "answer": "1"}\r\n\r\n{"question": "c", "answer": "2"}'.encode())
    problems, quarantine = files.load(Files(str(path)))
    assert [(problem.question, problem.meta["line"]) for problem in problems] == [("a\u2028b", 1), ("c", 3)]
    assert len(quarantine) == 0


def test_undecodable_bytes_and_doubled_fields_spoil_their_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    good = json.dumps(GOOD).encode()
    path.write_bytes(
        b"\n".join([good, b'{"question": "\xff", "answer": "1"}', b'{"answer": "1", "question": "q", "answer": "2"}', good])
    )
    problems, quarantine = files.load(Files(str(path)))
    assert [problem.meta["line"] for problem in problems] == [1, 4]
    assert [row.reason for row in quarantine.rows] == ["not UTF-8 text (byte 0xff at position 15)", "field 'answer' occurs twice"]


def test_a_doubled_field_deeper_down_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"question": "q", "answer": "1", "notes": {"a": 1, "a": 2}}\n')
    assert len(files.load(Files(str(path)))[0]) == 1


def test_ten_megabyte_lines_arrive_and_longer_ones_are_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.jsonl"
    long = {"question": "x" * 10_000_000, "answer": "1"}
    path.write_text("\n".join(json.dumps(row) for row in (GOOD, long, {"deep": [[]] * 1000}, GOOD)))
    problems, _ = files.load(Files(str(path)))
    assert [len(problem.question) for problem in problems][1] == 10_000_000
    monkeypatch.setattr(rows, "LONGEST_LINE", 2**20)
    problems, quarantine = files.load(Files(str(path)))
    assert [problem.meta["line"] for problem in problems] == [1, 4]
    assert (quarantine.rows[0].line, quarantine.rows[0].reason) == (2, "longer than 1 MiB")


def test_a_bomb_of_bad_rows_ends_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b"{\n" * 200_000))
    monkeypatch.setattr(rows, "MOST_REJECTED", 1000)
    with pytest.raises(UserError, match=r"more than 1,000 unusable rows, the first in line 1: not valid JSON"):
        files.load(Files(str(path)))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir])
def test_only_files_with_an_end_are_read(tmp_path: Path, make: Any) -> None:
    for name in ("p.jsonl", "p.jsonl.gz", "p.parquet"):
        make(tmp_path / name)
        with pytest.raises(UserError, match="not a regular file"):
            files.load(Files(str(tmp_path / name)))


@pytest.mark.parametrize("name", ["a\0b.jsonl", "x" * 5000 + ".parquet", "missing/p.jsonl"])
def test_impossible_paths_are_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError) as caught:
        files.load(Files(str(tmp_path / name)))
    assert str(caught.value).isprintable()


COLUMNS = {
    "text": (lambda n: pa.array([f"q{i}" for i in range(n)]), True),
    "large": (lambda n: pa.array([f"q{i}" for i in range(n)], pa.large_string()), True),
    "dictionary": (lambda n: pa.array([f"q{i}" for i in range(n)]).dictionary_encode(), True),
    "lists": (lambda n: pa.array([["a", None]] * n), True),
    "int": (lambda n: pa.array([2**62] * n), True),
    "float": (lambda n: pa.array([1.5] * n, pa.float32()), True),
    "nan": (lambda n: pa.array([float("nan")] * n), False),
    "null": (lambda n: pa.nulls(n), False),
    "bytes": (lambda n: pa.array([b"q"] * n), False),
    "decimal": (lambda n: pa.array([Decimal("1.5")] * n), False),
    "far future": (lambda n: pa.array([2**62] * n, pa.timestamp("ms")), False),
    "unknown zone": (lambda n: pa.array([0] * n, pa.timestamp("ms", tz="Mars/Olympus")), False),
    "impossible date": (lambda n: pa.array([2**30] * n, pa.date32()), False),
    "struct": (lambda n: pa.array([{"a": 1}] * n), False),
    "not UTF-8": (lambda n: pa.array([b"\xff"] * n).view(pa.string()), False),
}


@pytest.mark.parametrize("question", COLUMNS)
@pytest.mark.parametrize("field", ["question", "answer", "extra"])
def test_columns_of_any_type(tmp_path: Path, question: str, field: str) -> None:
    """A value that Python cannot hold spoils its row where it is needed, and nothing where it is not."""
    make, fine = COLUMNS[question]
    size = 3
    columns = {name: pa.array(["1", "2", "3"]) for name in ("question", "answer", "extra")}
    pq.write_table(pa.table(columns | {field: make(size)}), tmp_path / "p.parquet")
    if fine or field == "extra":
        problems, quarantine = files.load(Files(str(tmp_path / "p.parquet")))
        assert (len(problems), len(quarantine)) == (size, 0)
    else:
        with pytest.raises(UserError, match=f"first reason, line 1: field '{field}' (holds|is empty|cannot be read)"):
            files.load(Files(str(tmp_path / "p.parquet")))


def test_text_that_is_not_utf8_spoils_its_row_alone(tmp_path: Path) -> None:
    questions = pa.array([b"fine", b"\xff\xfe", b"fine too"]).view(pa.string())
    pq.write_table(pa.table({"question": questions, "answer": [1, 2, 3]}), tmp_path / "p.parquet")
    problems, quarantine = files.load(Files(str(tmp_path / "p.parquet")))
    assert [problem.meta["line"] for problem in problems] == [1, 3]
    assert [tuple(row)[1:] for row in quarantine.rows] == [(2, "field 'question' cannot be read (UnicodeDecodeError)")]


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    table = pa.table([pa.array(["a"]), pa.array(["1"]), pa.array(["2"])], names=["question", "answer", "answer"])
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(UserError, match="two columns that are called 'answer'"):
        files.load(Files(str(tmp_path / "p.parquet")))


def test_checksums_of_pages_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    table = pa.table({"question": ["unmistakable"], "answer": ["1"]})
    pq.write_table(table, path, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False)
    data = path.read_bytes()
    assert data.count(b"unmistakable") == 1
    path.write_bytes(data.replace(b"unmistakable", b"unmistakeable"[:12]))
    with pytest.raises(UserError, match="CRC checksum verification failed"):
        files.load(Files(str(path)))


def test_rows_that_a_table_lost_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"question": ["a"] * 3000, "answer": ["1"] * 3000}), path)
    whole = pq.ParquetFile.iter_batches
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *args, **options: list(whole(*args, **options))[:-1])
    with pytest.raises(UserError, match="it has 2816 rows where its footer says 3000"):
        files.load(Files(str(path)))
    assert len(files.load(Files(str(path), limit=5))[0]) == 5


def test_a_table_that_would_unpack_to_anything_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"question": ["x" * 10_000_000], "answer": ["1"]}), path, compression="zstd", use_dictionary=False)
    assert len(files.load(Files(str(path)))[0]) == 1
    monkeypatch.setattr(tables, "MOST_UNPACKED", 2**20)
    with pytest.raises(UserError, match=r"would unpack to 10,\d+,\d+ bytes"):
        files.load(Files(str(path)))


# A table of one row whose footer has one bin too many in a histogram of a column's levels: pyarrow 26 ends the process with an
# uncaught C++ exception when a column's metadata is asked for, and reports an error when the column is read.
FATAL = (
    "c-n<gv1-FG5Iw0z^^hflgajT;z#>Bv>Ow*XEnPZgFr7MN5ka&8$FVK9`K5kjhn^ibc1xikoy6(AyLV67!&AzE3odRr#S7ysTEm=Fl2p?v0MK?5g0cDwmr9cU!n"
    "O5geD)J(C9wnU9Islm<$=mqAerC2x`X8m_#~k+tlpe&_QxWDO@y#6$!y_IuI^JSDuc$pc<jSArcDGg$oIbC^bEgtxjVR`>G6W9NEr<gpQwa^8hUVi6Pd_#XhyTE"
    "2=xONGst90ccMr1Ud@I4Y(|FsL%#2ncWS>?c6GL5t3QYtIW`p1RA~z8u{TkC5<zu{2h8Kr);LVF*p=nN*7flezq{JwXz|^8dAm%NK?lwYDzrVrZ~p?k?n*o"
)


def test_damage_does_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_bytes(zlib.decompress(base64.b85decode(FATAL)))
    program = (
        "import sys; from w2sr_jax.core.errors import UserError; from w2sr_jax.problems.files import load\n"
        "from w2sr_jax.problems.settings import Files\n"
        "try:\n    load(Files(sys.argv[1]))\nexcept UserError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cannot be read as Parquet" in done.stdout


def test_what_is_set_aside_is_one_printable_line(tmp_path: Path) -> None:
    path = tmp_path / "a\n\u202eb.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"answer": "\x1b[2J"}) + "\n{\n")
    problems, quarantine = files.load(Files(str(path)))
    assert [problem.meta["file"] for problem in problems] == [r"a\n\u202eb.jsonl"] * 2
    assert str(quarantine.rows[0]).isprintable()
    rejected: list[rows.Rejected] = []
    rows.set_aside(rejected, "p.jsonl", 3, "it says\n\x00this")
    assert str(rejected[0]) == r"p.jsonl, line 3: it says\n\x00this"
