"""How much of a training's time counts, and what interruptions cost: against sums by hand, and of an interrupted training."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import training_toy as toy

from w2sr_jax.training import journal
from w2sr_jax.training.goodput import SITTINGS, Clock, Goodput, changes, goodput


def begin(step: int, owner: str = "a") -> dict[str, Any]:
    return {"step": step, "owner": owner, "elapsed": 5.0, "stepping": 0.0}


def line(step: int, elapsed: float, stepping: float) -> dict[str, Any]:
    return {"step": step, "elapsed": elapsed, "stepping": stepping}


def test_one_sitting_is_its_steps_over_its_time() -> None:
    sat = goodput([begin(0), line(10, 20.0, 10.0), line(20, 40.0, 25.0), line(20, 50.0, 25.0)])
    assert sat == Goodput(wall=50.0, stepping=25.0, lost_steps=0, lost_seconds=0.0, sittings=1)
    assert sat.share == 0.5


def test_steps_after_the_checkpoint_of_a_killed_sitting_are_lost() -> None:
    """Killed after step 40, continued from 25, which lies halfway between two lines, and from 40 without a loss."""
    first = [begin(0), line(20, 30.0, 20.0), line(30, 42.0, 30.0), line(40, 55.0, 42.0)]
    second = [begin(25), line(40, 25.0, 15.0)]
    third = [begin(40), line(50, 16.0, 10.0)]
    sat = goodput([*first, *second, *third])
    assert sat == Goodput(wall=55.0 + 25.0 + 16.0, stepping=25.0 + 15.0 + 10.0, lost_steps=15, lost_seconds=17.0, sittings=3)


def test_a_sitting_that_was_killed_before_its_first_checkpoint_is_lost_whole() -> None:
    sat = goodput([begin(0), line(7, 12.0, 7.0), begin(0), line(10, 15.0, 10.0)])
    assert (sat.lost_steps, sat.lost_seconds, sat.stepping, sat.wall) == (7, 7.0, 10.0, 27.0)


def test_a_sitting_that_did_nothing_costs_its_time_alone() -> None:
    sat = goodput([begin(0), line(10, 20.0, 10.0), begin(10), begin(10), line(20, 20.0, 12.0)])
    assert (sat.lost_steps, sat.wall, sat.stepping, sat.sittings) == (0, 45.0, 22.0, 3)


def test_what_another_training_left_does_not_count_and_nothing_is_nothing() -> None:
    own = [begin(0), line(10, 20.0, 10.0)]
    assert goodput([begin(0, "another"), line(90, 99.0, 9.0), *own]) == goodput(own)
    assert goodput([]) == Goodput(0.0, 0.0, 0, 0.0, 0)
    assert goodput([]).share == 0.0


def test_the_clock_leaves_out_what_is_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(began=90.0)
    assert clock.seconds() == {"elapsed": 10.0, "stepping": 0.0}
    clock.start()
    now[0] += 8.0
    with clock.aside():
        now[0] += 3.0
    now[0] += 1.0
    assert clock.seconds() == {"elapsed": 22.0, "stepping": 9.0}


class Interrupt(Exception):
    pass


def test_where_a_training_went_on_elsewhere_is_said_once() -> None:
    sittings = [
        begin(0, "b") | {"on": "z"},
        *(begin(step) | {"on": on} for step, on in ((0, "x"), (4, "x"), (8, "y"), (12, "x"))),
    ]
    assert changes(sittings) == [{"after_step": 0, "on": "x"}, {"after_step": 8, "on": "y"}, {"after_step": 12, "on": "x"}]
    assert changes([]) == []


def test_an_interrupted_training_counts_what_it_computed_again(tmp_path: Path) -> None:
    """Saved at 2 and 4, broken off after step 5 was written down: one step is lost, as the sittings say."""
    settings = dataclasses.replace(toy.SETTINGS, log_every=1)

    def on_event(event: Any) -> None:
        if event["step"] == 6:
            raise Interrupt

    with pytest.raises(Interrupt):
        toy.run(tmp_path, settings, on_event=on_event)
    resumed = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdecimal())
    toy.run(tmp_path, settings)
    lines = journal.read(tmp_path / SITTINGS)
    assert [line["step"] for line in lines if "owner" in line] == [0, resumed]
    (alone,) = changes(lines)
    assert alone["after_step"] == 0
    assert alone["on"].startswith("1 process, ")
    sat = goodput(lines)
    assert (sat.sittings, sat.lost_steps) == (2, 5 - resumed)
    assert 0.0 <= sat.stepping + sat.lost_seconds <= sat.wall
    assert [line["step"] for line in journal.read(tmp_path / "metrics.jsonl")] == [1, 2, 3, 4, 5, 6]


def test_a_line_that_was_cut_off_keeps_nobody_from_going_on(tmp_path: Path) -> None:
    toy.run(tmp_path)
    with open(tmp_path / SITTINGS, "a") as file:
        file.write('{"step": 3, "elap')
    toy.run(tmp_path)
    assert goodput(journal.read(tmp_path / SITTINGS)).lost_steps == 0
