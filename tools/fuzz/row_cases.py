"""Fuzz cases of tables: JSON Lines, gzip and Parquet, with references that know which rows must arrive."""

import gzip
import io
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from mutate import json_value, mutated

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.problems import files
from w2sr_jax.problems.settings import Files
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded


class Outcome(NamedTuple):
    """What became of one input: accepted or refused, and how many of its rows arrived or were quarantined."""

    accepted: bool
    arrived: int = 0
    quarantined: int = 0
    said: str = ""


class Broken(Exception):
    """A promise that an input made the product break."""


GOOD = [
    {
        "question": f"How much is {i} and {i + 3}? “ü”",
        "answer": f"{i}+{i + 3}=<<{i}+{i + 3}={2 * i + 3}>>{2 * i + 3}\n#### {2 * i + 3}",
    }
    for i in range(8)
]
TRACES = [
    {
        "question": f"How much is {i // 2} and 3?",
        "trace": f"{i // 2} + 3 = {i // 2 + 3} #### {i // 2 + 3}",
        "gold": str(i // 2 + 3),
        "n": i,
    }
    for i in range(8)
]


def problems_jsonl(rng: random.Random, folder: Path) -> Outcome:
    return _problems(folder / "in.jsonl", mutated(rng, _lines(rng, GOOD)))


def problems_gz(rng: random.Random, folder: Path) -> Outcome:
    """Half of the time the packed bytes are damaged, which is noticed; else the text was, before it was packed."""
    level, inside = rng.choice((0, 1, 9)), rng.random() < 0.5
    text = _lines(rng, GOOD)
    packed = gzip.compress(mutated(rng, text) if inside else text, level, mtime=0)
    return _problems(folder / "in.jsonl.gz", packed if inside else mutated(rng, packed, 0.5))


def problems_rows(rng: random.Random, folder: Path) -> Outcome:
    rows: list[Any] = [*rng.sample(GOOD, 3), *(_odd(rng, GOOD) for _ in range(rng.randrange(1, 9)))]
    rng.shuffle(rows)
    return _problems(folder / "in.jsonl", _lines(rng, rows))


def traces_jsonl(rng: random.Random, folder: Path) -> Outcome:
    return _traces(folder / "in.jsonl", mutated(rng, _lines(rng, TRACES)))


def traces_rows(rng: random.Random, folder: Path) -> Outcome:
    rows: list[Any] = [*rng.sample(TRACES, 3), *(_odd(rng, TRACES) for _ in range(rng.randrange(1, 9)))]
    rng.shuffle(rows)
    return _traces(folder / "in.jsonl", _lines(rng, rows))


def _odd(rng: random.Random, good: list[dict[str, Any]]) -> Any:
    """A row in which something is wrong, or a line that is no row."""
    row: Any = {**rng.choice(good)}
    how = rng.randrange(6)
    if how == 0:
        return json_value(rng)
    if how == 1:
        return rng.choice(
            (
                b"",
                b"  ",
                b"{",
                b'{"a": 1} x',
                b'{"question": "q", "question": "r", "answer": "1"}',
                b"[" * 50_000,
                b"\xff",
                b"\x0c",
            )
        )
    if how == 2:
        del row[rng.choice(list(row))]
    elif how == 3:
        row[json_value(rng, 0) if rng.random() < 0.2 else "more"] = json_value(rng)
        row = {str(key): value for key, value in row.items()}
    else:
        row[rng.choice(list(row))] = json_value(rng)
    return row


def _lines(rng: random.Random, rows: Iterable[Any]) -> bytes:
    ascii_only = rng.random() < 0.5
    end = rng.choice((b"\n", b"\n", b"\r\n"))
    encoded = [
        row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        for row in rows
    ]
    return rng.choice((b"", b"", b"\xef\xbb\xbf")) + end.join(encoded) + rng.choice((b"", end))


def parsed(line: bytes) -> dict[str, Any] | None:
    """The object on a line, by the plainest reading of JSON Lines; None where there is none or a field occurs twice."""
    twice = []

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.append(len({name for name, _ in found}) < len(found))
        return dict(found)

    try:
        value = json.loads(line.decode().lstrip("\ufeff").strip(" \t\r\n"), object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return None
    return None if not isinstance(value, dict) or twice[-1] else value


def _same(row: dict[str, Any], among: list[dict[str, Any]]) -> bool:
    """Whether a row is one of these, with the same types."""
    return json.dumps(row, sort_keys=True) in {json.dumps(one, sort_keys=True) for one in among}


def _numbered(data: bytes) -> dict[int, bytes]:
    """Lines that are not blank, by number."""
    lines = enumerate(data.split(b"\n"), 1)
    return {number: line for number, line in lines if line.decode("utf-8", "replace").lstrip("\ufeff").strip(" \t\r")}


def _content(path: Path, data: bytes) -> bytes | None:
    """The text of a file, unpacked where it is packed; None where that fails."""
    path.write_bytes(data)
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def _judge(lines: dict[int, bytes], arrived: list[int], quarantine: Iterable[files.Rejected], path: Path) -> list[files.Rejected]:
    """Each line is there once, as a row or in the quarantine with its reason; what is no object is in the quarantine."""
    bad = list(quarantine)
    for number, count in Counter([*arrived, *(row.line for row in bad)]).items():
        if count != 1 or number not in lines:
            raise Broken(f"line {number} was counted {count} times")
    lost = sorted(set(lines) - set(arrived) - {row.line for row in bad})
    if lost:
        raise Broken(f"line {lost[0]} is neither among the rows nor in the quarantine")
    for row in bad:
        if row.file != str(path) or not row.reason.strip() or not row.reason.isprintable() or len(row.reason) > 500:
            raise Broken(f"line {row.line} is quarantined as {row!r}")
    for number in arrived:
        if parsed(lines[number]) is None:
            raise Broken(f"line {number} arrived, but it holds no object")
    return bad


def _problems(path: Path, data: bytes) -> Outcome:
    text = _content(path, data)
    lines = _numbered(text or b"")
    good = {number: row for number, line in lines.items() if (row := parsed(line)) is not None and _same(row, GOOD)}
    try:
        problems, quarantine = files.load(Files(str(path)))
    except UserError as error:
        if good and text is not None:
            raise Broken(f"{len(good)} good rows were refused: {error}") from None
        return Outcome(False, said=str(error))
    if text is None:
        raise Broken("a damaged file was accepted")
    found = {problem.meta["line"]: problem for problem in problems}
    bad = _judge(lines, [problem.meta["line"] for problem in problems], quarantine.rows, path)
    for number, row in good.items():
        answer = str(row["answer"]).rpartition("####")[2].strip()
        if number not in found or (found[number].question, found[number].answer) != (row["question"], answer):
            raise Broken(f"the good row on line {number} did not arrive")
    records.write(path.with_name("out.parquet"), records.Problem, problems)
    if records.read(path.with_name("out.parquet"), records.Problem) != problems:
        raise Broken("what arrived is not what was written")
    return Outcome(True, len(problems), len(bad))


def _traces(path: Path, data: bytes) -> Outcome:
    lines = _numbered(_content(path, data) or b"")
    rows = {number: row for number, line in lines.items() if (row := parsed(line)) is not None}
    asked = Counter(" ".join(str(row.get("question")).split()) for row in rows.values())
    good = {number: row for number, row in rows.items() if _same(row, TRACES)}
    try:
        loaded = recorded.load(Recorded("weak", str(path), sample="n", meta=("level", "more")))
    except UserError as error:
        if good:
            raise Broken(f"{len(good)} good rows were refused: {error}") from None
        return Outcome(False, said=str(error))
    found = {int(trace.provenance.rpartition(":")[2]): trace for trace in loaded.traces}
    bad = _judge(lines, list(found), loaded.quarantine, path)
    disputed = {row.line for row in bad if "different gold" in row.reason}
    for number, row in good.items():
        if number in disputed and asked[" ".join(row["question"].split())] > 1:
            continue
        if number not in found or found[number].text != row["trace"]:
            raise Broken(f"the good row on line {number} did not arrive")
    if len({(trace.problem_id, trace.sample) for trace in loaded.traces}) != len(loaded.traces):
        raise Broken("two traces have one number")
    records.write(path.with_name("out.parquet"), Trace, loaded.traces)
    records.write(path.with_name("asked.parquet"), records.Problem, loaded.problems)
    return Outcome(True, len(loaded.traces), len(bad))


def parquet_own(rng: random.Random, folder: Path) -> Outcome:
    """A table that we wrote ourselves: damaged, it is refused, or it still holds exactly what was written."""
    path = folder / "in.parquet"
    traces = [
        Trace(
            f"t{i}",
            f"p{i}",
            "w",
            i,
            f"{i} + 1 = {i + 1} ü",
            None if i % 3 else "1",
            "correct",
            "stop",
            i,
            None if i % 2 else -0.5,
            "f",
            "",
            "",
            tuple(range(i)),
            (-0.5,) * i,
        )
        for i in range(rng.choice((1, 6, 30)))
    ]
    records.write(path, Trace, traces)
    path.write_bytes(mutated(rng, path.read_bytes(), 0.2))
    try:
        again = records.read(path, Trace)
    except UserError as error:
        return Outcome(False, said=str(error))
    if again != traces:
        raise Broken("damage changed rows without being noticed")
    return Outcome(True, len(again))


def parquet_foreign(rng: random.Random, folder: Path) -> Outcome:
    """Somebody else's table, without checksums: rows in order, or one sentence."""
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([{**row, "level": i, "tags": ["a"] * i} for i, row in enumerate(GOOD * rng.choice((1, 40)))])
    pq.write_table(
        table,
        buffer,
        compression=rng.choice(("none", "snappy", "zstd", "gzip")),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
        row_group_size=rng.choice((3, 1000)),
        store_schema=rng.random() < 0.7,
    )
    return _table(folder / "in.parquet", mutated(rng, buffer.getvalue(), 0.2), None)


def parquet_types(rng: random.Random, folder: Path) -> Outcome:
    """A sound table whose columns hold what no problem has; rows of text and numbers arrive."""
    size = rng.randrange(1, 6)
    makers = {
        "text": lambda: pa.array([f"question {i}" for i in range(size)]),
        "large": lambda: pa.array([f"question {i}" for i in range(size)], pa.large_string()),
        "view": lambda: pa.array([f"question {i}" for i in range(size)], pa.string_view()),
        "dictionary": lambda: pa.array([f"question {i % 2}" for i in range(size)]).dictionary_encode(),
        "int": lambda: pa.array([rng.choice((0, -(2**63), 2**63 - 1)) for _ in range(size)], pa.int64()),
        "float": lambda: pa.array([rng.choice((1.5, 1e308, float("nan"), float("inf"))) for _ in range(size)]),
        "null": lambda: pa.nulls(size),
        "bytes": lambda: pa.array([rng.randbytes(4)] * size),
        "decimal": lambda: pa.array([Decimal("1.50")] * size),
        "time": lambda: pa.array(
            [rng.choice((0, 2**62, -(2**62)))] * size, pa.timestamp("ms", tz=rng.choice((None, "UTC", "Mars/Olympus")))
        ),
        "date": lambda: pa.array([rng.choice((0, 2**30))] * size, pa.date32()),
        "duration": lambda: pa.array([2**62] * size, pa.duration("s")),
        "struct": lambda: pa.array([{"a": None, "b": [1]}] * size),
        "map": lambda: pa.array([[("a", 1), ("a", 2)]] * size, pa.map_(pa.string(), pa.int32())),
        "lists": lambda: pa.array([[["1"], None, ["2", None]]] * size),
        "foul": lambda: _foul_text(rng, size),
    }
    names = ["question", "answer", "more"] + (["more"] if rng.random() < 0.1 else [])
    kinds = [rng.choice(("text", *makers)) for _ in names]
    buffer = io.BytesIO()
    pq.write_table(pa.table([makers[kind]() for kind in kinds], names=names), buffer)
    sound = all(kind in ("text", "large", "view", "dictionary") for kind in kinds[:2]) and len(names) == 3
    return _table(folder / "in.parquet", buffer.getvalue(), size if sound else None)


def _foul_text(rng: random.Random, size: int) -> pa.Array:
    texts = [rng.choice((b"fine", b"\xff\xfe", b"\xed\xa0\x80")) for _ in range(size)]
    return pa.array(texts, pa.binary()).view(pa.string())


def _table(path: Path, data: bytes, expected: int | None) -> Outcome:
    """All rows are counted, from 1 and without gaps; `expected` of them arrive."""
    path.write_bytes(data)
    try:
        problems, quarantine = files.load(Files(str(path)))
    except UserError as error:
        if expected:
            raise Broken(f"{expected} good rows were refused: {error}") from None
        return Outcome(False, said=str(error))
    lines = sorted([*(problem.meta["line"] for problem in problems), *(row.line for row in quarantine.rows)])
    if lines != list(range(1, len(lines) + 1)) or expected not in (None, len(problems)):
        raise Broken(f"of {expected or len(lines)} rows, {len(problems)} arrived and {len(quarantine)} were quarantined")
    records.write(path.with_name("out.parquet"), records.Problem, problems)
    return Outcome(True, len(problems), len(quarantine))


KINDS = {
    "problems.jsonl, bytes": problems_jsonl,
    "problems.jsonl, rows": problems_rows,
    "problems.jsonl.gz, bytes": problems_gz,
    "traces.jsonl, bytes": traces_jsonl,
    "traces.jsonl, rows": traces_rows,
    "own Parquet, bytes": parquet_own,
    "foreign Parquet, bytes": parquet_foreign,
    "foreign Parquet, types": parquet_types,
}
