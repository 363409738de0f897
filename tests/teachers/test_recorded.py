"""Recorded traces: every row is used or quarantined with its reason, and matched to the right problem."""

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from w2sr_jax.core import records
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers import recorded
from w2sr_jax.teachers.settings import Recorded

ROWS: list[dict[str, Any]] = [
    {"question": "What is 2 + 2 ?", "trace": "2 + 2 = 4 #### 4", "gold": "4", "model": "a", "n": 0, "pid": "p1", "level": 1},
    {"question": "What is  2 + 2 ?", "trace": "4", "gold": "4.0", "model": "b", "n": 0, "pid": "p1", "level": 1},
    {"question": "What is 3 * 3 ?", "trace": "9", "gold": 9, "model": "a", "n": 1, "pid": "p2", "level": 2},
]


def write(path: Path, rows: list[Any]) -> str:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.parquet"])
def test_rows_become_problems_and_ungraded_traces(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist([row | {"gold": str(row["gold"])} for row in ROWS]), path)
    else:
        write(path, ROWS)
    loaded = recorded.load(Recorded("weak", str(path), id="pid", meta=("level",)))
    assert [(p.question, p.answer, p.meta) for p in loaded.problems] == [
        ("What is 2 + 2 ?", "4", {"level": 1, "source_id": "p1"}),
        ("What is 3 * 3 ?", "9", {"level": 2, "source_id": "p2"}),
    ]
    assert [(t.text, t.sample, t.verdict, t.provenance) for t in loaded.traces] == [
        ("2 + 2 = 4 #### 4", 0, "ungraded", f"{name}:1"),
        ("4", 1, "ungraded", f"{name}:2"),
        ("9", 0, "ungraded", f"{name}:3"),
    ]
    assert [t.problem_id for t in loaded.traces] == [loaded.problems[i].id for i in (0, 0, 1)]
    assert len({t.id for t in loaded.traces}) == 3
    assert (len(loaded.quarantine), loaded.unmatched) == (0, 0)


def test_fields_filters_and_limits(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{"q": r["question"], "t": r["trace"], "model": r["model"], "ok": True} for r in ROWS])
    loaded = recorded.load(Recorded("weak", path, question="q", trace="t", gold=None, where=(("model", "a"), ("ok", "true"))))
    assert [t.text for t in loaded.traces] == ["2 + 2 = 4 #### 4", "9"]
    assert [p.answer for p in loaded.problems] == [None, None]
    assert len(recorded.load(Recorded("weak", path, question="q", trace="t", gold=None, limit=1)).traces) == 1


def test_bad_rows_are_quarantined_with_line_and_reason(tmp_path: Path) -> None:
    good = ROWS[0]
    bad = [
        ("{not json", "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ({k: v for k, v in good.items() if k != "trace"}, "'trace' is missing"),
        (good | {"trace": "   "}, "'trace' is empty"),
        (good | {"question": 7}, "'question' is not text"),
        (good | {"gold": {"a": "4"}}, "'gold' holds dict"),
        (good | {"n": "one"}, "'n' is not a sample number"),
        (good | {"question": "Another ?"}, "id 'p1' belongs to another question"),
        (good | {"trace": "half \ud83d"}, "'trace' holds half a surrogate pair"),
        (good | {"n": 2**40}, "'n' is not a sample number"),
        ("[" * 100_000, "not valid JSON"),
    ]
    path = write(tmp_path / "t.jsonl", [good, "", *(row for row, _ in bad), ROWS[2]])
    loaded = recorded.load(Recorded("weak", path, sample="n", id="pid"))
    assert [t.text for t in loaded.traces] == [good["trace"], ROWS[2]["trace"]]
    assert [q.line for q in loaded.quarantine] == list(range(3, 3 + len(bad)))
    for quarantined, (_, reason) in zip(loaded.quarantine, bad):
        assert quarantined.file == path
        assert reason in quarantined.reason


def test_samples_of_one_problem_get_distinct_numbers(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"n": n, "trace": f"way {i}"} for i, n in enumerate([3, 3, 0, 3, 4])]
    path = write(tmp_path / "t.jsonl", rows)
    assert [t.sample for t in recorded.load(Recorded("weak", path, sample="n")).traces] == [3, 4, 0, 5, 6]
    assert [t.sample for t in recorded.load(Recorded("weak", path)).traces] == [0, 1, 2, 3, 4]


