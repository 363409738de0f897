"""Checkpoints: the same bits on any mesh, nothing unfinished or damaged taken for sound."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.processes import put
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training import digest
from w2sr_jax.training.checkpoints import Checkpoints, latest, marker, read_lineage, restore_params, save_params
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.program import Compiled, make_program
from w2sr_jax.training.state import TrainState

OWNER = {"data_digest": "data", "config_hash": "configuration"}
EIGHT = Mesh(data=2, fsdp=2, tensor=2)


def program(mesh: Mesh = toy.ONE) -> Compiled:
    return make_program(toy.MODEL, Objective(), toy.SETTINGS, 6, make_mesh(mesh))


def state_at(step: int, mesh: Mesh = toy.ONE) -> TrainState:
    """A state that no two steps share, its moments too."""
    made = program(mesh)
    state = made.fresh(put(toy.params(), made.params))
    changed = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(step), (state.params, state.opt_state))
    return TrainState(*changed, jax.device_put(np.int32(step), state.step.sharding), state.sound)


def write(directory: Path, *steps: int, keep: int = 2, mesh: Mesh = toy.ONE) -> None:
    with Checkpoints(directory, keep) as checkpoints:
        for step in steps:
            checkpoints.save(state_at(step, mesh), OWNER)


def newest(directory: Path, mesh: Mesh = toy.ONE) -> tuple[TrainState, dict[str, Any]] | None:
    with Checkpoints(directory, 2) as checkpoints:
        return checkpoints.restore(program(mesh).like, OWNER)


@pytest.mark.parametrize(("saved", "restored"), [(EIGHT, toy.ONE), (toy.ONE, EIGHT)], ids=["8 to 1", "1 to 8"])
def test_another_mesh_gets_the_same_bits(tmp_path: Path, saved: Mesh, restored: Mesh) -> None:
    write(tmp_path, 3, mesh=saved)
    found = newest(tmp_path, restored)
    assert found is not None
    state, lineage = found
    jax.tree.map(np.testing.assert_array_equal, state, state_at(3))
    assert jax.tree.map(lambda leaf: leaf.sharding, state) == jax.tree.map(lambda leaf: leaf.sharding, program(restored).like)
    assert (lineage["step"], lineage["config_hash"]) == (3, "configuration")
    assert lineage["params_digest"] == params_digest(state.params) == params_digest(state_at(3).params)
    params = restore_params(tmp_path, program(restored).params)
    jax.tree.map(np.testing.assert_array_equal, params, state.params)
    assert params["embedding"].sharding == state.params["embedding"].sharding


def test_the_newest_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 1, 2, 3, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    assert latest(tmp_path) == tmp_path / "4"


def test_nothing_saved_is_nothing_restored(tmp_path: Path) -> None:
    assert newest(tmp_path / "new") is None
    assert latest(tmp_path / "absent") is None


def test_unfinished_directories_are_set_aside_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 3)
    (tmp_path / "7").mkdir()
    shutil.copytree(tmp_path / "3", tmp_path / "5")
    (tmp_path / "5" / "optimizer" / "_METADATA").unlink()
    shutil.copytree(tmp_path / "3", tmp_path / "9.orbax-checkpoint-tmp")
    with caplog.at_level(logging.WARNING, "w2sr_jax"):
        assert latest(tmp_path) == tmp_path / "3"
        found = newest(tmp_path)
    assert found is not None
    assert int(found[0].step) == 3
    assert {record.args[0].name for record in caplog.records if record.name.startswith("w2sr_jax")} == {"5", "7"}
    write(tmp_path, 5, 7)
    assert latest(tmp_path) == tmp_path / "7"


def flip_a_bit(item: Path) -> None:
    largest = max((path for path in item.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)


@pytest.mark.parametrize("item", ["params", "optimizer"])
def test_damage_falls_back_to_the_sound_one_before(tmp_path: Path, caplog: pytest.LogCaptureFixture, item: str) -> None:
    write(tmp_path, 3, 4)
    flip_a_bit(tmp_path / "4" / item)
    found = newest(tmp_path)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found[0], state_at(3))
    assert any("4 is ignored" in record.getMessage() for record in caplog.records)


def test_damaged_parameters_are_refused_where_they_were_asked_for(tmp_path: Path) -> None:
    write(tmp_path, 4)
    flip_a_bit(tmp_path / "4" / "params")
    with pytest.raises(UserError, match=r"checkpoint .*/4 (is damaged|cannot be read)"):
        restore_params(tmp_path / "4")


def test_another_experiments_checkpoint_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 4)
    with Checkpoints(tmp_path, 2) as checkpoints, pytest.raises(UserError, match="the config hash of 4 differs"):
        checkpoints.restore(program().like, OWNER | {"config_hash": "other"})
    assert read_lineage(tmp_path)["step"] == 4


def test_missing_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent does not exist"):
        restore_params(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no finished checkpoint"):
        restore_params(tmp_path)


def test_the_digest_of_an_array_does_not_depend_on_the_parts_it_is_read_in(monkeypatch) -> None:
    tree = {"stacked": np.arange(210, dtype=np.float32).reshape(5, 6, 7), "flat": np.arange(50), "scalar": np.float32(3)}
    whole = params_digest(tree)
    for size in (1, 40, 200, 500):
        monkeypatch.setattr(digest, "LARGE", size)
        assert params_digest(tree) == whole


def test_digest_sees_values_shapes_types_and_names() -> None:
    base = {"a": np.zeros((2, 2), np.float32), "b": np.zeros(1, np.float32)}
    others = [
        base | {"a": np.eye(2, dtype=np.float32)},
        base | {"a": np.zeros((4, 1), np.float32)},
        base | {"a": np.zeros((2, 2), np.int32)},
        {"a": base["a"], "c": base["b"]},
        base | {"a": jax.numpy.zeros((2, 2), jax.numpy.bfloat16)},
    ]
    digests = {params_digest(tree) for tree in [base, *others]}
    assert len(digests) == 6
    assert params_digest({"b": base["b"], "a": jax.numpy.zeros((2, 2))}) == params_digest(base)


def test_parameters_that_were_not_trained_replace_what_the_folder_held(tmp_path: Path) -> None:
    write(tmp_path / "kept", 7)
    digest = save_params(tmp_path / "kept", toy.params(), {"checkpoint": "elsewhere"})
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["0"]
    assert digest == params_digest(toy.params()) == params_digest(restore_params(tmp_path / "kept"))
    assert read_lineage(tmp_path / "kept")["checkpoint"] == "elsewhere"


def test_the_marker_changes_with_the_parameters(tmp_path: Path) -> None:
    write(tmp_path / "ours", 3)
    first = marker(tmp_path / "ours").read_text()
    assert json.loads(first)["params_digest"] == params_digest(state_at(3).params)
    assert marker(tmp_path / "ours" / "3").read_text() == first
    write(tmp_path / "ours", 4)
    assert marker(tmp_path / "ours").read_text() != first

    (tmp_path / "theirs").mkdir()
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (tmp_path / "theirs" / name).touch()
        assert marker(tmp_path / "theirs").name == name
    with pytest.raises(UserError, match="absent does not exist"):
        marker(tmp_path / "absent")
