"""A training that is asked to stop, and one that is looked at while it learns: the same bits as without interruption."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import training_toy as toy

from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.digest import params_digest
from w2sr_jax.training.loop import TrainingResult
from w2sr_jax.training.probe import Probing
from w2sr_jax.training.retention import retire

SETTINGS = dataclasses.replace(toy.SETTINGS, save_every=0)


class Looker:
    """Sees the digest of the parameters as a number; refuses where it is told to."""

    def __init__(self, refuse: int | None = None) -> None:
        self.steps: list[int] = []
        self.refuse = refuse

    def __call__(self, step: int, params: Any) -> dict[str, float | int | None]:
        if step == self.refuse:
            raise UserError(f"the student repeats its teacher's errors at step {step}")
        self.steps.append(step)
        return {"accuracy": int(params_digest(params)[:8], 16) / 2**32, "induced": None if step == 0 else float("nan"), "n": 7}


def probed(directory: Path, looker: Looker | None = None, **rest: Any) -> TrainingResult:
    return toy.run(directory, SETTINGS, probe=Probing(2, looker or Looker()), **rest)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return directory, probed(directory)


def check_same(directory: Path, result: TrainingResult, undisturbed: tuple[Path, TrainingResult]) -> None:
    assert result.params_digest == undisturbed[1].params_digest
    assert (result.tokens, result.metrics) == (undisturbed[1].tokens, undisturbed[1].metrics)
    for name in (journal.METRICS, journal.PROBE):
        assert (directory / name).read_bytes() == (undisturbed[0] / name).read_bytes()


def after(polls: int) -> Callable[[], bool]:
    """False `polls` times, and then true."""
    asked = iter([False] * polls)
    return lambda: next(asked, True)


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_asked_to_stop_it_saves_and_goes_on_with_the_same_bits(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult], step: int
) -> None:
    words = f"did so after step {step} of 6; it is saved in {tmp_path}/checkpoints/{step}$"
    with pytest.raises(Stopped, match=words):
        probed(tmp_path, stop=after(step))
    assert checkpoints.latest(tmp_path / "checkpoints") == tmp_path / "checkpoints" / str(step)
    with pytest.raises(Stopped, match=words):
        probed(tmp_path, stop=after(0))
    check_same(tmp_path, probed(tmp_path, stop=lambda: False), undisturbed)


def test_asked_before_the_first_step_there_is_nothing_to_save(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="after step 0 of 6; nothing had to be saved"):
        probed(tmp_path, stop=lambda: True)
    assert checkpoints.latest(tmp_path / "checkpoints") is None


def test_what_is_seen_is_written_in_order(undisturbed: tuple[Path, TrainingResult]) -> None:
    lines = journal.read(undisturbed[0] / journal.PROBE)
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert lines[0]["accuracy"] == int(params_digest(toy.params())[:8], 16) / 2**32
    assert lines[-1] == {
        "step": 6,
        "accuracy": int(undisturbed[1].params_digest[:8], 16) / 2**32,
        "induced": None,
        "n": 7,
    }
    plain = toy.run(undisturbed[0].parent / "plain", SETTINGS)
    assert plain.params_digest == undisturbed[1].params_digest
    assert not (undisturbed[0].parent / "plain" / journal.PROBE).exists()


def test_a_step_is_looked_at_once_over_all_sittings(tmp_path: Path, undisturbed: tuple[Path, TrainingResult]) -> None:
    first, second = Looker(), Looker()
    with pytest.raises(Stopped):
        probed(tmp_path, first, stop=after(4))
    (tmp_path / journal.PROBE).open("a").write('{"step":6,"accuracy":0.0}\n{"st')
    result = probed(tmp_path, second)
    assert (first.steps, second.steps) == ([0, 2, 4], [6])
    check_same(tmp_path, result, undisturbed)
    again = Looker()
    probed(tmp_path, again)
    assert again.steps == []


@pytest.mark.parametrize("step", [2, 6])
def test_a_gate_stops_with_a_checkpoint_and_stands_when_the_run_is_repeated(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult], step: int
) -> None:
    for _ in range(2):
        with pytest.raises(UserError, match=f"teacher's errors at step {step}"):
            probed(tmp_path, Looker(refuse=step))
        assert checkpoints.read_lineage(tmp_path / "checkpoints")["step"] == step
    looker = Looker()
    check_same(tmp_path, probed(tmp_path, looker), undisturbed)
    assert looker.steps == [number for number in (0, 2, 4, 6) if number >= step]


def test_a_gate_before_the_first_step_saves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at step 0"):
        probed(tmp_path, Looker(refuse=0))
    assert checkpoints.latest(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("name", [journal.METRICS, journal.PROBE])
@pytest.mark.parametrize("damage", ["gone", "a line less", "flipped"])
def test_lines_that_are_lost_or_damaged_are_made_again(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult], name: str, damage: str
) -> None:
    with pytest.raises(Stopped):
        probed(tmp_path, stop=after(5))
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    match damage:
        case "gone":
            (tmp_path / name).unlink()
        case "a line less":
            (tmp_path / name).write_bytes(b"".join(lines[:1] + lines[2:]))
        case "flipped":
            (tmp_path / name).write_bytes(b"".join([lines[0].replace(b'"step"', b'"sTep"'), *lines[1:]]))
    warnings: list[str] = []
    check_same(tmp_path, probed(tmp_path, on_warning=warnings.append), undisturbed)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"the training starts anew: {tmp_path / name}")


def test_a_finished_training_is_left_with_its_parameters_and_returns_at_once(undisturbed: tuple[Path, TrainingResult]) -> None:
    directory, result = undisturbed
    step = directory / "checkpoints" / "6"
    assert result.checkpoint == step
    assert [path.name for path in step.parent.iterdir()] == ["6"]
    assert not (step / "optimizer").exists()
    before = json.dumps(sorted(str(path) for path in directory.rglob("*")))
    events: list[Any] = []
    again = probed(directory, on_event=events.append)
    assert (events, again.params_digest, again.tokens) == ([], result.params_digest, result.tokens)
    assert json.dumps(sorted(str(path) for path in directory.rglob("*"))) == before


def test_without_the_optimizers_state_an_unfinished_training_starts_anew(
    tmp_path: Path, undisturbed: tuple[Path, TrainingResult]
) -> None:
    with pytest.raises(Stopped):
        probed(tmp_path, stop=after(4))
    retire(tmp_path / "checkpoints", keep_optimizer=False)
    warnings: list[str] = []
    check_same(tmp_path, probed(tmp_path, on_warning=warnings.append), undisturbed)
    assert warnings == ["the training starts anew: the checkpoint of step 4 holds no optimizer's state"]