def test_a_question_with_two_golds_is_quarantined(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [*ROWS, ROWS[2] | {"gold": "10"}, ROWS[2] | {"gold": None}])
    loaded = recorded.load(Recorded("weak", path))
    assert {p.question for p in loaded.problems} == {"What is 2 + 2 ?"}
    assert [(q.line, "different gold" in q.reason) for q in loaded.quarantine] == [(3, True), (4, True), (5, True)]


def test_traces_are_matched_to_given_problems(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", ROWS)
    problems = [Problem.of("What is 2\n+ 2 ?", "4", task="mine"), Problem.of("What is 5 ?", "5")]
    loaded = recorded.load(Recorded("weak", path), problems)
    assert loaded.problems == problems[:1]
    assert {t.problem_id for t in loaded.traces} == {problems[0].id}
    assert (len(loaded.traces), loaded.unmatched) == (2, 1)
    contradicted = recorded.load(Recorded("weak", path), [Problem.of("What is 3 * 3 ?", "8")])
    assert contradicted.traces == []
    assert "'9' contradicts the problem's, '8'" in contradicted.quarantine[0].reason


def test_several_files_share_their_problems(tmp_path: Path) -> None:
    one = Recorded("a", write(tmp_path / "a.jsonl", ROWS))
    other = [ROWS[0] | {"gold": "4.00"}, ROWS[2] | {"gold": "10"}, {"question": "New ?", "trace": "1", "gold": "1"}]
    two = Recorded("b", write(tmp_path / "b.jsonl", other))
    loaded = recorded.load_all([one, two])
    assert {p.question for p in loaded.problems} == {"What is 2 + 2 ?", "New ?"}
    assert [(t.teacher, t.text) for t in loaded.traces] == [
        ("a", ROWS[0]["trace"]),
        ("a", "4"),
        ("b", ROWS[0]["trace"]),
        ("b", "1"),
    ]
    assert len({t.problem_id for t in loaded.traces[:3]}) == 1
    assert [(q.file, q.line) for q in loaded.quarantine] == [(one.path, 3), (two.path, 2)]


def test_unusable_files_are_one_sentence(tmp_path: Path) -> None:
    good = write(tmp_path / "good.jsonl", ROWS)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(random.Random(0).randbytes(9999))[:5000])
    cases = [
        (Recorded("weak", str(tmp_path / "none.jsonl")), "does not exist"),
        (Recorded("weak", ""), "no path"),
        (Recorded("weak", write(tmp_path / "empty.jsonl", [""])), "is empty"),
        (Recorded("weak", good, trace="cot"), "has no field 'cot'; its fields are question, trace, gold"),
        (Recorded("weak", good, where=(("model", "z"),)), "no row with model = 'z'; it has model = 'a'"),
        (Recorded("weak", write(tmp_path / "bad.jsonl", ["{", "{"])), "no usable row: all 2 were rejected, line 1 because"),
        (Recorded("weak", str(tmp_path / "cut.jsonl.gz")), "cannot be read past line"),
        (Recorded("weak", write(tmp_path / "bad.parquet", ["x"])), "cannot be read as Parquet"),
    ]
    for settings, sentence in cases:
        with pytest.raises(UserError, match=sentence.replace("[", r"\[")):
            recorded.load(settings)
    with pytest.raises(UserError, match="has the weight -1"):
        Recorded("weak", good, weight=-1.0)


def test_all_fourteen_thousand_real_traces(shared_data: Path) -> None:
    teachers = [Recorded(name, str(shared_data / "traces" / f"gair_gsm8k_{name}.jsonl.gz")) for name in ("gemma_2b", "llama2_7b")]
    loaded = recorded.load_all(teachers)
    assert (len(loaded.traces), len(loaded.problems), len(loaded.quarantine)) == (14_000, 6_850, 0)
    assert len({(t.teacher, t.problem_id, t.sample) for t in loaded.traces}) == 14_000


