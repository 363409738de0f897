"""Costs against the multiples of N that docs/methods.md gives."""

import dataclasses

from w2sr_jax.evaluation import cost
from w2sr_jax.evaluation.cost import Sittings, StageTime


def test_multiples_of_parameters_and_tokens() -> None:
    assert cost.sampling_flops(10, 7) == 140
    assert cost.training_flops(10, 7) == 420
    assert cost.training_flops(10, 7, rematerialised=True) == 560
    assert cost.training_flops(10, 7, reference_parameters=3) == 420 + 2 * 3 * 7
    assert cost.training_flops(12, 7, trained=2) == (4 * 12 + 2 * 2) * 7
    assert cost.training_flops(12, 7, rematerialised=True, trained=2) == (6 * 12 + 2 * 2) * 7


def test_device_time_is_that_of_all_sittings_on_all_devices() -> None:
    interrupted = StageTime(40.0, None, Sittings(wall=100.0, stepping=80.0, lost_steps=3, lost_seconds=9.0, sittings=3))
    assert interrupted.device_seconds == 100.0
    assert dataclasses.replace(interrupted, devices=8).device_seconds == 800.0
    # What a command does around its sitting, such as computing what a loss looks at, is no part of that.
    assert dataclasses.replace(interrupted, seconds=130.0, devices=2).device_seconds == 260.0
    assert StageTime(3.0, None, devices=4).device_seconds == 12.0
    assert StageTime(3.0, None).device_seconds == 3.0
    assert StageTime(None, None, devices=4).device_seconds is None
