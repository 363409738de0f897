"""What checkpoints take of the disk: while training, after it, when killed in between, and where there is no room."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import test_checkpoints as saved
import training_toy as toy

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.training import retention, steps
from w2sr_jax.training.checkpoints import Checkpoints, latest, read_lineage, resolve, restore_params
from w2sr_jax.training.digest import params_digest


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps, an unsound one, and what kills may have left."""
    directory = tmp_path_factory.mktemp("finished")
    saved.write(directory, 3, 4)
    for name in ("2.unsound", ".1.removed", "5.orbax-checkpoint-tmp"):
        shutil.copytree(directory / "3", directory / name)
    return directory


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def check_retired(directory: Path) -> None:
    assert names(directory) == ["4"]
    assert files.damage(directory / "4") is None
    assert not (directory / "4" / "optimizer").exists()
    assert latest(directory) == resolve(directory) == directory / "4"
    assert params_digest(restore_params(directory)) == params_digest(saved.state_at(4).params)


def test_a_finished_training_keeps_its_parameters(finished: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(finished, tmp_path / "copy")
    before = retention._size(directory / "4")
    assert retention.retire(directory, keep_optimizer=False) == directory / "4"
    check_retired(directory)
    assert retention._size(directory / "4") < before
    assert read_lineage(directory)["step"] == 4
    assert not any(name.startswith("optimizer") for name in json.loads((directory / "4" / files.SEAL).read_text()))
    found = saved.newest(directory)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found[0].params, saved.state_at(4).params)
    assert found[0].opt_state is None
    retention.retire(directory, keep_optimizer=False)
    check_retired(directory)


def test_the_optimizer_is_kept_where_that_is_asked_for(finished: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(finished, tmp_path / "copy")
    retention.retire(directory, keep_optimizer=True)
    assert names(directory) == ["4"]
    found = saved.newest(directory)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found[0].opt_state, saved.state_at(4).opt_state)


def test_killed_at_any_point_the_last_step_is_readable_and_the_rest_is_made_up_for(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed before each change to the disk in turn, and half-way through each removal."""
    wanted = params_digest(saved.state_at(4).params)
    for fatal in itertools.count():
        directory = shutil.copytree(finished, tmp_path / "copy")
        (directory / "4" / files.SEAL).unlink()
        count = itertools.count()

        def due(count: Any = count, fatal: int = fatal) -> bool:
            return next(count) == fatal

        def rename(path: Path, target: Path, due: Any = due, real: Any = Path.rename) -> Path:
            if due():
                raise Killed
            return real(path, target)

        def rmtree(path: Path, due: Any = due, real: Any = shutil.rmtree) -> None:
            if due():
                raise Killed
            if due():
                for half in sorted(found for found in path.rglob("*") if found.is_file())[::2]:
                    half.unlink()
                raise Killed
            real(path)

        def write(path: Path, value: Any, due: Any = due, real: Any = files.write_json) -> None:
            if due():
                raise Killed
            real(path, value)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", rename)
            patched.setattr(retention.shutil, "rmtree", rmtree)
            patched.setattr(files, "write_json", write)
            try:
                retention.retire(directory, keep_optimizer=False)
                killed = False
            except Killed:
                killed = True
        assert params_digest(restore_params(directory)) == wanted, fatal
        retention.retire(directory, keep_optimizer=False)
        check_retired(directory)
        shutil.rmtree(directory)
        if not killed:
            break
    assert fatal > 8


def test_an_opened_folder_is_rid_of_what_kills_left(finished: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(finished, tmp_path / "copy")
    with Checkpoints(directory, 2):
        assert names(directory) == ["2.unsound", "3", "4"]


def test_never_more_than_one_above_those_kept(tmp_path: Path) -> None:
    most = 0
    with Checkpoints(tmp_path, 2) as checkpoints:
        for step in range(1, 7):
            checkpoints.save(saved.state_at(step), saved.OWNER)
            most = max(most, len(list(tmp_path.iterdir())))
            checkpoints._orbax.wait_until_finished()
            most = max(most, len(list(tmp_path.iterdir())))
    assert most == 3
    assert names(tmp_path) == ["5", "6"]


def test_no_room_is_said_before_training_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = saved.program().like[:2]
    each = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert each == pytest.approx(3 * sum(leaf.nbytes for leaf in jax.tree.leaves(toy.params())), rel=0.01)

    def disk(free: int) -> None:
        monkeypatch.setattr(retention.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 0, free))

    disk(3 * each)
    retention.room(tmp_path / "new", state, keep=2)
    disk(3 * each - 1)
    words = r"new has room for [\d.]+ kB, and the checkpoints of this training need [\d.]+ kB \(3 of [\d.]+ kB\)"
    with pytest.raises(UserError, match=words):
        retention.room(tmp_path / "new", state, keep=2)
    with pytest.raises(UserError, match="lower training"):
        toy.run(tmp_path / "run")
    assert not steps.listed(tmp_path / "run" / "checkpoints")
    # One checkpoint at the end, and none beside it, is all that this training writes.
    toy.run(tmp_path / "run", dataclasses.replace(toy.SETTINGS, save_every=0))
    saved.write(tmp_path / "old", 1)
    retention.room(tmp_path / "old", state, keep=2)
