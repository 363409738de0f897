"""Traces as a TFDS data set: TFDS itself reads them without TensorFlow, and so do we, field by field equal."""

import filecmp
import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.teachers import arrayrecord, recorded
from w2sr_jax.teachers.settings import Recorded

ODD = "é \U0001d11e \u202e\x00 \r\n\\boxed{1}\x00"


def problem(i: int, **more: Any) -> Problem:
    values: dict[str, Any] = {"question": f"What is {i} ? {ODD}".strip(), "answer": str(i), "task": "recorded"} | more
    return Problem.of(**values)


def trace(of: Problem, sample: int, **more: Any) -> Trace:
    text = f"sample {sample} {ODD}".strip()
    identity = Trace.identity(of.id, "weak", sample, text)
    trace = Trace(identity, of.id, "weak", sample, text, of.answer, "correct", "stop", 2, -0.5, "f:1", "boxed", "exact", (7, 0))
    return trace if not more else Trace(**{name: getattr(trace, name) for name in Trace.__slots__} | more)


PROBLEMS = [problem(0), problem(1, answer=None), problem(2, solution="s", meta={"level": 3, "deep": [{"ü": None}]})]
TRACES = [trace(of, sample) for sample in range(3) for of in PROBLEMS]
TRACES[4] = trace(PROBLEMS[1], 1, answer=None, mean_logprob=None, finish="length", token_ids=(), logprobs=(), rule="", grader="")
TRACES[5] = trace(PROBLEMS[2], 1, verdict="ungraded", token_ids=(2**31 - 1,), logprobs=(-1.5,))


def test_tfds_reads_what_was_written(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    sizes = arrayrecord.write_traces(
        tmp_path / "set", {"train": TRACES[:8], "probe": TRACES[8:], "test": []}, PROBLEMS, "mine", "2.0.1", per_shard=3
    )
    assert sizes == {"train": 8, "probe": 1}
    builder = tfds.builder_from_directory(str(tmp_path / "set"))
    assert (builder.info.name, str(builder.info.version)) == ("mine", "2.0.1")
    assert {name: split.shard_lengths for name, split in builder.info.splits.items()} == {"train": [3, 3, 2], "probe": [1]}
    source = builder.as_data_source("train")
    assert len(source) == 8
    for row, written in zip(source, TRACES):
        of = next(one for one in PROBLEMS if one.id == written.problem_id)
        assert (row["question"].decode(), row["trace"].decode()) == (of.question, written.text)
        assert (row["gold"] and row["gold"].decode(), row["mean_logprob"]) == (of.answer, written.mean_logprob)
        assert (row["verdict"].decode(), row["finish"].decode(), row["sample"]) == (
            written.verdict,
            written.finish,
            written.sample,
        )
        assert np.asarray(row["token_ids"]).tolist() == list(written.token_ids)
        assert json.loads(row["meta"]) == of.meta
    assert "tensorflow" not in sys.modules


def test_traces_come_back_equal(tmp_path: Path) -> None:
    arrayrecord.write_traces(tmp_path / "set", TRACES, PROBLEMS, per_shard=4)
    assert arrayrecord.read_traces(tmp_path / "set") == (PROBLEMS, TRACES)
    loaded = recorded.load(Recorded("weak", f"tfds:{tmp_path}/set", sample="sample", finish="finish"))
    assert [(p.question, p.answer) for p in loaded.problems] == [(p.question, p.answer) for p in PROBLEMS]
    assert [(t.id, t.sample, t.text, t.finish) for t in loaded.traces] == [(t.id, t.sample, t.text, t.finish) for t in TRACES]
    assert (loaded.quarantine, loaded.shape) == ([], "columns (question, trace)")
    chosen = recorded.load(Recorded("weak", f"tfds:{tmp_path}/set:train", where=(("verdict", "ungraded"),)))
    assert [t.text for t in chosen.traces] == [TRACES[5].text]
    assert not list(tmp_path.glob(".*"))
    assert (tmp_path / "set").stat().st_mode & 0o777 == 0o755


SPOKEN = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\x00\n\u202e"), max_size=12)
REAL = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(st.tuples(SPOKEN, st.none() | SPOKEN, st.none() | REAL, st.lists(REAL, max_size=3)), min_size=1, max_size=4),
    SPOKEN,
    st.none() | SPOKEN,
)
@trials(deadline=None, max_examples=25)
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[Any], question: str, gold: str | None) -> None:
    of = Problem.of(question, gold, None, "t", {"q": question})
    traces = [
        trace(of, i, text=text, answer=answer, mean_logprob=mean, logprobs=tuple(logs))
        for i, (text, answer, mean, logs) in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("any") / "set"
    arrayrecord.write_traces(folder, traces, [of])
    assert arrayrecord.read_traces(folder) == ([of], traces)


def test_equal_traces_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        arrayrecord.write_traces(tmp_path / name, TRACES, PROBLEMS)
    names = sorted(os.listdir(tmp_path / "a"))
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", names, shallow=False) == (names, [], [])


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "deep" / "set"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"traces": []}, "there are no traces to write"),
        ({"traces": {"train": [], "probe": []}}, "there are no traces to write"),
        ({"traces": {"Train set": TRACES}}, "'Train set' cannot name a split"),
        ({"name": "my-traces"}, "'my-traces' cannot name a TFDS data set"),
        ({"name": "../x"}, "cannot name a TFDS data set"),
        ({"version": "1.0"}, "'1.0' is no version"),
        ({"problems": PROBLEMS[:2]}, f"is about problem {PROBLEMS[2].id}, which is not among the problems"),
    ]
    for settings, sentence in cases:
        with pytest.raises(UserError, match=sentence):
            arrayrecord.write_traces(**{"directory": out, "traces": TRACES, "problems": PROBLEMS} | settings)
    assert not out.parent.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name, sentence in (("full", "is not empty"), ("file", "is a file")):
        with pytest.raises(UserError, match=sentence):
            arrayrecord.write_traces(tmp_path / name, TRACES, PROBLEMS)
    (tmp_path / "empty").mkdir()
    arrayrecord.write_traces(tmp_path / "empty", TRACES, PROBLEMS)

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(arrayrecord.files, "seal", broken)
    with pytest.raises(OSError, match="No space left"):
        arrayrecord.write_traces(tmp_path / "other", TRACES, PROBLEMS)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("sealed", [True, False])
