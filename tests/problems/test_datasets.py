"""Rows from the Hub's formats and from TFDS, without a network: what is read, what is refused, and which files stand for it."""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.problems.datasets import read_rows, source_files
from w2sr_jax.problems.files import load
from w2sr_jax.problems.settings import Fields, Files

ROWS = [{"question": f"How much is {i} and 1? é", "answer": f"{i}+1=<<{i}+1={i + 1}>>{i + 1}\n#### {i + 1}"} for i in range(10)]
COMMIT = "ab" * 20


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of `datasets`, and a Hub that cannot be reached."""
    import datasets
    from huggingface_hub import constants

    cache = tmp_path / "hf-cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds-home"))
    return cache


def parquet(directory: Path, rows: list[dict[str, Any]] = ROWS, split: str = "train") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), directory / f"{split}-00000-of-00001.parquet")
    return directory


def cached(hub: Path, name: str, config: str, rows: list[dict[str, Any]] = ROWS, commit: str = COMMIT) -> Path:
    """A Hub data set as `datasets` leaves it in its cache."""
    import datasets

    scratch = hub.parent / "scratch"
    builder = datasets.load_dataset_builder(str(parquet(scratch / "data", rows)), cache_dir=str(scratch / "cache"))
    builder.download_and_prepare()
    directory = hub / name.replace("/", "___") / config / "0.0.0" / commit
    shutil.copytree(builder.cache_dir, directory)
    stem = name.partition("/")[2]
    for arrow in directory.glob("*.arrow"):
        arrow.rename(directory / arrow.name.replace("data-", f"{stem}-"))
    info = json.loads((directory / "dataset_info.json").read_text())
    (directory / "dataset_info.json").write_text(json.dumps(info | {"config_name": config, "dataset_name": stem}))
    shutil.rmtree(scratch)
    return directory


def tfds_set(directory: Path, rows: list[dict[str, Any]] = ROWS, split: str = "train") -> Path:
    """A prepared TFDS data set in the ArrayRecord format, written by TFDS itself."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.sequential_writer import SequentialWriter

    directory.mkdir(parents=True)
    kinds = {str: tfds.features.Text(), int: tfds.features.Scalar(np.int64), list: tfds.features.Sequence(tfds.features.Text())}
    features = tfds.features.FeaturesDict({name: kinds[type(value)] for name, value in rows[0].items()})
    identity = tfds.core.DatasetIdentity(name="mine", version="1.0.0", data_dir=str(directory), module_name="")
    info = tfds.core.DatasetInfo(builder=identity, features=features)
    writer = SequentialWriter(info, max_examples_per_shard=4, file_format="array_record")
    writer.initialize_splits([split])
    writer.add_examples({split: rows})
    writer.close_all()
    return directory


def questions(path: str, limit: int | None = None) -> list[int]:
    """Which of `ROWS` a path names, by number."""
    return [int(row.values["question"].split()[3]) for row in read_rows(path, limit)]


def test_a_local_directory_is_read_from_its_files(tmp_path: Path, hub: Path) -> None:
    directory = parquet(parquet(tmp_path / "data"), ROWS[:3], "test")
    problems, quarantine = load(Files(f"hf:{directory}:train", limit=4, task="t"))
    assert [(p.question, p.answer, p.solution) for p in problems] == [
        (row["question"], f"{n + 1}", f"{n}+1={n + 1}\n#### {n + 1}") for n, row in enumerate(ROWS[:4])
    ]
    assert (problems[0].meta, problems[0].task, len(quarantine)) == ({"file": "data:train", "line": 1}, "t", 0)
    assert questions(f"hf:{directory}:train[2:4]+test") == [2, 3, 0, 1, 2]
    assert questions(f"hf:{directory}:train[-2:]") == [8, 9]
    assert questions(f"hf:{directory}:train[50%:70%]") == [5, 6]
    assert [row.line for row in read_rows(f"hf:{directory}:train[2:4]+test")] == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match="has the splits train, test: say which"):
        questions(f"hf:{directory}")
    with pytest.raises(UserError, match="has no split 'dev'; it has train, test"):
        questions(f"hf:{directory}:dev")
    assert not hub.exists()  # nothing is left in the cache
    parquet(directory, ROWS[5:7])  # other rows, perhaps within one tick of the file system's clock
    assert questions(f"hf:{directory}:train") == [5, 6]


