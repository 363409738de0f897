"""Weights & Biases, MLflow and Trackio themselves, offline: what they hold of a training that was interrupted and continued. Each
test skips where the package is not installed (`pip install -e .[wandb,mlflow,trackio]`)."""

import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_following import follow

from w2sr_jax.core.errors import UserError
from w2sr_jax.trackers.mlflow import Mlflow
from w2sr_jax.trackers.tracker import Tracker
from w2sr_jax.trackers.trackio import Trackio
from w2sr_jax.trackers.wandb import Wandb

WANTED = [(step, step / 10) for step in range(1, 9)]


def two_sittings(directory: Path, tracker: Tracker) -> None:
    """Stopped after step 6 with a checkpoint of step 3, continued to step 8."""
    follow(directory, tracker, steps=range(1, 7), state="stopped")
    follow(directory, tracker, steps=range(4, 9))


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    two_sittings(tmp_path, Wandb(project="p", mode="offline"))
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert not [path for path in (tmp_path / "trackers").rglob("*") if path.is_symlink()]  # which no run may hold
    assert len({path.name for path in files}) == 1  # one id, by which `wandb sync` joins them
    records = [record for path in files for record in _wandb_records(path)]
    runs = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert {(run.project, run.run_group, run.display_name) for run in runs} == {("p", "run", "run/stage/train")}
    assert {item.key: item.value_json for item in runs[0].config.update}["recipe.training.steps"] == "9"
    logged = [
        {"/".join([item.key, *item.nested_key]).strip("/"): item.value_json for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [(int(values["_step"]), float(values["train/loss"])) for values in logged] == WANTED
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [1, 0]


def _wandb_records(path: Path) -> list[Any]:
    """The records of a .wandb file: a header of seven bytes, then LevelDB's log format, blocks of 32 KiB with pieces of records,
    each after a checksum, its length and whether it is a whole record (1), or the first, a middle or the last piece of one."""
    from wandb.proto import wandb_internal_pb2

    data, at, pieces, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        pieces += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            records.append(wandb_internal_pb2.Record.FromString(pieces))
            pieces = b""
    return records


def test_mlflow_in_a_data_base(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    two_sittings(tmp_path, Mlflow(experiment="e", uri=uri))
    client = mlflow.MlflowClient(uri, registry_uri=tmp_path.as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert (run.info.run_name, run.info.status) == ("run/stage/train", "FINISHED")
    assert run.data.params["recipe.training.steps"] == "9"
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "train/loss")] == WANTED


def test_trackio_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = pytest.importorskip("trackio")
    own = Path(trackio.utils.TRACKIO_DIR)
    project = f"w2sr-test-{tmp_path.name}-{tmp_path.parent.name}"
    two_sittings(tmp_path, Trackio(project=project))
    try:
        (base,) = own.glob(f"{project}*.db")
        with sqlite3.connect(base) as connection:
            rows = connection.execute(
                "select run_name, step, json_extract(metrics, '$.\"train/loss\"') from metrics order by step"
            )
            logged = [(name.split()[0], step, value) for name, step, value in rows]
        assert logged == [("run/stage/train", step, loss) for step, loss in WANTED]
    finally:
        for path in own.glob(f"{project}*"):
            path.unlink()


@pytest.mark.parametrize(
    ("make", "right"),
    [
        (lambda: Mlflow(uri="https://me:hunter22@host"), "MLFLOW_TRACKING_PASSWORD"),
        (lambda: Mlflow(uri="https://host?token=hunter22"), "MLFLOW_TRACKING_TOKEN"),
        (lambda: Trackio(server="https://host?write_token=hunter22"), "TRACKIO_WRITE_TOKEN"),
    ],
)
def test_settings_that_hold_a_secret_are_refused_without_repeating_it(make: Callable[[], Tracker], right: str) -> None:
    with pytest.raises(UserError, match=right) as refused:
        make()
    assert "hunter22" not in str(refused.value)
