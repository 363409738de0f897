"""`training.loop.fit` as its callers see it: learns, logs, survives interruption, refuses what is not its own."""

import dataclasses
import functools
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import training_toy as toy

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.token import Nll, ReverseKL
from w2sr_jax.models import transformer
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.digest import params_digest


class Interrupt(Exception):
    pass


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, toy.run(directory).params_digest


def interrupt_at(step: int):
    def on_event(event):
        if event["step"] >= step:
            raise Interrupt

    return on_event


def test_memorises_and_logs_it(tmp_path: Path) -> None:
    settings = dataclasses.replace(toy.SETTINGS, steps=200, learning_rate=2e-2, weight_decay=0.0, log_every=50, save_every=0)
    events = []
    result = toy.run(tmp_path, settings, data=toy.batches(settings, rows=8, learnable=True), on_event=events.append)
    lines = journal.read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [1, 50, 100, 150, 200] == [event["step"] for event in events]
    assert lines[0]["nll"] == pytest.approx(math.log(toy.VOCAB), rel=0.3)
    assert lines[-1]["nll"] < 0.05
    assert lines[-1]["token_accuracy"] == 1.0
    assert lines[-1] == result.metrics
    assert all(0.0 <= event["waiting"] <= 1.0 for event in events)
    assert events[-1] | {"loss": 0, "tokens_per_second": 0, "waiting": 0} == {
        "step": 200,
        "total": 200,
        "loss": 0,
        "tokens_per_second": 0,
        "eta": 0,
        "waiting": 0,
    }
    assert result.tokens == 200 * 8 * (toy.LENGTH - 1)
    assert list((tmp_path / "tensorboard").glob("events*"))
    assert params_digest(checkpoints.restore_params(result.checkpoint)) == result.params_digest == params_digest(result.params)


def test_same_seed_same_bits_and_caller_keeps_its_parameters(tmp_path: Path, undisturbed: tuple[Path, str]) -> None:
    initial = toy.params()
    before = params_digest(initial)
    assert toy.run(tmp_path, initial=initial).params_digest == undisturbed[1]
    assert params_digest(initial) == before


@pytest.mark.parametrize("step", [1, 4, 6])
def test_interrupted_and_resumed_equals_undisturbed(tmp_path: Path, undisturbed: tuple[Path, str], step: int) -> None:
    with pytest.raises(Interrupt):
        toy.run(tmp_path, on_event=interrupt_at(step))
    assert toy.run(tmp_path).params_digest == undisturbed[1]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed[0] / "metrics.jsonl").read_bytes()


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import training_toy as toy
def on_event(event):
    if event["step"] == 4:
        os.kill(os.getpid(), signal.SIGKILL)
toy.run(Path({directory!r}), on_event=on_event)
"""


def test_killed_process_resumes_to_the_same_bits(tmp_path: Path, undisturbed: tuple[Path, str]) -> None:
    script = KILLED.format(folder=str(Path(__file__).parent), directory=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')
    assert toy.run(tmp_path).params_digest == undisturbed[1]
    assert (tmp_path / "metrics.jsonl").read_bytes() == (undisturbed[0] / "metrics.jsonl").read_bytes()


def test_finished_run_is_not_trained_again(undisturbed: tuple[Path, str]) -> None:
    events = []
    again = toy.run(undisturbed[0], on_event=events.append)
    assert (events, again.params_digest, again.metrics["step"]) == ([], undisturbed[1], 6)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"lineage": {"config_hash": "other"}}, "config hash"),
        ({"data": toy.batches(seed=1)}, "data digest"),
        ({"initial": toy.params(1)}, "initial params digest"),
    ],
)
def test_another_experiments_directory_is_refused(undisturbed: tuple[Path, str], changed: dict, word: str) -> None:
    before = (undisturbed[0] / "metrics.jsonl").read_bytes()
    with pytest.raises(UserError, match=f"another experiment's checkpoints: the {word} of 6 differs"):
        toy.run(undisturbed[0], **changed)
    assert (undisturbed[0] / "metrics.jsonl").read_bytes() == before
    assert checkpoints.latest(undisturbed[0] / "checkpoints").name == "6"


def test_non_finite_loss_stops_in_one_sentence_and_keeps_the_last_sound_checkpoint(tmp_path: Path) -> None:
    def explodes(tokens):
        nll = -jax.nn.log_softmax(tokens.logits)[jax.numpy.arange(len(tokens.target)), tokens.target]
        return jax.numpy.where(tokens.progress > 0.7, jax.numpy.nan, nll)

    with pytest.raises(UserError) as caught:
        toy.run(tmp_path, dataclasses.replace(toy.SETTINGS, log_every=100), objective=Objective(loss=explodes))
    message = str(caught.value)
    assert message.startswith("training stopped at step 5 of 6: the loss is nan")
    assert str(tmp_path / "checkpoints" / "4") in message
    assert "\n" not in message
    kept = checkpoints.restore_params(tmp_path / "checkpoints")
    assert checkpoints.read_lineage(tmp_path / "checkpoints")["step"] == 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1]


def test_starts_from_a_parents_checkpoint_and_records_it(tmp_path: Path, undisturbed: tuple[Path, str]) -> None:
    parent = undisturbed[0] / "checkpoints" / "6"
    settings = dataclasses.replace(toy.SETTINGS, steps=1)
    objective = Objective(loss=ReverseKL() + 1e-3 * Nll())  # the student begins where its reference is
    read = functools.partial(checkpoints.restore_params, parent)
    result = toy.run(tmp_path, settings, objective=objective, initial=read, lineage={"parent_checkpoint": str(parent)})
    assert checkpoints.read_lineage(tmp_path / "checkpoints")["initial_params_digest"] == undisturbed[1]
    assert result.metrics["loss"] == pytest.approx(1e-3 * result.metrics["nll"], rel=0.5)
    assert checkpoints.read_lineage(tmp_path / "checkpoints")["parent_checkpoint"] == str(parent)


def test_batch_that_the_mesh_does_not_divide_is_refused(tmp_path: Path) -> None:
    settings = dataclasses.replace(toy.SETTINGS, accumulation=2)
    with pytest.raises(UserError, match=r"rows is 8; it must be a multiple of .* = 2 × 8 × 1 = 16"):
        toy.run(tmp_path, settings, mesh=Mesh(data=8))


def test_parameters_of_another_model_are_refused(tmp_path: Path) -> None:
    larger = dataclasses.replace(toy.MODEL, mlp=64)
    with pytest.raises(UserError, match=r"do not fit the model: .*\(2, 64, 16\).*\(2, 32, 16\)"):
        toy.run(tmp_path, initial=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), transformer.shapes(larger)))
