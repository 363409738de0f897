"""Each process of several says how it goes on; what the first one shows is what it is told, and how all go."""

from collections.abc import Mapping

import pytest

from w2sr_jax.cli.reporting import Reporting
from w2sr_jax.graph.stage import Silent
from w2sr_jax.parallel import processes


class Shown(Silent):
    def __init__(self) -> None:
        self.details: list[str] = []

    def progress(self, done: float, total: float, detail: str) -> None:
        self.details.append(detail)


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, str | float]]:
    """What is reported; the processes go on "as all"."""
    said: list[Mapping[str, str | float]] = []

    def report(values: Mapping[str, str | float]) -> str:
        said.append(values)
        return "as all"

    monkeypatch.setattr(processes, "report", report)
    return said


def test_progress_is_reported_with_its_rate_and_shown_with_that_of_all(
    reports: list[Mapping[str, str | float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, shown = [0.0], Shown()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reporting = Reporting(shown)
    reporting.begin("a stage", 0, 9)
    reporting.progress(0, 100, "")
    now[0] = 4.0
    reporting.progress(20, 100, "loss 2")
    reporting.progress(3, 50, "grading")  # another part of the stage's work
    assert reports[0]["stage"] == "a stage"
    assert [(each["done"], each["total"], each["rate"]) for each in reports[1:]] == [(0, 100, 0.0), (20, 100, 5.0), (3, 50, 0.0)]
    assert shown.details == ["as all", "loss 2, as all", "grading, as all"]


def test_one_process_alone_reports_nothing() -> None:
    assert processes.report({"done": 1.0}) == ""
    processes.observe(print)
