"""Saving beside the training: what steps wait for and what not, one save at a time, errors and kills in the background."""

import dataclasses
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import test_checkpoints as saved
import training_toy as toy

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.trees import tree
from w2sr_jax.training import digest
from w2sr_jax.training.checkpoints import Checkpoints, latest, read_lineage

PATIENCE = 60.0
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import test_checkpoints as saved
from w2sr_jax.core import trees
from w2sr_jax.training import digest
from w2sr_jax.training.checkpoints import Checkpoints
with Checkpoints(Path(sys.argv[2]), 1) as checkpoints:
    checkpoints.save(saved.state_at(3), saved.OWNER)
    checkpoints.wait()
    later = saved.state_at(4)
    module, name = {"digested": (digest, "_sha256"), "sealed": (trees.LocalTree, "seal")}[sys.argv[3]]
    setattr(module, name, lambda *_: os._exit(9))
    checkpoints.save(later, saved.OWNER)
    checkpoints.wait()
"""


def in_background(monkeypatch: pytest.MonkeyPatch, before: Callable[[], None]) -> None:
    """Have `before` called whenever arrays are digested in another thread than that of the training."""
    original = digest._sha256

    def digested(leaves: Iterable[Any]) -> str:
        if threading.current_thread() is not threading.main_thread():
            before()
        return original(leaves)

    monkeypatch.setattr(digest, "_sha256", digested)


def plain(tree: Any) -> str:
    """The sha256 of paths, types, shapes and bytes, as the pages describe it."""
    whole = hashlib.sha256()
    leaves = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    for path in sorted(leaves):
        whole.update(f"{path}\n{leaves[path].dtype.name}\n{leaves[path].shape}\n".encode() + leaves[path].tobytes())
    return whole.hexdigest()


def test_steps_go_on_while_a_save_is_digested_and_do_not_change_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is digested before the fourth step has been done, which writes over the state of the second."""
    undisturbed = toy.run(tmp_path / "undisturbed")
    go, waits = threading.Event(), []
    in_background(monkeypatch, lambda: waits.append(go.wait(PATIENCE)))
    settings = dataclasses.replace(toy.SETTINGS, log_every=1, save_every=2)
    # Metrics are read a step late.
    result = toy.run(tmp_path / "run", settings, on_event=lambda event: go.set() if event["step"] == 3 else None)
    assert waits
    assert all(waits)
    assert result.params_digest == undisturbed.params_digest == plain(result.params)


def test_one_save_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [saved.state_at(step) for step in (1, 2)]
    go = threading.Event()
    in_background(monkeypatch, lambda: None if go.wait(PATIENCE) else pytest.fail("never went on"))
    with Checkpoints(tmp_path, 2) as checkpoints:
        checkpoints.save(states[0], saved.OWNER)
        second = threading.Thread(target=checkpoints.save, args=(states[1], saved.OWNER))
        second.start()
        second.join(0.5)
        assert second.is_alive()
        assert not any(path.name.startswith("2") for path in tmp_path.iterdir())
        go.set()
        second.join(PATIENCE)
    for step in (1, 2):
        assert files.damage(tmp_path / str(step)) is None
        lineage = read_lineage(tmp_path / str(step))
        assert lineage["params_digest"] == plain(saved.state_at(step).params)
        assert lineage["optimizer_digest"] == plain(saved.state_at(step).opt_state)


def test_an_error_in_the_background_ends_the_training_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the device is lost\nand much more")

    steps = []

    def on_event(event: Any) -> None:
        steps.append(event["step"])
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join(PATIENCE)

    settings = dataclasses.replace(toy.SETTINGS, log_every=1, save_every=3)
    in_background(monkeypatch, fail)
    with pytest.raises(UserError) as raised:
        toy.run(tmp_path, settings, on_event=on_event)
    assert str(raised.value) == (
        f"a checkpoint could not be saved in {tmp_path / 'checkpoints'}: the device is lost; no checkpoint was saved before"
    )
    assert max(steps) < 6
    assert list((tmp_path / "checkpoints").iterdir()) == []
    monkeypatch.undo()
    assert toy.run(tmp_path, settings).steps == 6


def test_a_kill_in_the_background_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    """Killed before the digests are known, and before the seal."""
    folder = str(Path(__file__).parent)
    running = {
        point: subprocess.Popen([sys.executable, "-c", KILLED, folder, str(tmp_path / point), point], stderr=subprocess.PIPE)
        for point in ("digested", "sealed")
    }
    for process in running.values():
        _, err = process.communicate(timeout=200)
        assert process.returncode == 9, err.decode()[-3000:]
    for point in running:
        assert files.sealed(tmp_path / point / "3")
        assert files.damage(tmp_path / point / "3") is None
        assert not files.sealed(tmp_path / point / "4")
    assert latest(tmp_path / "digested") == tmp_path / "digested" / "3"
    restored = saved.newest(tmp_path / "digested")
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, restored[0], saved.state_at(3))
    assert [path.name for path in (tmp_path / "digested").iterdir()] == ["3"]
    # All bytes of the other are there, and are those of its lineage.
    restored = saved.newest(tmp_path / "sealed")
    assert restored is not None
    jax.tree.map(np.testing.assert_array_equal, restored[0], saved.state_at(4))
    assert files.sealed(tmp_path / "sealed" / "4")


def test_files_that_another_process_hashed_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "ours").write_text("a")
    (tmp_path / "theirs").write_text("b")
    tree(tmp_path).seal({"theirs": "its digest", "absent": "nothing"})
    assert files.read_json(tmp_path / files.SEAL) == {"ours": hashlib.sha256(b"a").hexdigest(), "theirs": "its digest"}