def test_configurations_and_other_formats(tmp_path: Path, hub: Path) -> None:
    directory = tmp_path / "data"
    for number, name in enumerate(("one", "two")):
        (directory / name).mkdir(parents=True)
        (directory / name / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS[number * 3 : number * 3 + 3]))
    (directory / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/*\n" for name in ("one", "two"))
        + "---\n"
    )
    assert questions(f"hf:{directory}:two") == [3, 4, 5]
    assert questions(f"hf:{directory}:two+one:train[:2]") == [3, 4, 0, 1]
    with pytest.raises(UserError, match=r"BuilderConfig 'three' not found. Available: \['one', 'two'\] \(a split is given as"):
        questions(f"hf:{directory}:three")
    with pytest.raises(UserError, match=r"has several configurations: .*one.*two"):
        questions(f"hf:{directory}")


def test_what_was_saved_to_disk_is_read(tmp_path: Path, hub: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"odd": rows.select([1, 3]), "even": rows.select([2, 4])}).save_to_disk(str(tmp_path / "two"))
    assert questions(f"hf:{tmp_path / 'one'}", limit=3) == [0, 1, 2]
    assert questions(f"hf:{tmp_path / 'two'}::even[1:]") == [4]
    assert {path.name for path in source_files(f"hf:{tmp_path / 'one'}")} >= {"data-00000-of-00001.arrow", "state.json"}


def test_pictures_are_not_opened(tmp_path: Path, hub: Path) -> None:
    """OlympiadBench has columns of pictures, which nobody here needs and which may be no pictures at all."""
    import datasets

    features = datasets.Features(
        {"question": datasets.Value("string"), "answer": datasets.Value("string"), "p": datasets.Image()}
    )
    rows = [{**row, "p": {"bytes": b"no picture", "path": None}} for row in ROWS]
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / "data" / "train.parquet"))
    assert questions(f"hf:{tmp_path / 'data'}") == list(range(10))


def test_the_cache_is_read_without_asking_anyone(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    directory = cached(hub, "openai/gsm8k", "main")
    monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **options: pytest.fail("the Hub was asked"))
    for path in ("hf:openai/gsm8k:main", "hf:openai/gsm8k:main:train[:3]", f"hf:openai/gsm8k@{COMMIT}:main"):
        problems, _ = load(Files(path))
        assert [p.answer for p in problems] == [str(n + 1) for n in range(len(problems))]
        assert source_files(path) == (directory / "gsm8k-train.arrow",)
    assert len(problems) == 10
    assert problems[0].meta == {"file": "openai/gsm8k:main", "line": 1}


def test_another_revision_or_configuration_of_the_cache_is_not_taken(hub: Path) -> None:
    cached(hub, "openai/gsm8k", "main")
    for path, words in (
        (f"hf:openai/gsm8k@{'cd' * 20}:main", f"has another revision, {COMMIT}"),
        ("hf:openai/gsm8k:socratic", "has no copy of its configuration 'socratic'"),
        ("hf:openai/gsm8k", "has its configuration 'main', and which one is wanted is not said"),
    ):
        with pytest.raises(UserError, match=words):
            questions(path)


@pytest.mark.parametrize("offline", [False, True])
def test_without_a_network_the_message_says_what_would_serve(hub: Path, monkeypatch: pytest.MonkeyPatch, offline: bool) -> None:
    import datasets
    from huggingface_hub import HfApi

    def unreachable(*args: Any, **options: Any) -> Any:
        assert options["timeout"] <= 10
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", offline)
    for ask in (questions, source_files):
        with pytest.raises(UserError) as caught:
            ask("hf:openai/gsm8k:main:train")
        message = str(caught.value)
        assert "\n" not in message
        for words in (str(hub), "has no copy", "local directory", "HF_HOME", "hf:DIRECTORY"):
            assert words in message
        assert ("HF_DATASETS_OFFLINE forbids" if offline else "cannot be reached (ConnectionError: Name or") in message
    assert datasets.config.HF_HUB_OFFLINE is offline


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("GatedRepoError", "is gated: accept its terms .* HF_TOKEN"),
        ("RepositoryNotFoundError", "does not exist on the Hub, or is private"),
        ("RevisionNotFoundError", "no such revision"),
    ],
)
def test_refusals_of_the_hub_are_one_sentence(hub: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str) -> None:
    from huggingface_hub import HfApi, errors

    def refuse(*args: Any, **options: Any) -> Any:
        error = getattr(errors, kind)
        raise error.__new__(error)

    monkeypatch.setattr(HfApi, "dataset_info", refuse)
    with pytest.raises(UserError, match=words):
        questions("hf:Idavidrein/gpqa:gpqa_diamond:train")


def test_what_is_downloaded_lands_in_the_cache(tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is played by a local directory; a second look asks nobody."""
    import datasets
    from huggingface_hub import HfApi

    directory = parquet(parquet(tmp_path / "data"), ROWS[:2], "test")
    real, asked = datasets.load_dataset_builder, []

    def builder(name: str, config: str | None, cache_dir: str | None, revision: str | None) -> Any:
        if datasets.config.HF_HUB_OFFLINE:
            return real(name, config, cache_dir=cache_dir, revision=revision)
        asked.append((name, config, revision))
        return real(str(directory), cache_dir=str(hub))

    monkeypatch.setattr(HfApi, "dataset_info", lambda *args, **options: argparse.Namespace(sha=COMMIT))
    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    (file,) = source_files("hf:o/data:default:test")
    assert (file.parts[: len(hub.parts)], file.suffix) == (hub.parts, ".arrow")
    assert asked == [("o/data", "default", None)]
    assert questions("hf:o/data@main:default:train[:3]") == [0, 1, 2]
    assert asked[1:] == [("o/data", "default", COMMIT)]

    def gated(*args: Any, **options: Any) -> Any:
        raise datasets.exceptions.DatasetNotFoundError("Dataset 'o/data' is a gated dataset on the Hub. You must be …")

    monkeypatch.setattr(datasets, "load_dataset_builder", gated)
    with pytest.raises(UserError, match="is gated: accept its terms"):
        questions("hf:o/data:default:train")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("hf:nowhere", "is no directory and no name on the Hub"),
        ("hf:/no/such/place", "is no directory and no name on the Hub"),
        ("hf:", "names no data set"),
        ("hf:a/b:c:train:more", "has a part too many, 'more'"),
        ("hf:a/b:c:train[1]", "is no split; write NAME"),
        ("hf:a/b:c:train[x:]", "is no split"),
        ("tfds:../x", "no data set's name"),
        ("tfds:" + "x" * 5000, "is not prepared here"),
        ("hf:" + "x" * 5000, "is no directory"),
        ("tfds:gsm8k", r"there is no .*tfds-home/gsm8k \(TFDS_DATA_DIR says .*`tfds build gsm8k --file_format=array_record`"),
    ],
)
def test_impossible_references_are_one_sentence(hub: Path, path: str, words: str) -> None:
    for ask in (questions, source_files):
        with pytest.raises(UserError, match=words) as caught:
            ask(path)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("script", b"raise SystemExit", "code of a data set is not run"),
        ("train.parquet", b"not parquet", "cannot be read"),
        ("train.jsonl", b'{"question": "a", "answer": "1"}\n{oops\n', "cannot be read"),
        ("notes.bin", b"", "doesn't contain any data files|cannot be read"),
        ("train.pkl", b"\x80\x04.", "doesn't contain any data files|cannot be read"),
        ("train.parquet", None, "first reason, line 1: field 'question' is missing; its fields are query, answer"),
    ],
)
def test_unusable_directories_are_one_sentence(
    tmp_path: Path, hub: Path, name: str, content: bytes | None, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "data"
    if content is None:
        parquet(directory, [{"query": "q", "answer": "1"}])
    else:
        directory.mkdir()
        (directory / ("data.py" if name == "script" else name)).write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        load(Files(f"hf:{directory}"))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_bad_rows_of_a_data_set_are_set_aside(tmp_path: Path, hub: Path) -> None:
    directory = parquet(
        tmp_path / "data", [*ROWS[:2], {"question": "", "answer": "1"}, ROWS[2], {"question": "q", "answer": None}]
    )
    problems, quarantine = load(Files(f"hf:{directory}"))
    assert [problem.meta["line"] for problem in problems] == [1, 2, 4]
    assert [(bad.file, bad.line, bad.reason) for bad in quarantine.rows] == [
        (f"hf:{directory}", 3, "field 'question' is empty"),
        (f"hf:{directory}", 5, "field 'answer' is empty"),
    ]
    with pytest.raises(UserError, match="limit 0 leaves no rows"):
        load(Files(f"hf:{directory}", limit=0))


def test_the_files_of_the_data_stand_for_it(tmp_path: Path, hub: Path) -> None:
    directory = parquet(tmp_path / "data")
    (directory / ".cache").mkdir()
    (directory / ".cache" / "note").write_text("")
    assert source_files(f"hf:{directory}") == (directory / "train-00000-of-00001.parquet",)
    file = tmp_path / "p.jsonl"
    assert source_files(str(file)) == source_files(f"file:{file}") == (file,)


def test_a_file_can_be_called_one(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in ROWS))
    assert load(Files(f"file:{path}"))[0] == load(Files(str(path)))[0]


def test_tfds_is_read_as_it_was_written(tmp_path: Path, hub: Path) -> None:
    rows = [{**row, "n": n, "tags": ["a", "é"]} for n, row in enumerate(ROWS)]
    directory = tfds_set(tmp_path / "tfds-home" / "mine" / "big" / "1.0.0", rows)
    assert [dict(row.values) for row in read_rows(f"tfds:{directory}")] == rows
    problems, _ = load(Files("tfds:mine/big:train[1:3]", Fields(meta=("n",))))
    assert [(p.answer, p.meta) for p in problems] == [
        ("2", {"n": 1, "file": "mine/big:train", "line": 1}),
        ("3", {"n": 2, "file": "mine/big:train", "line": 2}),
    ]
    assert questions("tfds:mine") == list(range(10))
    assert "features.json" in {path.name for path in source_files("tfds:mine")}
    shutil.copytree(directory, directory.with_name("1.10.0"))
    shutil.copytree(directory, directory.with_name("1.9.0"))
    assert source_files("tfds:mine/big")[0].parent.name == "1.10.0"
    assert source_files("tfds:mine/big:1.9.0")[0].parent.name == "1.9.0"
    shutil.copytree(directory, directory.parents[1] / "small" / "1.0.0")
    with pytest.raises(UserError, match="has several configurations, big, small: say which"):
        questions("tfds:mine")
    with pytest.raises(UserError, match="has no split 'test'; it has train"):
        questions("tfds:mine/big:test")


def test_damaged_and_foreign_tfds_files_are_one_sentence(tmp_path: Path, hub: Path) -> None:
    directory = tfds_set(tmp_path / "mine")
    info = json.loads((directory / "dataset_info.json").read_text())
    (directory / "dataset_info.json").write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    with pytest.raises(
        UserError, match=r"with TensorFlow alone: its files are in the format tfrecord; .*--file_format=array_record"
    ):
        questions(f"tfds:{directory}")
    (directory / "dataset_info.json").write_text(json.dumps(info))
    shard = sorted(directory.glob("*array_record*"))[-1]
    shard.write_bytes(shard.read_bytes()[:-40000])
    with pytest.raises(UserError, match="cannot be read") as caught:
        questions(f"tfds:{directory}")
    assert "\n" not in str(caught.value)
    (directory / "features.json").write_text("{")
    with pytest.raises(UserError, match=r"features\.json is not valid JSON"):
        questions(f"tfds:{directory}")


def test_nothing_heavy_is_imported_for_files_and_tensorflow_never(tmp_path: Path) -> None:
    directory = tfds_set(tmp_path / "mine")
    (tmp_path / "p.jsonl").write_text(json.dumps(ROWS[0]))
    program = (
        "import sys; from w2sr_jax.problems.files import load; from w2sr_jax.problems import presets\n"
        "from w2sr_jax.problems.settings import Files\n"
        f"load(Files({str(tmp_path / 'p.jsonl')!r}))\n"
        "print(sorted({'datasets', 'tensorflow_datasets', 'jax', 'huggingface_hub'} & set(sys.modules)))\n"
        f"print(len(load(Files('tfds:{directory}'))[0]), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "10 False"], done.stderr


def test_an_unreachable_hub_is_noticed_at_once(hub: Path) -> None:
    """`datasets` itself would try five times, for half a minute. Skips where there is a network."""
    import socket

    try:
        socket.getaddrinfo("huggingface.co", 443)
        pytest.skip("there is a network")
    except OSError:
        pass
    started = time.monotonic()
    with pytest.raises(UserError, match=r"huggingface.co cannot be reached"):
        questions("hf:openai/gsm8k:main")
    assert time.monotonic() - started < 20
