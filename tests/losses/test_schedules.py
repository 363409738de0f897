"""Schedules over progress: their ends, their continuity, their use inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.schedules import Constant, Cosine, Linear, Schedule, WarmUp, at


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (Constant(0.3), {0.0: 0.3, 0.5: 0.3, 1.0: 0.3}),
        (Linear(1.0, 0.2), {0.0: 1.0, 0.5: 0.6, 1.0: 0.2}),
        (Linear(0.0, 2.0, until=0.5), {0.0: 0.0, 0.25: 1.0, 0.5: 2.0, 1.0: 2.0}),
        (Cosine(1.0, 0.0), {0.0: 1.0, 0.25: 0.5 + np.sqrt(0.125), 0.5: 0.5, 1.0: 0.0}),
        (Cosine(0.0, 4.0, until=0.5), {0.0: 0.0, 0.25: 2.0, 0.5: 4.0, 0.9: 4.0}),
        (WarmUp(0.1, until=0.2), {0.0: 0.0, 0.1: 0.05, 0.2: 0.1, 1.0: 0.1}),
        (WarmUp(0.1, until=0.0), {0.0: 0.1, 1.0: 0.1}),
    ],
)
def test_values(schedule: Schedule, points: dict[float, float]) -> None:
    for progress, expected in points.items():
        np.testing.assert_allclose(jax.jit(schedule)(jnp.float32(progress)), expected, atol=1e-6)
        np.testing.assert_allclose(at(schedule, jnp.float32(progress)), expected, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([Linear, Cosine]), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 1.0))
def test_continuous(kind: type[Linear] | type[Cosine], start: float, end: float, until: float) -> None:
    curve = np.asarray(kind(start, end, until)(jnp.linspace(0, 1, 501)))
    steepest = abs(end - start) / until * np.pi / 2
    assert np.abs(np.diff(curve)).max() <= steepest / 500 + 1e-5


def test_a_number_is_its_own_schedule() -> None:
    assert at(0.25, jnp.float32(0.7)) == 0.25


@pytest.mark.parametrize("make", [lambda: Linear(until=0.0), lambda: Cosine(until=1.5), lambda: WarmUp(until=-0.1)])
def test_impossible_end_is_refused(make) -> None:
    with pytest.raises(UserError, match="until"):
        make()
