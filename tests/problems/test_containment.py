"""Data sets of strangers: their directories read no file elsewhere and execute nothing; what they unpack to has a bound."""

import gzip
import io
import json
import os
import pickle
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.problems import files, rows
from w2sr_jax.problems.documents import read_rows
from w2sr_jax.problems.settings import Files
from w2sr_jax.teachers import arrayrecord

ROW = json.dumps({"question": "2+2? SECRET", "answer": "4"}) + "\n"


def readme(directory: Path, target: str) -> None:
    (directory / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {target}\n---\n")


def archive(directory: Path) -> None:
    with tarfile.open(directory / "a.tar", "w") as file:
        data = pickle.dumps(1)
        member = tarfile.TarInfo("0.pth")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))


def state(directory: Path, name: str) -> None:
    shutil.copy(directory.parent / "real" / "dataset_info.json", directory)
    saved = json.loads((directory.parent / "real" / "state.json").read_text())
    (directory / "state.json").write_text(json.dumps(saved | {"_data_files": [{"filename": name}]}))


HF: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to a file": (
        lambda directory: (directory / "train.jsonl").symlink_to(directory.parent / "secret.jsonl"),
        "is a link",
    ),
    "a link to a directory": (lambda directory: (directory / "data").symlink_to(directory.parent), "is a link"),
    "a link within a folder": (
        lambda directory: ((directory / "data").mkdir(), (directory / "data" / "train.jsonl").symlink_to("../../secret.jsonl")),  # type: ignore[dict-item,return-value]
        "is a link",
    ),
    "a pipe": (lambda directory: os.mkfifo(directory / "train.jsonl"), "neither a file nor a directory"),
    "a card that climbs": (lambda directory: readme(directory, "../secret.jsonl"), "lies outside"),
    "a card with a path": (lambda directory: readme(directory, str(directory.parent / "secret.jsonl")), "lies outside"),
    "a saved set's file": (lambda directory: state(directory, "../real/data-00000-of-00001.arrow"), "lies outside"),
    "a saved set's path": (
        lambda directory: state(directory, str(directory.parent / "real" / "data-00000-of-00001.arrow")),
        "lies outside",
    ),
    "a saved set's split": (
        lambda directory: (directory / "dataset_dict.json").write_text(json.dumps({"splits": ["../real"]})),  # type: ignore[dict-item,return-value]
        "lies outside",
    ),
    "an archive of objects": (archive, "of the kind 'webdataset'"),
    "a pickle": (lambda directory: (directory / "train.pkl").write_bytes(pickle.dumps(1)), "cannot be read"),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("name", HF)
def test_a_directory_of_a_data_set_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jsonl").write_text(ROW)
    datasets.Dataset.from_list([json.loads(ROW)]).save_to_disk(str(tmp_path / "real"))
    directory = tmp_path / "set"
    directory.mkdir()
    make, words = HF[name]
    make(directory)
    with pytest.raises(UserError, match=words) as refused:
        files.load(Files(f"hf:{directory}"))
    assert "\n" not in str(refused.value)
    assert "2+2" not in str(refused.value)


def test_links_within_a_directory_are_followed(tmp_path: Path) -> None:
    directory = tmp_path / "set"
    (directory / "blobs").mkdir(parents=True)
    (directory / "blobs" / "a").write_text(ROW)
    (directory / "train.jsonl").symlink_to("blobs/a")
    assert len(files.load(Files(f"hf:{directory}"))[0]) == 1


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    problem = Problem.of("2+2?", "4")
    trace = Trace("t", problem.id, "x", 0, "4", "4", "correct", "stop", 1, None, "p")
    arrayrecord.write_traces(tmp_path / "tfds", [trace], [problem])
    (tmp_path / "tfds" / "DIGESTS.json").unlink()
    assert files.load(Files(f"tfds:{tmp_path / 'tfds'}:train"))[0]
    return tmp_path / "tfds"


