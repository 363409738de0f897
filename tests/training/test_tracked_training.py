"""What others than the journal get of a training: its scalars as they are written down, and how it ended."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import training_toy as toy

from w2sr_jax.core.errors import Stopped
from w2sr_jax.training import journal
from w2sr_jax.training.probe import Probing

SETTINGS = dataclasses.replace(toy.SETTINGS, log_every=1)


@dataclasses.dataclass
class Heard:
    """Satisfies `training.scalars.Scalars`."""

    owners: list[str] = dataclasses.field(default_factory=list)
    earlier: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    lines: list[tuple[str, int, dict[str, Any]]] = dataclasses.field(default_factory=list)
    ends: list[str] = dataclasses.field(default_factory=list)

    def begin(self, owner: str, earlier: Sequence[tuple[str, int, Any]]) -> None:
        self.owners.append(owner)
        self.earlier = [(group, step) for group, step, _ in earlier]

    def scalars(self, group: str, step: int, values: Any) -> None:
        self.lines.append((group, step, dict(values)))

    def end(self, state: str) -> None:
        self.ends.append(state)


def _probing() -> Probing:
    return Probing(2, lambda step, params: {"accuracy": step / 10})


def test_they_get_what_is_written_down(tmp_path: Path) -> None:
    heard = Heard()
    toy.run(tmp_path, SETTINGS, probe=_probing(), scalars=heard)
    losses = [(step, values["loss"]) for group, step, values in heard.lines if group == "train"]
    assert losses == [(line["step"], line["loss"]) for line in journal.read(tmp_path / journal.METRICS)]
    probed = [(step, values["accuracy"]) for group, step, values in heard.lines if group == "probe"]
    assert probed == [(line["step"], line["accuracy"]) for line in journal.read(tmp_path / journal.PROBE)]
    steps = [step for _, step, _ in heard.lines]
    assert steps == sorted(steps)
    assert all(values["tokens_per_second"] > 0 for group, _, values in heard.lines if group == "train")
    assert (heard.earlier, heard.ends) == ([], ["finished"])


def test_a_training_that_was_stopped_goes_on_as_the_same_one_with_what_it_wrote_before(tmp_path: Path) -> None:
    first, second, third = Heard(), Heard(), Heard()
    asked = iter([False] * 3)
    with pytest.raises(Stopped):
        toy.run(tmp_path, SETTINGS, probe=_probing(), scalars=first, stop=lambda: next(asked, True))
    toy.run(tmp_path, SETTINGS, probe=_probing(), scalars=second)
    assert first.ends == ["stopped"]
    assert first.owners == second.owners
    assert second.earlier == [("train", 1), ("train", 2), ("train", 3), ("probe", 0), ("probe", 2)]
    assert [step for group, step, _ in second.lines if group == "train"] == [4, 5, 6]
    toy.run(tmp_path / "other", SETTINGS, data=toy.batches(SETTINGS, rows=8), scalars=third)
    assert third.owners != first.owners


class Broken(Exception):
    pass


def test_a_training_that_fails_says_so(tmp_path: Path) -> None:
    heard = Heard()

    def fail(event: Any) -> None:
        raise Broken

    with pytest.raises(Broken):
        toy.run(tmp_path, SETTINGS, scalars=heard, on_event=fail)
    assert heard.ends == ["failed"]
