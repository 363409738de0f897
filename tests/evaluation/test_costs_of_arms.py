"""What arms took, and what each point cost, by numbers made by hand."""

import pytest

from w2sr_jax.evaluation.arms import SHARED, Needed, PerPoint, per_point, spent
from w2sr_jax.evaluation.statistics import Difference

TEACHER = Needed("teacher", ("teacher/base/train",), 4, 100, 1000, None, 8e9)
REINFORCED = Needed("teacher stages", ("teacher/train",), 4, 20, 400, 640, 4e9)
TRACES = Needed("traces", ("traces",), 2, None, 5000, None, 2e9)
BEFORE = Needed("before", ("correct/train",), 3, 50, 700, None, 3e9)
OWN = Needed("own", ("correct-rl/train",), 1, 30, 900, 960, 6e9)
NEEDS = (OWN, BEFORE, TRACES, TEACHER, REINFORCED)
SECONDS = {"teacher/base/train": 40.0, "teacher/train": 60.0, "traces": 10.0, "correct/train": 30.0, "correct-rl/train": 90.0}


def gained(value: float, low: float, high: float) -> Difference:
    return Difference(value, low, high, 100, 0.5, 0.5, None, None, None, None, None, 0.1)


def test_an_arm_bears_all_that_it_needs_or_its_share_of_what_others_need_too() -> None:
    every = ("own", "before", *SHARED)
    whole, share = (spent(NEEDS, SECONDS, every, spread) for spread in (False, True))
    assert whole == (230.0, 23e9, 200, 8000, 1600)
    # Half of the traces, a quarter of the teacher; the arm before it is never shared.
    assert share.seconds == 90 + 30 + 10 / 2 + 40 / 4 + 60 / 4
    assert share.flops == pytest.approx(6e9 + 3e9 + 2e9 / 2 + 8e9 / 4 + 4e9 / 4)
    assert spent(NEEDS, SECONDS, ("own",)) == (90.0, 6e9, 30, 900, 960)
    assert spent(NEEDS, SECONDS, ("teacher stages",)).seconds == 60.0


def test_what_is_not_known_is_not_made_up() -> None:
    assert spent((TRACES,), {}, ("traces",)) == (None, 2e9, None, 5000, None)
    assert spent((OWN,), SECONDS, ("before",)) == (None, None, None, None, None)
    seeds = Needed("own", ("seed-0/train", "seed-1/train"), 1, 10, 10, None, 1e9)
    assert spent((seeds,), {"seed-0/train": 4.0}, ("own",)).seconds is None
    assert spent((seeds,), {"seed-0/train": 4.0, "seed-1/train": 8.0}, ("own",)).seconds == 6.0


def test_a_point_costs_least_where_most_were_gained() -> None:
    assert per_point(100.0, gained(0.20, 0.10, 0.25)) == pytest.approx(PerPoint(5.0, 4.0, 10.0))
    assert per_point(100.0, gained(0.20, 0.0, 0.40)) == (5.0, 2.5, None)
    assert (
        per_point(100.0, gained(0.0, -0.1, 0.1)) == per_point(None, gained(0.2, 0.1, 0.3)) == per_point(1.0, None) == PerPoint()
    )
