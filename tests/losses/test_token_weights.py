"""Weights by span, verdict and teacher confidence; trimming, also when the step is split."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2sr_jax.core.errors import UserError
from w2sr_jax.losses.weights import TokenWeights, trimmed

SPAN = jnp.array([0, 1, 1, 2, 3, 1])
VERDICT = jnp.array([1, 1, -1, 0, 1, -1])
LOGPROB = jnp.log(jnp.array([0.5, 0.9, 0.1, jnp.nan, 0.4, 0.8]))
WEIGHT = jnp.array([0.0, 1.0, 1.0, 1.0, 2.0, 1.0])


def test_by_default_nothing_changes() -> None:
    np.testing.assert_array_equal(TokenWeights()(SPAN, VERDICT, LOGPROB, WEIGHT), WEIGHT)


def test_factors_multiply() -> None:
    weights = TokenWeights(reasoning=2.0, answer=3.0, end=5.0, correct=7.0, incorrect=0.0, unknown=11.0)
    np.testing.assert_allclose(weights(SPAN, VERDICT, LOGPROB, WEIGHT), [0, 14, 0, 33, 70, 0])


def test_confidence_keeps_the_total_weight_and_leaves_unknown_tokens_alone() -> None:
    result = np.asarray(TokenWeights(confidence_gamma=2.0)(SPAN, VERDICT, LOGPROB, WEIGHT))
    known = np.array([1, 2, 4, 5])
    np.testing.assert_allclose(result[known].sum(), np.asarray(WEIGHT)[known].sum(), rtol=1e-6)
    assert result[3] == 1.0
    assert result[0] == 0.0
    np.testing.assert_allclose(result[1] / result[2], 81.0, rtol=1e-4)


def test_confidence_of_unsupervised_tokens_does_not_matter() -> None:
    weights = TokenWeights(confidence_gamma=1.0)
    np.testing.assert_array_equal(
        weights(SPAN, VERDICT, LOGPROB.at[0].set(-50.0), WEIGHT), weights(SPAN, VERDICT, LOGPROB, WEIGHT)
    )


def test_shape_is_kept() -> None:
    arguments = [x.reshape(2, 3) for x in (SPAN, VERDICT, LOGPROB, WEIGHT)]
    flat = TokenWeights(correct=2.0, confidence_gamma=1.0)(SPAN, VERDICT, LOGPROB, WEIGHT)
    np.testing.assert_array_equal(TokenWeights(correct=2.0, confidence_gamma=1.0)(*arguments), flat.reshape(2, 3))


@pytest.mark.parametrize(("field", "value"), [("end", 0.0), ("reasoning", -1.0), ("confidence_gamma", float("nan"))])
def test_refused_settings(field: str, value: float) -> None:
    with pytest.raises(UserError, match=field):
        TokenWeights(**{field: value})


def test_the_highest_losses_are_dropped() -> None:
    losses = jnp.array([9.0, 1.0, 5.0, 2.0, 7.0, 3.0])
    np.testing.assert_array_equal(trimmed(losses, WEIGHT, 0.4), [0, 1, 0, 1, 0, 1])  # 2 of 5 supervised tokens
    np.testing.assert_array_equal(trimmed(losses, WEIGHT, 0.0), WEIGHT)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.floats(0, 100, width=32), min_size=12, max_size=12, unique=True),
    st.floats(0, 0.9),
    st.integers(0, 2**31),
    st.data(),
)
def test_trimming_matches_sorting_and_does_not_depend_on_the_order(losses, fraction, seed, data) -> None:
    values = np.array(losses, np.float32)
    weight = np.array(
        data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.5]), min_size=len(losses), max_size=len(losses))), np.float32
    )
    result = np.asarray(trimmed(jnp.asarray(values), jnp.asarray(weight), fraction))
    supervised = np.flatnonzero(weight)
    count = int(np.floor(np.float32(fraction) * np.float32(len(supervised))))
    expected = weight.copy()
    expected[sorted(supervised, key=lambda i: -values[i])[:count]] = 0
    np.testing.assert_array_equal(result, expected)
    order = np.random.default_rng(seed).permutation(len(losses))
    np.testing.assert_array_equal(trimmed(jnp.asarray(values[order]), jnp.asarray(weight[order]), fraction), result[order])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_stays(bad: float) -> None:
    result = trimmed(jnp.array([1.0, bad, 2.0, 3.0]), jnp.ones(4), 0.5)
    assert result[1] == 1.0


def test_ties_and_empty_steps() -> None:
    np.testing.assert_array_equal(trimmed(jnp.ones(4), jnp.ones(4), 0.5), np.ones(4))
    np.testing.assert_array_equal(trimmed(jnp.ones(4), jnp.zeros(4), 0.5), np.zeros(4))