@pytest.mark.parametrize("spelling", ["pythonClassName", "python_class_name", "type"])
@pytest.mark.parametrize("inner", [True, False])
def test_no_class_that_a_prepared_set_names_is_imported(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, inner: bool
) -> None:
    (prepared.parent / "w2sr_evil.py").write_text(f"open({str(prepared.parent / 'owned')!r}, 'w')")
    monkeypatch.syspath_prepend(str(prepared.parent))
    path = prepared / "features.json"
    features = json.loads(path.read_text())
    directory = next(iter(features["featuresDict"]["features"].values())) if inner else features
    directory.pop("pythonClassName")
    directory[spelling] = "w2sr_evil.Evil"
    path.write_text(json.dumps(features))
    with pytest.raises(UserError, match=r"names the class 'w2sr_evil\.Evil'"):
        files.load(Files(f"tfds:{prepared}:train"))
    assert not (prepared.parent / "owned").exists()
    assert "w2sr_evil" not in sys.modules


def test_a_prepared_set_names_no_records_elsewhere(prepared: Path) -> None:
    other = prepared.parent / "other"
    shutil.copytree(prepared, other)
    for shard in other.glob("*array_record*"):
        shard.unlink()
        shard.symlink_to(prepared / shard.name)
    with pytest.raises(UserError, match="is a link"):
        files.load(Files(f"tfds:{other}:train"))
    for shard in other.glob("*array_record*"):
        shard.unlink()
    info = json.loads((other / "dataset_info.json").read_text())
    info["splits"][0]["filepathTemplate"] = "../tfds/{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    (other / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match="lies outside"):
        files.load(Files(f"tfds:{other}:train"))


def test_one_stored_value_that_stands_for_a_million_is_refused(tmp_path: Path) -> None:
    path, count = tmp_path / "p.parquet", 100_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["7" + "x" * 2_000_000]))
    table = pa.table({"question": text, "answer": pa.array(["4"] * count)})
    pq.write_table(table, path, use_dictionary=True, dictionary_pagesize_limit=2**30, compression="zstd", row_group_size=count)
    del table, text
    assert path.stat().st_size < 10_000  # 200 GB of text
    before = pa.total_allocated_bytes()
    most = 0

    def read() -> None:
        nonlocal most
        for _ in rows.read_rows(path):
            most = max(most, pa.total_allocated_bytes() - before)

    with pytest.raises(UserError, match=r"would unpack to [\d,]+ bytes from [\d,]+, which no honest table does"):
        read()
    assert most < 700 << 20


def packed(path: Path, pieces: list[bytes], times: int) -> Path:
    with gzip.open(path, "wb") as file:
        for _ in range(times):
            file.writelines(pieces)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "blank.jsonl", "csv", "json"])
def test_what_a_packed_file_unpacks_to_has_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(rows, "MOST_UNPACKED", 2**16)
    monkeypatch.setattr(rows, "UNPACKED_RATIO", 10)
    piece = {"jsonl": ROW.encode(), "blank.jsonl": b"\n" * 50, "csv": b"2+2?,4\n", "json": b"[[],[],[],[]],"}[kind]
    path = packed(tmp_path / f"p.{kind}.gz", [piece], 20_000)
    with pytest.raises(UserError, match=r"unpacks to more than|holds more than"):
        list(read_rows(path))


def test_a_line_without_end_is_set_aside_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("rows", "documents"):
        monkeypatch.setattr(f"w2sr_jax.problems.{module}.LONGEST_LINE", 2**20)
    lines = packed(tmp_path / "p.jsonl.gz", [b"x" * 2**20], 30)
    with gzip.open(lines, "ab") as file:
        file.write(b"\n" + ROW.encode())
    problems, quarantine = files.load(Files(str(lines)))
    assert len(problems) == 1
    assert quarantine.counts() == {"longer than 1 MiB": 1}
    with pytest.raises(UserError, match="a line of more than 1 MiB"):
        list(read_rows(packed(tmp_path / "p.csv.gz", [b"x" * 2**20], 30)))


@pytest.mark.parametrize(
    "line",
    ["[" * 10**6, '{"question": ' + "9" * 10**6 + "}", '{"question": {"a": 1}, "question": "b"}', '"\\ud800"'],
    ids=str.__len__,
)
def test_rows_of_absurd_depth_and_digits_are_set_aside(tmp_path: Path, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(f"{line}\n{ROW}")
    problems, quarantine = files.load(Files(str(path)))
    assert len(problems) == len(quarantine) == 1
