"""What tools/kill/likeness.py calls a difference between two runs. Running ladders in several layouts takes minutes."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "kill"


@pytest.fixture(scope="module")
def likeness() -> Iterator[Any]:
    sys.path.insert(0, str(TOOL))
    import likeness

    yield likeness
    sys.path.remove(str(TOOL))
    del sys.modules["likeness"]


def like(likeness: Any, **fields: Any) -> Any:
    equal = {name: {} for name in ("losses", "batches", "traces", "parameters")}
    return likeness.Likeness(**{"stages": [], "outputs": 0, "files": [], **equal, **fields})


def test_losses_are_compared_step_by_step_and_relatively(likeness: Any) -> None:
    one = {"a": [(1, 2.0), (2, 4.0)], "b": [(1, 1.0)]}
    assert likeness._losses(one, one) == {"a": (2, 0.0), "b": (1, 0.0)}
    apart = likeness._losses(one, {"a": [(1, 2.0), (2, 4.004)], "b": [(1, 1.0)]})
    assert apart["a"] == (2, pytest.approx(1e-3))
    assert like(likeness, losses=apart).faults(1e-2) == []
    assert like(likeness, losses=apart).faults(1e-5) == ["losses of a are 1.0e-03 apart"]
    for other in ({"a": [(1, 2.0), (3, 4.0)], "b": [(1, 1.0)]}, {"a": [(1, 2.0)], "b": [(1, 1.0)]}, {"b": [(1, 1.0)]}):
        assert len(like(likeness, losses=likeness._losses(one, other)).faults(1e9)) == 1, other
    nan = likeness._losses(one, {"a": [(1, 2.0), (2, float("nan"))], "b": [(1, 1.0)]})
    assert len(like(likeness, losses=nan).faults(1.0)) == 1


def test_traces_that_differ_or_are_missing_are_counted(likeness: Any) -> None:
    one = {"x greedy": [("p", 0, "text"), ("q", 0, "text")]}
    assert like(likeness, traces=likeness._traces(one, one)).faults(0.0) == []
    for other in ({"x greedy": [("p", 0, "text")]}, {"x greedy": [("p", 0, "text"), ("q", 0, "other")]}):
        assert like(likeness, traces=likeness._traces(one, other)).faults(0.0) == ["1 rows of x greedy differ"]
    assert like(likeness, traces=likeness._traces({}, one)).faults(0.0) == ["2 rows of x greedy differ"]
    assert like(likeness, batches={"m": (12, 3)}, stages=["s"]).faults(0.0) == [
        "stage s is there only once",
        "3 batches of m differ",
    ]