def test_one_file_of_several_real_teachers(shared_data: Path) -> None:
    path = str(shared_data / "traces" / "openai_gsm8k_test.jsonl.gz")
    loaded = recorded.load(Recorded("175b", path, id="problem_id", where=(("teacher", "openai_175b_verification"),)))
    assert len(loaded.traces) == len(loaded.problems) == 1_055
    qwen = recorded.load(
        Recorded("qwen", str(shared_data / "traces" / "qwen_math100x8.jsonl.gz"), sample="sample", meta=("level",))
    )
    assert (len(qwen.traces), len(qwen.problems)) == (600, 75)
    assert {t.sample for t in qwen.traces} == set(range(8))
    assert {p.meta["level"] for p in qwen.problems} <= {1, 2, 3, 4, 5}


HOSTILE = [
    {"question": "q2", "trace": "t", "gold": "x" * 5000},
    {"question": "q2", "trace": "t", "gold": "y" * 5000},
    {"question": "q3", "trace": ["a"], "gold": "1"},
    {"question": "q3", "trace": "\ud800", "gold": "1"},
    {"question": "q3", "trace": "t", "gold": {"a": 1}},
]


def test_hostile_rows_are_set_aside_and_good_ones_kept(tmp_path: Path) -> None:
    good = {
        "question": "q1",
        "trace": "\u202et\x00",
        "gold": "1",
        "level": 3,
        "odd": "\ud800",
        "nan": float("nan"),
        "deep": [[[[1]]]],
    }
    path = write(tmp_path / "t.jsonl", [good, *HOSTILE, good])
    loaded = recorded.load(Recorded("weak", path, meta=("level", "odd", "nan", "deep", "absent")))
    assert [trace.provenance for trace in loaded.traces] == ["t.jsonl:1", "t.jsonl:7"]
    assert loaded.problems[0].meta == {"level": 3}
    assert [bad.line for bad in loaded.quarantine] == [2, 3, 4, 5, 6]
    assert all(bad.reason.isprintable() and len(bad.reason) < 300 for bad in loaded.quarantine)
    records.write(tmp_path / "p.parquet", Problem, loaded.problems)
    records.write(tmp_path / "t.parquet", Trace, loaded.traces)
    assert records.read(tmp_path / "t.parquet", Trace) == loaded.traces


def test_deep_values_do_not_stop_a_selection(tmp_path: Path) -> None:
    deep = '{"question": "q", "trace": "t", "model": ' + "[" * 900 + "]" * 900 + "}"
    path = tmp_path / "t.jsonl"
    path.write_text(deep + "\n" + '{"question": "q", "trace": "t", "model": "a"}\n')
    assert len(recorded.load(Recorded("weak", str(path), gold=None, where=(("model", "a"),))).traces) == 1
    with pytest.raises(UserError, match="no row with model = 'b'") as error:
        recorded.load(Recorded("weak", str(path), gold=None, where=(("model", "b"),)))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300


def test_names_of_hostile_fields_stay_in_one_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", [{f"\n{i}\u202e" + "x" * 1000: 1 for i in range(500)}])
    with pytest.raises(UserError, match="has no field 'question'") as error:
        recorded.load(Recorded("weak", path))
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1500


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\ud800\x00\u202e"), max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
ANY_ROW = JSON | st.fixed_dictionaries({"question": JSON, "trace": JSON, "n": JSON}, optional={"gold": JSON, "level": JSON})


@given(st.lists(ANY_ROW, max_size=6), st.integers(0, 6))
@trials(deadline=None, max_examples=100)
def test_every_row_is_used_or_set_aside(tmp_path_factory: pytest.TempPathFactory, others: list[Any], at: int) -> None:
    folder = tmp_path_factory.mktemp("any")
    good = {"question": "What is seven times eight?", "trace": "56", "gold": "56", "n": 3}
    rows = [*others[:at], good, *others[at:]]
    path = write(folder / "t.jsonl", [json.dumps(row) for row in rows])
    loaded = recorded.load(Recorded("weak", path, sample="n", meta=("level",)))
    lines = [int(trace.provenance.rpartition(":")[2]) for trace in loaded.traces]
    assert sorted([*lines, *(bad.line for bad in loaded.quarantine)]) == list(range(1, len(rows) + 1))
    assert [trace.sample for trace in loaded.traces if trace.text == "56"][:1] == [3]
    assert all(bad.reason and bad.reason.isprintable() for bad in loaded.quarantine)
    records.write(folder / "p.parquet", Problem, loaded.problems)
    records.write(folder / "t.parquet", Trace, loaded.traces)
    assert records.read(folder / "t.parquet", Trace) == loaded.traces
