"""Costs against the multiples of N that METHODS gives."""

import pytest

from w2sr_jax.evaluation import cost


def test_multiples_of_parameters_and_tokens() -> None:
    assert cost.sampling_flops(10, 7) == 140
    assert cost.training_flops(10, 7) == 420
    assert cost.training_flops(10, 7, rematerialised=True) == 560
    assert cost.training_flops(10, 7, lora=True) == 280
    assert cost.training_flops(10, 7, reference_parameters=3) == 420 + 2 * 3 * 7


def test_w2sr_is_sampling_plus_training() -> None:
    total = cost.w2sr_flops(
        teacher_parameters=5, samples=2, mean_tokens=30.0, problems=100, student_parameters=8, epochs=3, kept_tokens=4000
    )
    assert total == cost.sampling_flops(5, 2 * 30 * 100) + cost.training_flops(8, 3 * 4000)


def test_a_weak_model_may_sample_as_often_as_it_is_smaller() -> None:
    assert cost.compute_matched_samples(4, strong_parameters=27, weak_parameters=9) == 12


def test_cost_per_point_carries_the_gains_interval() -> None:
    found = cost.cost_per_point(10.0, gain=0.10, low=0.05, high=0.20)
    assert found == pytest.approx({"value": 1.0, "low": 0.5, "high": 2.0})
    assert cost.cost_per_point(10.0, gain=0.10, low=-0.01, high=0.2)["high"] is None
    assert cost.cost_per_point(10.0, gain=-0.1, low=-0.2, high=0.0) == {"value": None, "low": None, "high": None}
