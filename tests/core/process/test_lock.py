"""The run lock: one process at a time, and a dead one does not keep it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process.lock import LOCK, locked

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from w2sr_jax.core.process.lock import locked
with locked(Path(sys.argv[1])):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGKILL)


def test_a_second_process_is_refused_and_told_who_holds_the_run(tmp_path: Path, holder: subprocess.Popen) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path} is in use by process {holder.pid} on "), locked(tmp_path):
        pass


def test_a_killed_process_does_not_keep_the_lock_even_if_its_children_live(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


def test_the_lock_can_be_taken_again_and_again_and_after_an_error(tmp_path: Path) -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="x"), locked(tmp_path / "new"):
            raise ValueError("x")


def test_an_unreadable_lock_file_still_locks(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / LOCK).write_text("not json")
        with pytest.raises(UserError, match="in use by another process"), locked(tmp_path):
            pass
