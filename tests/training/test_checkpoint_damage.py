"""Every kind of damage to a checkpoint is noticed and named, and the newest sound step is used instead."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import test_checkpoints as saved

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.training.checkpoints import Checkpoints, latest, read_lineage, resolve, restore_params
from w2sr_jax.training.retention import retire

OLD, NEW = "3", "4"


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sound")
    saved.write(directory, int(OLD), int(NEW))
    return directory


@pytest.fixture
def copy(two_steps: Path, tmp_path: Path) -> Path:
    return shutil.copytree(two_steps, tmp_path / "copy")


def flip(path: Path, at: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1
    path.write_bytes(data)


def restored_step(directory: Path) -> int:
    found = saved.newest(directory)
    assert found is not None
    return int(found[0].step)


def files_of(step: Path) -> list[str]:
    return sorted(str(path.relative_to(step)) for path in step.rglob("*") if path.is_file())


def test_a_committed_step_is_sealed_and_sound(two_steps: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in (OLD, NEW):
        digests = json.loads((two_steps / name / files.SEAL).read_text())
        assert sorted([*digests, files.SEAL]) == files_of(two_steps / name)
    with caplog.at_level(logging.WARNING, "w2sr_jax"):
        assert (latest(two_steps), resolve(two_steps)) == (two_steps / NEW, two_steps / NEW)
        assert restored_step(two_steps) == int(NEW)
    assert not caplog.records


def test_one_flipped_byte_of_any_file_is_noticed(two_steps: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = files_of(two_steps / NEW)
    assert len(names) > 20
    for name in names:
        directory = shutil.copytree(two_steps, tmp_path / "copy")
        flip(directory / NEW / name)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "w2sr_jax"):
            assert latest(directory) == directory / OLD, name
        file = str(directory / NEW / name)
        # Some bytes of the seal belong to the name or the digest of another file.
        assert file in caplog.text or name == files.SEAL, name
        with pytest.raises(UserError, match=r"/4 is damaged: .*/4/"):
            restore_params(directory)
        shutil.rmtree(directory)


def test_any_byte_of_the_seal_and_the_lineage_counts(two_steps: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(two_steps, tmp_path / "copy")
    for name in (files.SEAL, "lineage/metadata"):
        sound = (directory / NEW / name).read_bytes()
        for at in range(0, len(sound), 19):
            flip(directory / NEW / name, at)
            assert latest(directory) == directory / OLD, (name, at)
            (directory / NEW / name).write_bytes(sound)
    assert latest(directory) == directory / NEW


def truncate(step: Path) -> str:
    largest = max((path for path in (step / "params").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    return largest.name


def remove(name: str) -> Callable[[Path], str]:
    def damage(step: Path) -> str:
        (step / name).unlink()
        return name

    return damage


def empty(step: Path) -> str:
    shutil.rmtree(step)
    step.mkdir()
    return "_CHECKPOINT_METADATA"


def metadata(step: Path) -> str:
    flip(step / "params" / "_METADATA")
    return "params/_METADATA"


def optimizer(step: Path) -> str:
    flip(max((path for path in (step / "optimizer").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size))
    return "optimizer/"


DAMAGES = [
    pytest.param(truncate, id="truncated"),
    pytest.param(remove("params/manifest.ocdbt"), id="array data missing"),
    pytest.param(remove("_CHECKPOINT_METADATA"), id="commit marker missing"),
    pytest.param(remove("lineage/metadata"), id="lineage missing"),
    pytest.param(empty, id="empty"),
    pytest.param(metadata, id="metadata flipped"),
    pytest.param(optimizer, id="optimizer flipped"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_step_is_named_and_set_aside_for_the_one_before(
    copy: Path, damage: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    name = damage(copy / NEW)
    with caplog.at_level(logging.WARNING, "w2sr_jax"):
        assert restored_step(copy) == int(OLD)
    assert name in caplog.text
    assert "4 is ignored and renamed to 4.unsound" in caplog.text
    assert sorted(path.name for path in copy.iterdir()) == [OLD, f"{NEW}.unsound"]
    saved.write(copy, int(NEW))
    assert restored_step(copy) == int(NEW)


def test_of_the_unsound_only_the_latest_is_kept(copy: Path) -> None:
    for path in (copy / OLD, copy / NEW):
        metadata(path)
    assert saved.newest(copy) is None
    assert [path.name for path in copy.iterdir()] == [f"{OLD}.unsound"]


@pytest.mark.parametrize("item", [None, "params", "optimizer", "lineage"])
def test_a_step_that_was_killed_before_its_seal_is_checked_by_its_arrays(copy: Path, item: str | None) -> None:
    (copy / NEW / files.SEAL).unlink()
    (copy / NEW / f".{files.SEAL}.killed.tmp").write_text("{")
    if item is not None:
        saved.flip_a_bit(copy / NEW / item)
    assert restored_step(copy) == int(NEW if item is None else OLD)
    if item is None:
        assert files.damage(copy / NEW) is None
        assert not list((copy / NEW).glob(".*.tmp"))


def test_a_lineage_answers_for_itself(copy: Path) -> None:
    path = copy / NEW / "lineage" / "metadata"
    assert read_lineage(copy)["data_digest"] == "data"
    path.write_text(path.read_text().replace('"data"', '"date"'))
    with pytest.raises(UserError, match=r"4/lineage/metadata does not have the digest that it states itself"):
        read_lineage(copy / NEW)


def test_a_finished_trainings_damage_is_an_error_that_names_the_file(copy: Path) -> None:
    retire(copy, keep_optimizer=False)
    flip(copy / NEW / "params" / "_sharding")
    with pytest.raises(UserError, match=r"/4 is damaged: .*/4/params/_sharding does not have the digest"):
        restore_params(copy)


def test_an_error_that_is_not_damage_does_not_cost_a_checkpoint(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Checkpoints(copy, 2) as checkpoints:
        monkeypatch.setattr(checkpoints._orbax, "restore", lambda *_, **__: (_ for _ in ()).throw(MemoryError("device")))
        with pytest.raises(MemoryError):
            checkpoints.restore(saved.program().like, saved.OWNER)
    assert sorted(path.name for path in copy.iterdir()) == [OLD, NEW]
