"""A run on a disk that is full, and on one that cannot be written, as its user meets them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from w2sr_jax.graph import manifest

ROOT = Path(__file__).resolve().parents[2]
LADDER = ROOT / "tools" / "kill" / "ladder.py"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 kB: room for all checkpoints, and not for what lies around them."""
    path = tmp_path / "disk"
    path.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=700k", "tmpfs", str(path)):
        pytest.skip("file systems cannot be mounted here (this takes root in a container of one's own)")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def mount(*arguments: str) -> bool:
    try:
        return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(root: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "w2sr_jax.cli", "run", str(LADDER), "--root", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "XLA_FLAGS": ""}, check=False)
    return done.returncode, done.stderr


def finished(run: Path) -> dict[str, manifest.Manifest]:
    names = (
        path.relative_to(run / manifest.FOLDER).with_suffix("").as_posix() for path in (run / manifest.FOLDER).rglob("*.json")
    )
    return {name: made for name in names if (made := manifest.read(run, name)) is not None}


def test_a_full_disk_is_said_in_one_sentence_and_the_run_goes_on_when_there_is_room(disk: Path) -> None:
    assert mount("-o", "remount,size=200k", str(disk))
    code, said = run(disk)
    assert code == 2, said
    assert "has room for" in said
    assert not list(disk.iterdir())
    assert mount("-o", "remount,size=700k", str(disk))
    code, said = run(disk)
    assert code == 2, said
    assert "Traceback" not in said
    (sentence,) = said.strip().splitlines()
    assert str(disk) in sentence
    assert any(words in sentence for words in ("the disk is full", "has room for"))
    before = finished(disk / "ladder")
    assert "problems" in before
    assert not list(disk.rglob("*.tmp"))
    assert mount("-o", "remount,size=100m", str(disk))
    code, said = run(disk)
    assert code == 0, said
    after = finished(disk / "ladder")
    assert {name: after[name] for name in before} == before
    assert mount("-o", "remount,ro", str(disk))
    code, said = run(disk)
    (sentence,) = said.strip().splitlines()
    assert (code, "read-only" in sentence, str(disk) in sentence) == (2, True, True)
