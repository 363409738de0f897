"""What a training of the ladder does with checkpoints that another input left in its place."""

from pathlib import Path

import numpy as np
import pytest

from w2sr_jax.experiment import Experiment, ModelTeacher, Rung
from w2sr_jax.graph.stage import Context, Silent
from w2sr_jax.graph.store import RunStore
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.stages.plan import stages
from w2sr_jax.stages.training_work import Work
from w2sr_jax.training import checkpoints

OWNER = {"data_digest": "a", "config_hash": "b", "parent_digest": "c"}
EXPERIMENT = Experiment("x", (Rung("small", ModelConfig()),), (ModelTeacher(),))


class Listening(Silent):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def warn(self, message: str) -> None:
        self.heard.append(message)


@pytest.mark.parametrize("name", OWNER)
def test_checkpoints_of_other_inputs_give_way_with_a_warning_and_own_ones_stay(tmp_path: Path, name: str) -> None:
    watcher = Listening()
    work = Work(stages(EXPERIMENT).trainings["0-small.all"], Context(RunStore(tmp_path), watcher))
    folder = tmp_path / "rungs" / "0-small" / "all" / "checkpoints"
    work.clear_foreign(OWNER)  # there are none yet
    checkpoints.save_params(folder, {"w": np.ones(3, np.float32)}, OWNER)
    work.clear_foreign(OWNER)
    assert (watcher.heard, folder.exists()) == ([], True)
    work.clear_foreign({**OWNER, name: "other"})
    assert not folder.exists()
    (said,) = watcher.heard
    assert said.startswith("0-small.all is trained from the start, since its " + name.replace("_", " "))