def test_damage_is_one_sentence(tmp_path: Path, sealed: bool) -> None:
    folder = tmp_path / "set"
    arrayrecord.write_traces(folder, TRACES, PROBLEMS)
    shard = next(folder.glob("*.array_record*"))
    data, rng = shard.read_bytes(), random.Random(0)
    if not sealed:
        (folder / "DIGESTS.json").unlink()
    for case in range(12):
        broken = bytearray(data[: rng.randrange(len(data))] if case % 2 else data)
        for _ in range(0 if case % 2 else 40):
            broken[rng.randrange(len(broken))] ^= 1 << rng.randrange(8)
        shard.write_bytes(broken)
        loaded: Any = None
        try:
            loaded = arrayrecord.read_traces(folder)
        except UserError as error:
            sentence = str(error)
            assert sentence.isprintable()
        assert loaded is None or (not sealed and loaded == (PROBLEMS, TRACES))
        if case % 2:
            with pytest.raises(UserError, match="cannot be read"):
                recorded.load(Recorded("weak", f"tfds:{folder}"))
    shard.unlink()
    for read in (lambda: arrayrecord.read_traces(folder), lambda: recorded.load(Recorded("weak", f"tfds:{folder}"))):
        with pytest.raises(UserError, match=r"is missing|cannot be read"):
            read()


def test_a_foreign_data_set_is_no_set_of_traces(tmp_path: Path) -> None:
    arrayrecord.write_traces(tmp_path / "set", TRACES, PROBLEMS)
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        arrayrecord.read_traces(tmp_path / "set", "test")
    features = json.loads((tmp_path / "set" / "features.json").read_text())
    del features["featuresDict"]["features"]["verdict"]
    (tmp_path / "set" / "features.json").write_text(json.dumps(features))
    with pytest.raises(UserError, match=r"is damaged: .*features\.json"):
        arrayrecord.read_traces(tmp_path / "set")
    (tmp_path / "set" / "DIGESTS.json").unlink()
    with pytest.raises(UserError, match="is not a set of traces as w2sr writes it: KeyError: 'verdict'"):
        arrayrecord.read_traces(tmp_path / "set")
    with pytest.raises(UserError, match="is no directory"):
        arrayrecord.read_traces(tmp_path / "none")
