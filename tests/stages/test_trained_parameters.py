"""A model's parameters are those that its training made: no other sound checkpoint in their place, no later step beside them."""

import shutil
from pathlib import Path
from typing import Any

import jax
import pytest

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.keys import key
from w2sr_jax.graph import manifest
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.stages import models
from w2sr_jax.stages.models import Model
from w2sr_jax.training import checkpoints
from w2sr_jax.training.digest import params_digest

TINY = ModelConfig(vocab_size=16, width=16, layers=1, heads=2, kv_heads=2)
MODEL = Model("t", "teachers/t", TINY, "teacher")
STEP = f"{MODEL.directory}/{models.CHECKPOINTS}/0"


def drawn(seed: int) -> Any:
    return transformer.init(TINY, key(seed, "init"))


def read(run: Path) -> str:
    """The digest of the parameters that a stage would work with."""
    return params_digest(models.parameters(run, MODEL, TINY, make_mesh(Mesh(), jax.devices()[:1])))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs with a model each, of the same shape."""
    runs = []
    for seed in range(2):
        run = tmp_path_factory.mktemp("runs") / f"run-{seed}"
        digest = checkpoints.save_params(MODEL.checkpoints(run), drawn(seed), {"seed": seed})
        manifest.Stage(run, MODEL.task, "train", "0").commit([], {STEP: digest}, {})
        runs.append(run)
    return runs[0], runs[1]


@pytest.fixture
def run(two: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "run"))


def test_a_later_step_beside_is_not_read(run: Path, two: tuple[Path, Path]) -> None:
    wanted = params_digest(drawn(0))
    assert read(run) == models.digest(run, MODEL) == wanted
    shutil.copytree(two[1] / STEP, MODEL.checkpoints(run) / "7")
    assert checkpoints.latest(MODEL.checkpoints(run)) == MODEL.checkpoints(run) / "7"
    assert read(run) == wanted
    assert models.origin(run, MODEL)["seed"] == 0


def test_another_sound_checkpoint_in_its_place_is_refused(run: Path, two: tuple[Path, Path]) -> None:
    shutil.rmtree(run / STEP)
    shutil.copytree(two[1] / STEP, run / STEP)
    assert checkpoints.restore_params(run / STEP)  # which by itself is sound
    for ask in (lambda: read(run), lambda: models.origin(run, MODEL)):
        with pytest.raises(UserError, match=r"checkpoints/0/DIGESTS\.json is not what teachers/t/train wrote"):
            ask()
    standing = manifest.Stage(run, MODEL.task, "train", "0").standing()
    assert (standing.manifest, standing.damaged) == (None, (run / STEP,))


def test_it_is_refused_too_where_the_manifest_is_of_an_earlier_version(run: Path, two: tuple[Path, Path]) -> None:
    path = manifest.manifest_path(run, MODEL.task)
    raw = {**files.read_json(path), "seals": {}}
    del raw[manifest.OWN], raw["needs"]
    files.write_json(path, {**raw, manifest.OWN: files.digest_json(raw)})
    assert read(run) == params_digest(drawn(0))
    shutil.rmtree(run / STEP)
    shutil.copytree(two[1] / STEP, run / STEP)
    with pytest.raises(UserError, match=r"checkpoints/0 is sound, but another one than the run made there"):
        read(run)


@pytest.mark.parametrize("item", ["params", "lineage"])
def test_a_part_of_another_checkpoint_is_refused(run: Path, two: tuple[Path, Path], item: str) -> None:
    shutil.rmtree(run / STEP / item)
    shutil.copytree(two[1] / STEP / item, run / STEP / item)
    with pytest.raises(UserError, match=rf"checkpoints/0 is damaged: .*checkpoints/0/{item}"):
        read(run)
