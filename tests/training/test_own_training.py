"""A training of one's own, which draws from the student as it is: run by `fit`, and after a stop or kill to the same bits."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import policy_toy as toy
import pytest

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.probe import Probing
from w2sr_jax.training.settings import Watchdog


class Interrupt(Exception):
    pass


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, toy.run(directory)


def check_same(directory: Path, result: TrainingResult, undisturbed: tuple[Path, TrainingResult]) -> None:
    assert result.params_digest == undisturbed[1].params_digest
    assert (result.tokens, result.metrics) == (undisturbed[1].tokens, undisturbed[1].metrics)
    assert (directory / journal.METRICS).read_bytes() == (undisturbed[0] / journal.METRICS).read_bytes()


def test_the_policy_follows_the_gradient_of_what_it_drew(undisturbed: tuple[Path, TrainingResult]) -> None:
    directory, result = undisturbed
    table = np.asarray(result.params["table"])
    np.testing.assert_allclose(table, toy.followed(directory), atol=1e-5)
    assert table.argmax() == toy.GOOD
    lines = journal.read(directory / journal.METRICS)
    assert [line["step"] for line in lines] == [1, 2, 4, 6, 7]
    rewards = [np.mean(np.load(directory / "drawn" / f"{line['step'] - 1}.npy") == toy.GOOD) for line in lines]
    assert [line["reward"] for line in lines] == pytest.approx(rewards)
    assert (result.steps, result.tokens) == (toy.STEPS, toy.STEPS * toy.DRAWN)
    lineage = checkpoints.read_lineage(result.checkpoint)
    assert (lineage["policy"], lineage["rewarded_share"], lineage["total_steps"]) == ("table", 0.2, toy.STEPS)
    assert lineage["data_digest"] == toy.PolicySource().digest


@pytest.mark.parametrize("step", [0, 2, 3, 5])
def test_interrupted_while_it_draws_it_goes_on_through_the_same_batches(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult], step: int
) -> None:
    def interrupt(drawing: int) -> None:
        if drawing == step:
            raise Interrupt

    first = toy.PolicySource(before=interrupt)
    with pytest.raises(Interrupt):
        toy.run(tmp_path, source=first)
    second = toy.PolicySource()
    check_same(tmp_path, toy.run(tmp_path, source=second), undisturbed)
    assert (first.drawn, second.drawn) == (list(range(step)), list(range(step, toy.STEPS)))


KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import policy_toy as toy
def kill(step):
    if step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
toy.run(Path({directory!r}), before=kill)
"""


def test_killed_it_reads_what_it_drew_and_ends_with_the_same_bits(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult]
) -> None:
    script = KILLED.format(folder=str(Path(__file__).parent), directory=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    source = toy.PolicySource()
    check_same(tmp_path, toy.run(tmp_path, source=source), undisturbed)
    assert source.drawn == [5, 6]


def test_what_another_engine_drew_before_a_stop_counts_after_it(tmp_path: Path, undisturbed: tuple[Path, TrainingResult]) -> None:
    """A draw need not be repeatable: those of the first sitting are of other keys, and are read again after the checkpoint."""
    first = toy.PolicySource(seed=1)
    first.digest = toy.PolicySource().digest
    asked = iter([False] * 4)
    with pytest.raises(Stopped, match=r"after step 4 of 7; it is saved in .*/4$"):
        toy.run(tmp_path, source=first, stop=lambda: next(asked, True))
    second = toy.PolicySource()
    result = toy.run(tmp_path, source=second)
    assert (first.drawn, second.drawn) == ([0, 1, 2, 3], [4, 5, 6])
    np.testing.assert_allclose(np.asarray(result.params["table"]), toy.followed(tmp_path), atol=1e-5)
    assert result.params_digest != undisturbed[1].params_digest


def test_a_source_that_heeds_the_request_to_stop_has_the_state_saved(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult]
) -> None:
    def stop(step: int) -> None:
        if step == 4:
            raise Stopped("asked while drawing")

    with pytest.raises(Stopped, match=r"asked to stop and did so after step 4 of 7; it is saved in .*/4$"):
        toy.run(tmp_path, before=stop)
    check_same(tmp_path, toy.run(tmp_path), undisturbed)


def test_it_may_take_longer_than_data_may_and_that_is_told_once(tmp_path: Path, undisturbed: tuple[Path, TrainingResult]) -> None:
    warnings: list[str] = []
    settings = dataclasses.replace(toy.SETTINGS, watchdog=Watchdog(stall=0.2))
    slow = toy.PolicySource(before=lambda step: time.sleep(0.6))
    check_same(tmp_path, toy.run(tmp_path, source=slow, settings=settings, on_warning=warnings.append), undisturbed)
    assert warnings == ["step 1 has waited 0.2 s for its batch, which is drawn from the student as it is"]


def test_probes_see_the_whole_policy_and_change_nothing(tmp_path: Path, undisturbed: tuple[Path, TrainingResult]) -> None:
    probe = Probing(4, lambda step, policy: {"good": float(policy[toy.GOOD]), "sum": float(policy.sum())})
    check_same(tmp_path, toy.run(tmp_path, probe=probe), undisturbed)
    lines = journal.read(tmp_path / journal.PROBE)
    assert [line["step"] for line in lines] == [0, 4, 7]
    table = toy.followed(tmp_path)
    last = np.exp(table[toy.GOOD]) / np.exp(table).sum()
    assert [lines[0]["good"], lines[-1]["good"]] == pytest.approx([0.2, last], rel=1e-4)
    assert [line["sum"] for line in lines] == pytest.approx([1.0] * 3, rel=1e-5)


def test_another_sources_directory_is_refused(undisturbed: tuple[Path, TrainingResult]) -> None:
    before = json.dumps(sorted(str(path) for path in undisturbed[0].rglob("*")))
    with pytest.raises(UserError, match="another experiment's checkpoints: the data digest of 7 differs"):
        toy.run(undisturbed[0], source=toy.PolicySource(seed=1))
    assert json.dumps(sorted(str(path) for path in undisturbed[0].rglob("*"))) == before
