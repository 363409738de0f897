"""When several processes ask each other whether a training is to stop; here the others are what a stand-in for the collective
says."""

from collections.abc import Callable

import jax
import numpy as np
import pytest

from w2sr_jax.training import agreement
from w2sr_jax.training.agreement import APART, StopRequest


class Others:
    """Two processes, of which this one is number `index`: the other one gives `flag` and `steps`."""

    def __init__(self, index: int) -> None:
        self.index, self.flag, self.steps, self.asked = index, False, 1, 0

    def process_allgather(self, own: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        self.asked += 1
        rows = [(bool(own[0]), int(own[1])), (self.flag, self.steps)]
        ordered = rows if self.index == 0 else rows[::-1]
        return np.asarray([row[0] for row in ordered]), np.asarray([row[1] for row in ordered])


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Others]:
    def begin(index: int) -> Others:
        others = Others(index)
        monkeypatch.setattr(agreement, "multihost_utils", others)
        monkeypatch.setattr(jax, "process_count", lambda: 2)
        return others

    return begin


def asked_before(seconds: float, every: int, steps: int, others: Others) -> list[int]:
    """Before which steps process 0 asks, where each step takes so many seconds."""
    now = [100.0]
    request, asked = StopRequest(lambda: False, 0, every, lambda: now[0]), []
    for number in range(1, steps + 1):
        before = others.asked
        assert not request.before(number)
        asked += [number] if others.asked > before else []
        now[0] += seconds
    return asked


@pytest.mark.parametrize(("seconds", "steps"), [(1 / 64, 128), (1 / 4, 8), (1.0, 2), (5.0, 1)])
def test_processes_ask_each_other_every_two_seconds_or_before_every_step(
    two: Callable[[int], Others], seconds: float, steps: int
) -> None:
    asked = asked_before(seconds, 1000, 600, two(0))
    assert asked[:2] == [1, 2]
    assert set(np.diff(asked[1:]).tolist()) == {steps}
    assert steps * seconds == max(APART, seconds)


@pytest.mark.parametrize("seconds", [0.0, 1 / 64])
def test_short_steps_are_asked_before_as_often_as_is_logged(two: Callable[[int], Others], seconds: float) -> None:
    assert asked_before(seconds, 10, 50, two(0)) == [1, 2, 11, 21, 31, 41]


def test_the_other_processes_ask_when_process_0_says(two: Callable[[int], Others]) -> None:
    others = two(1)
    request = StopRequest(lambda: False, 0, 100)
    others.steps = 4
    counts = []
    for number in range(5, 14):
        request.before(number)
        counts.append(others.asked)
    assert counts == [1, 1, 1, 1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("index", [0, 1])
def test_all_stop_where_one_is_asked_to(two: Callable[[int], Others], index: int) -> None:
    others = two(index)
    others.flag = True
    assert StopRequest(lambda: False, 0, 1).before(1)
    others.flag = False
    assert StopRequest(lambda: True, 0, 1).before(1)
    assert not StopRequest(lambda: False, 0, 1).before(1)
    assert not StopRequest(lambda: True, 0, 1).waiting()
