"""A model's parameters are those that its training made: no other sound checkpoint in their place, no later step beside them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hand_made import commit

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.keys import key
from w2sr_jax.graph import manifest
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import Lora
from w2sr_jax.parallel.mesh import make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.stages import models
from w2sr_jax.stages.models import Model
from w2sr_jax.training import checkpoints
from w2sr_jax.training.digest import params_digest

TINY = ModelConfig(vocab_size=16, width=16, layers=1, heads=2, kv_heads=2)
MODEL = Model("t", "teachers/t", TINY, "teacher")
STEP = f"{MODEL.checkpoints}/0"


def drawn(seed: int) -> Any:
    return transformer.init(TINY, key(seed, "init"))


def read(run: Path) -> str:
    """The digest of the parameters that a stage would work with."""
    return params_digest(models.parameters(RunStore(run), MODEL, TINY, make_mesh(Mesh(), jax.devices()[:1])))


def written(run: Path) -> manifest.Manifest:
    made = manifest.read(run, MODEL.stage)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs with a model each, of the same shape."""
    runs = []
    for seed in range(2):
        run = tmp_path_factory.mktemp("runs") / f"run-{seed}"
        digest = checkpoints.save_params(run / MODEL.checkpoints, drawn(seed), {"seed": seed})
        commit(run, MODEL.stage, "train", artifacts={STEP: digest})
        runs.append(run)
    return runs[0], runs[1]


@pytest.fixture
def run(two: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(two[0], tmp_path / "run"))


def test_a_later_step_beside_is_not_read(run: Path, two: tuple[Path, Path]) -> None:
    wanted = params_digest(drawn(0))
    assert read(run) == models.digest(RunStore(run), MODEL) == wanted
    beside = run / MODEL.checkpoints / "7"
    shutil.copytree(two[1] / STEP, beside)
    assert checkpoints.latest(beside.parent) == beside
    assert read(run) == wanted
    assert models.origin(RunStore(run), MODEL)["seed"] == 0


def test_another_sound_checkpoint_in_its_place_is_refused(run: Path, two: tuple[Path, Path]) -> None:
    shutil.rmtree(run / STEP)
    shutil.copytree(two[1] / STEP, run / STEP)
    assert checkpoints.restore_params(run / STEP)  # which by itself is sound
    for ask in (lambda: read(run), lambda: models.origin(RunStore(run), MODEL)):
        with pytest.raises(UserError, match=r"checkpoints/0/DIGESTS\.json is not what teachers/t/train wrote"):
            ask()
    ((broken, _),) = manifest.broken_files(run, written(run))
    assert broken == STEP


def test_it_is_refused_too_where_the_manifest_does_not_name_its_digests(run: Path, two: tuple[Path, Path]) -> None:
    manifest.write(run, dataclasses.replace(written(run), seals={}))
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


def test_adapters_beside_a_model_that_has_adapters_itself(tmp_path: Path) -> None:
    """Two training stages of an arm, both with LoRA: what the second one made lies beside what the first one and the base are
    together."""
    store, small = RunStore(tmp_path), Lora(rank=2, alpha=4.0)
    first = Model("s-1", "rungs/0-s/all/1", TINY, "student", base=MODEL, lora=small)
    second = Model("s", "rungs/0-s/all", TINY, "student", base=first, lora=small)
    base = drawn(0)
    trained = [lora.init(TINY, small, base, key(seed, "init")) for seed in (1, 2)]
    trained = [jax.tree.map(lambda leaf: leaf + 0.1, each) for each in trained]
    for model, params in ((MODEL, base), (first, trained[0]), (second, trained[1])):
        digest = checkpoints.save_params(tmp_path / model.checkpoints, params, {})
        commit(tmp_path, model.stage, "train", artifacts={f"{model.checkpoints}/0": digest})
    together = lora.merge(TINY, small, lora.merge(TINY, small, base, trained[0]), trained[1])
    there = models.parameters(store, second, TINY, make_mesh(Mesh(), jax.devices()[:1]))
    jax.tree.map(lambda left, right: np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-6), there, together)
    assert params_digest(there) not in (params_digest(base), models.digest(store, first))
