"""Who is slow and who is silent among the processes of a run."""

import math
import re
import time
from collections.abc import Callable

import pytest
from test_peers import Group, group

from w2sr_jax.parallel import pace as module
from w2sr_jax.parallel.pace import Pace, Rate, Report

__all__ = ["group"]


def report(done: float, rate: float, waiting: float = 0.0, stage: str = "s") -> Report:
    return Report(stage, done, 100.0, rate, waiting)


def pace(*reports: Report) -> Pace:
    taken = Pace(len(reports))
    for index, each in enumerate(reports):
        taken.take(index, each, 0.0)
    return taken


def test_the_slowest_is_named_where_the_median_is_half_again_as_fast() -> None:
    assert pace(report(9, 3.0), report(9, 3.1), report(4, 1.9)).words() == "process 2 is slow: 1.9/s, median 3/s"
    assert pace(report(9, 3.0), report(9, 3.1), report(4, 2.1)).words() == "3 processes at 2.1/s to 3.1/s"


def test_of_steps_that_all_take_together_the_one_that_waits_for_batches_is_named() -> None:
    words = pace(report(9, 3.0, 0.05), report(9, 3.0, 0.6), report(9, 3.0, 0.1)).words()
    assert words == "process 1 delays the others: it waits for its batches 60% of the time"


def test_who_is_done_or_at_another_stage_is_not_compared() -> None:
    assert pace(report(9, 3.0), report(100, 0.1), report(9, 0.1, stage="before")).words() == ""
    assert pace(report(9, 3.0)).words() == ""
    assert Pace(2).words() == ""


def test_a_process_without_progress_is_named_once_and_again_when_it_goes_on() -> None:
    taken = pace(report(9, 3.0), report(4, 1.9))
    taken.take(0, report(90, 3.0), 50.0)
    assert taken.news({1: 50.0}, 50.0) == []
    assert taken.news({1: 61.0}, 61.0) == ["process 1 of 2 has not gone on for 61 s, at 4 of 100 of s"]
    assert taken.news({1: 62.0}, 62.0) == []
    taken.take(1, report(5, 0.1), 63.0)
    assert taken.news({1: 63.0}, 63.0) == ["process 1 goes on"]


def test_where_nobody_is_ahead_nobody_is_behind() -> None:
    assert pace(report(9, 3.0), report(9, 3.0)).news({1: 99.0}, 99.0) == []
    assert pace(report(100, 3.0), report(100, 3.0)).news({1: 99.0}, 99.0) == []


def test_a_process_that_is_not_heard_of_is_named_once() -> None:
    taken = Pace(2)
    assert taken.news({1: 0.0}, 4.0) == []
    assert taken.news({1: 0.0}, 6.0) == ["process 1 of 2 has not been heard of for 6 s"]
    assert taken.news({1: 0.0}, 7.0) == []
    assert taken.news({1: 7.5}, 8.0) == ["process 1 is heard of again"]


def test_a_rate_is_that_of_the_last_seconds_and_begins_anew() -> None:
    rate = Rate(window=10.0)
    assert rate.at(0.0, 0.0) == 0.0
    assert rate.at(10.0, 5.0) == 2.0
    assert rate.at(20.0, 10.0) == 2.0
    assert rate.at(30.0, 20.0) == 1.0
    assert rate.at(1.0, 21.0) == 0.0
    assert rate.at(2.0, 21.0) == 0.0


@pytest.mark.parametrize("value", ["much", None, True, math.nan, math.inf, 1e300, [1]])
def test_what_is_no_number_counts_as_nothing(value: object) -> None:
    assert Report.of({"stage": "s", "done": value, "rate": 2}) == Report("s", 0.0, 0.0, 2.0)


def test_what_a_process_reports_reaches_the_first_one(group: Callable[..., Group]) -> None:
    first, second = group(2)
    second.report({"stage": "s", "done": 1, "total": 9, "rate": 0.5})
    end = time.monotonic() + 20
    while not (words := first.report({"stage": "s", "done": 4, "total": 9, "rate": 8.0})) and time.monotonic() < end:
        time.sleep(0.05)
    assert words == "process 1 is slow: 0.5/s, median 4.25/s"
    assert second.report({"done": 2}) == ""


def test_a_silent_process_is_named_before_it_is_given_up(group: Callable[..., Group], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 1.5)
    heard: list[str] = []
    first, _ = group(2, mute=(1,))
    first.observe(heard.append)
    end = time.monotonic() + 15
    while not heard and time.monotonic() < end:
        time.sleep(0.05)
    assert re.fullmatch(r"process 1 of 2 has not been heard of for \d+ s", heard[0])
    assert first.lost is None
