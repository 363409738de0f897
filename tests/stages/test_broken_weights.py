"""Weights that hold a value which is no number are refused where they come into a run, not where they have spoilt it."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from w2sr_jax.convert.importing import import_model
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, ModelTeacher, Rung
from w2sr_jax.graph.stage import Silent
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.hf import pretrained
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Generated, Splits
from w2sr_jax.stages.execute import execute
from w2sr_jax.text.settings import WordTokenizer

SMALL = ModelConfig(vocab_size=112, width=16, layers=1, heads=2, kv_heads=2, mlp=32)
EXPERIMENT = Experiment(
    name="mine",
    problems=Generated(largest=9),
    splits=Splits(teacher=4, pool=8, probe=2, test=4),
    tokenizer=WordTokenizer(largest=9),
    rungs=(Rung("plain", SMALL, arms=("all",), gold=False),),
    evaluation=Evaluation(resamples=20),
    mesh=Mesh(data=1),
)


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Hugging Face directory with one value that is no number."""
    directory = tmp_path_factory.mktemp("weights") / "broken"
    params = jax.tree.map(np.array, transformer.init(SMALL, jax.random.key(0)))
    params["layers"]["mlp"]["up"][0, 3, 5] = np.nan
    pretrained.save(directory, SMALL, params)
    return str(directory)


def test_they_are_not_imported(broken: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"broken is not imported: layers.mlp.up holds 1 values that are not finite numbers"):
        import_model(broken, tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("who", ["teacher", "base"])
def test_neither_a_teacher_nor_a_student_is_made_of_them(broken: str, tmp_path: Path, who: str) -> None:
    sound = str(tmp_path / "sound")
    pretrained.save(Path(sound), SMALL, transformer.init(SMALL, jax.random.key(0)))
    teacher = ModelTeacher("weak", SMALL, checkpoint=broken if who == "teacher" else sound)
    rung = dataclasses.replace(EXPERIMENT.rungs[0], start=FromCheckpoint(broken if who == "base" else sound), teachers=("weak",))
    experiment = dataclasses.replace(EXPERIMENT, teachers=(teacher,), rungs=(rung,))
    name = "weak" if who == "teacher" else "0-plain.base"
    with pytest.raises(UserError, match=rf"{name}: .*broken cannot be used: layers.mlp.up holds 1 values"):
        execute(experiment, tmp_path / "run", Silent(), "train")
