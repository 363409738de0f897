"""Problem files: real and broken ones."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.files import load
from w2sr_jax.problems.settings import Fields, Files

GOOD = {
    "question": "How much is 2 and 3?",
    "answer": "2 + 3 = <<2+3=5>>5\n#### 5",
    "level": 3,
    "weight": float("nan"),
    "tags": ["a"],
}


def write(path: Path, *lines: object) -> Files:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return Files(str(path), task="t")


def test_gsm8k_answers_are_taken_apart(tmp_path: Path) -> None:
    (problem,), quarantine = load(write(tmp_path / "p.jsonl", GOOD))
    assert (problem.question, problem.answer, problem.solution) == (GOOD["question"], "5", "2 + 3 = 5\n#### 5")
    assert problem.meta == {"level": 3, "file": "p.jsonl", "line": 1}
    assert problem.task == "t"
    assert len(quarantine) == 0


def test_kinds_of_files_agree(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "gold": i, "key": f"k{i}", "work": f"w{i}"} for i in range(5)]
    fields = Fields(question="prompt", answer="gold", solution="work", id="key")
    write(tmp_path / "p.jsonl", *rows)
    with gzip.open(tmp_path / "p.jsonl.gz", "wb") as file:
        file.write((tmp_path / "p.jsonl").read_bytes())
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "p.parquet")
    loaded = [load(Files(str(tmp_path / f"p{end}"), fields))[0] for end in (".jsonl", ".jsonl.gz", ".parquet")]
    assert [[(p.id, p.question, p.answer, p.solution, p.meta["id"]) for p in problems] for problems in loaded] == [
        [(p.id, f"q{i}", f"{i}", f"w{i}", f"k{i}") for i, p in enumerate(loaded[0])]
    ] * 3
    limited, _ = load(Files(str(tmp_path / "p.parquet"), fields, limit=2))
    assert limited == loaded[2][:2]


def test_bad_rows_are_set_aside_with_line_and_reason(tmp_path: Path) -> None:
    settings_ = write(
        tmp_path / "p.jsonl",
        GOOD,
        "{oops",
        "",
        [1],
        {"question": "q"},
        {"question": " ", "answer": "1"},
        {"question": "q", "answer": None},
        {"question": "q", "answer": True},
        {"question": "q", "answer": "work ####  "},
        '{"question": "\\ud800", "answer": "1"}',
        "[" * 100_000,
        '{"question": "q", "answer": ' + "9" * 5000 + "}",
        {"question": "q", "answer": ["1", "2"]},
    )
    problems, quarantine = load(settings_)
    assert [p.answer for p in problems] == ["5", "1, 2"]
    assert [row.line for row in quarantine.rows] == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    reasons = [row.reason for row in quarantine.rows]
    assert reasons[0].startswith("not valid JSON (Expecting property name")
    assert reasons[1] == "not a JSON object"
    assert reasons[2] == "field 'answer' is missing"
    assert reasons[3] == "field 'question' is empty"
    assert reasons[4] == "field 'answer' is empty"
    assert reasons[5] == "field 'answer' holds bool, not text or a number"
    assert reasons[6] == "field 'answer' has no answer after its last ####"
    assert "surrogate" in reasons[7]
    assert str(quarantine.rows[0]).startswith(f"{tmp_path / 'p.jsonl'}, line 2: not valid JSON")
    assert sum(quarantine.counts().values()) == len(quarantine) == 10


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.jsonl", None, "does not exist"),
        ("p.parquet", None, "does not exist"),
        ("p.jsonl", b"", "is empty"),
        ("p.jsonl", b"\n \n", "is empty"),
        ("p.csv", b"question,answer\n", "must end in .jsonl"),
        ("p.parquet", b"not parquet", "cannot be read as Parquet"),
        ("p.jsonl.gz", b"not gzip", "cannot be read past line 0"),
        ("p.jsonl.gz", gzip.compress(b'{"question": "q", "answer": "1"}\n' * 9, mtime=0)[:-9], "cannot be read past line"),
        ("p.jsonl", b'{"q": 1}\n{"r": 2}\n', "no usable problem; first reason, line 1: field 'question' is missing"),
        ("p.jsonl", b"\xff\xfe\x00\n", "no usable problem; first reason, line 1: not UTF-8 text"),
    ],
)
def test_unusable_files_are_one_sentence(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        load(Files(str(tmp_path / name)))
    assert words in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_is_not_a_file(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load(Files(str(tmp_path / "d.jsonl")))


@given(st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"")), min_size=1, max_size=6))
@settings(deadline=None, max_examples=60)
def test_no_bytes_make_it_fail_otherwise(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("any") / "p.jsonl"
    path.write_bytes(b"\n".join([*lines, json.dumps(GOOD).encode()]))
    problems, quarantine = load(Files(str(path)))
    assert problems[-1].answer == "5"
    assert all(row.reason for row in quarantine.rows)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["question", "answer", "extra"]), json_values))
@settings(deadline=None, max_examples=100)
def test_any_values_load_or_are_set_aside(tmp_path_factory: pytest.TempPathFactory, row: dict) -> None:
    settings_ = write(tmp_path_factory.mktemp("any") / "p.jsonl", GOOD, row)
    problems, quarantine = load(settings_)
    assert len(problems) + len(quarantine) == 2
    for problem in problems:
        problem.row()
        assert problem.answer


def test_gsm8k_loads_whole(shared_data: Path) -> None:
    for part, count in (("train", 7473), ("test", 1319)):
        problems, quarantine = load(Files(str(shared_data / "gsm8k" / f"{part}.jsonl"), task="gsm8k"))
        assert (len(problems), len(quarantine)) == (count, 0)
        assert all("<<" not in (p.solution or "") and p.answer and "#" not in p.answer for p in problems)


def test_math_rows_without_answer_are_set_aside(shared_data: Path) -> None:
    fields = Fields(question="question", answer="answer", solution="solution", id="id")
    problems, quarantine = load(Files(str(shared_data / "math" / "math_train.jsonl.gz"), fields, task="math"))
    assert len(problems) == 7498
    assert quarantine.counts() == {"field 'answer' is empty": 2}
    assert problems[0].meta["level"] == 5
