"""A full disk and a read-only one, for real: one sentence, and the last sound checkpoint stays usable."""

import dataclasses
import gc
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import training_toy as toy

from w2sr_jax.core.errors import UserError
from w2sr_jax.training import retention
from w2sr_jax.training.checkpoints import restore_params

SETTINGS = dataclasses.replace(toy.SETTINGS, save_every=1, log_every=1)


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    try:
        mounted = mount("-t", "tmpfs", "-o", "size=2M", "tmpfs", str(path))
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("file systems cannot be mounted here (this takes root in a container of one's own)")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return toy.run(directory, SETTINGS).params_digest, (directory / "metrics.jsonl").read_bytes()


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves `leave` bytes free."""
    path = disk / "filler"
    free = retention.shutil.disk_usage(disk).free
    path.write_bytes(b"\0" * (free - leave))
    return path


# Room for a part of a checkpoint, for its directories alone, for nothing.
@pytest.mark.parametrize("leave", [60_000, 8192, 0])
def test_a_disk_that_fills_up(
    disk: Path,
    undisturbed: tuple[str, bytes],
    leave: int,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = disk / "run"

    def filled(event: dict) -> None:
        if event["step"] == 3:
            fill(disk, leave)

    with pytest.raises(UserError) as caught:
        toy.run(run, SETTINGS, on_event=filled)
    message = str(caught.value)
    assert "\n" not in message
    assert "the disk is full; free some space" in message
    checkpoint = Path(message.rpartition("the last sound checkpoint is ")[2])
    assert checkpoint.parent == run / "checkpoints"
    assert int(checkpoint.name) >= 1
    restore_params(checkpoint)
    assert not [path for path in (run / "checkpoints").iterdir() if not path.name.isdecimal()]
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err
    assert not [record for record in caplog.records if record.exc_info]

    (disk / "filler").unlink()
    result = toy.run(run, SETTINGS)
    assert (result.params_digest, (run / "metrics.jsonl").read_bytes()) == undisturbed


def test_a_read_only_disk(disk: Path, undisturbed: tuple[str, bytes]) -> None:
    def interrupt(event: dict) -> None:
        if event["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy.run(disk / "run", SETTINGS, on_event=interrupt)
    assert mount("-o", "remount,ro", str(disk))
    words = "the file system is read-only; use a directory that can be written; "
    with pytest.raises(UserError, match=f"{words}no checkpoint was saved before$"):
        toy.run(disk / "other", SETTINGS)
    with pytest.raises(UserError, match=f"{words}the last sound checkpoint is {disk}/run/checkpoints/\\d$") as caught:
        toy.run(disk / "run", SETTINGS)
    restore_params(Path(str(caught.value).rpartition(" is ")[2]))
    assert mount("-o", "remount,rw", str(disk))
    assert toy.run(disk / "run", SETTINGS).params_digest == undisturbed[0]
