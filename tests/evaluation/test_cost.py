"""Costs against the multiples of N that docs/methods.md gives."""

from w2sr_jax.evaluation import cost


def test_multiples_of_parameters_and_tokens() -> None:
    assert cost.sampling_flops(10, 7) == 140
    assert cost.training_flops(10, 7) == 420
    assert cost.training_flops(10, 7, rematerialised=True) == 560
    assert cost.training_flops(10, 7, reference_parameters=3) == 420 + 2 * 3 * 7
    assert cost.training_flops(12, 7, trained=2) == (4 * 12 + 2 * 2) * 7
    assert cost.training_flops(12, 7, rematerialised=True, trained=2) == (6 * 12 + 2 * 2) * 7
