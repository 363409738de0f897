"""How numbers are written."""

import pytest

from w2sr_jax.report import wording


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (None, "–"),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (360_000, "360 k"),
        (1.2e6, "1.20 M"),
        (99_960, "100 k"),
        (7.28e12, "7.28 T"),
    ],
)
def test_quantities(number: float | None, text: str) -> None:
    assert wording.quantity(number).replace(wording.THIN, " ") == text.replace("1.00", "1")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (9.96, "10 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds).replace(wording.THIN, " ") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.1234, "+12.3"), (-0.1234, "−12.3"), (0.0, "0.0"), (-0.0001, "0.0"), (0.0001, "0.0"), (None, "–")]
)
def test_signed_points(share: float | None, text: str) -> None:
    assert wording.points(share) == text
