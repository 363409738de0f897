"""The learning rate against its closed form, AdamW against a NumPy reference in float64."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import training_toy as toy

from w2sr_jax.core.errors import UserError
from w2sr_jax.training.optimizer import decayed, learning_rate, make_optimizer
from w2sr_jax.training.settings import Training


@pytest.mark.parametrize(("warmup", "total"), [(0.1, 50), (0.0, 7), (1.0, 5), (0.25, 1)])
def test_learning_rate_is_a_line_then_a_cosine(warmup: float, total: int) -> None:
    schedule = learning_rate(Training(learning_rate=0.2, warmup=warmup, final_fraction=0.1), total)
    rising = round(warmup * total)
    for step in range(total):
        if step < rising:
            expected = 0.2 * (step + 1) / rising
        else:
            expected = 0.02 + 0.18 * (1 + math.cos(math.pi * (step - rising) / (total - rising))) / 2
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5), step
    assert max(float(schedule(step)) for step in range(total)) == pytest.approx(0.2, rel=1e-5)


def test_adamw_clips_decays_matrices_alone_and_follows_the_schedule() -> None:
    training = Training(learning_rate=0.1, warmup=0.5, weight_decay=0.3, b1=0.8, b2=0.9, epsilon=1e-6, clip=1.0)
    optimizer, schedule = make_optimizer(training, 6), learning_rate(training, 6)
    draw = np.random.default_rng(0)
    shapes = {"mlp": {"up": (4, 3)}, "mlp_norm": {"scale": (4,)}, "query_bias": (3,), "embedding": (5, 4)}
    drawn = jax.tree.map(lambda shape: draw.normal(size=shape), shapes, is_leaf=lambda node: isinstance(node, tuple))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), drawn)
    state = optimizer.init(params)
    wanted, first, second = drawn, jax.tree.map(np.zeros_like, drawn), jax.tree.map(np.zeros_like, drawn)
    decay = {"mlp": {"up": 0.3}, "mlp_norm": {"scale": 0.0}, "query_bias": 0.0, "embedding": 0.3}
    for step in range(6):
        scale = 3.0 if step % 2 else 0.01  # clipped every other step
        slope = jax.tree.map(lambda leaf, scale=scale: scale * draw.normal(size=leaf.shape), drawn)
        updates, state = optimizer.update(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), slope), state, params)
        params = optax.apply_updates(params, updates)

        norm = math.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(slope)))
        slope = jax.tree.map(lambda leaf, norm=norm: leaf / max(norm, 1.0), slope)
        first = jax.tree.map(lambda m, g: 0.8 * m + 0.2 * g, first, slope)
        second = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g * g, second, slope)
        rate, n = float(schedule(step)), step + 1
        wanted = jax.tree.map(
            lambda p, m, v, d, rate=rate, n=n: p - rate * (m / (1 - 0.8**n) / (np.sqrt(v / (1 - 0.9**n)) + 1e-6) + d * p),
            *(wanted, first, second, decay),
        )
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6), params, wanted)


def test_norms_and_biases_of_a_real_model_are_not_decayed() -> None:
    kept = {
        jax.tree_util.keystr(path) for path, decays in jax.tree_util.tree_leaves_with_path(decayed(toy.params())) if not decays
    }
    assert kept == {"['layers']['attention_norm']['scale']", "['layers']['mlp_norm']['scale']", "['norm']['scale']"}


def test_epochs_override_steps() -> None:
    assert dataclasses.replace(toy.SETTINGS, epochs=2.5).total_steps(11) == 28
    assert toy.SETTINGS.total_steps(11) == 6


@pytest.mark.parametrize(
    ("field", "value"), [("steps", 0), ("warmup", 1.5), ("b2", 1.0), ("learning_rate", float("nan")), ("keep", 0)]
)
def test_impossible_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(UserError, match=f"training.{field} is {value}; it must be"):
        dataclasses.replace(Training(), **{field: value})


def test_moments_in_bfloat16_are_rounded_between_steps_and_take_half_the_room() -> None:
    training = Training(steps=4, warmup=0.0, clip=0.0, moments="bfloat16")
    optimizer = make_optimizer(training, 4)
    params = {"w": jnp.array([0.5, -1.0, 2.0], jnp.float32)}
    state = optimizer.init(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim} == {jnp.dtype("bfloat16")}
    first, second = np.zeros(3, np.float32), np.zeros(3, np.float32)

    def rounded(x: np.ndarray) -> np.ndarray:
        return np.asarray(jnp.asarray(x).astype(jnp.bfloat16).astype(jnp.float32))

    for step, slope in enumerate(np.float32([[1, -2, 0.1], [0.3, 0.7, -5], [1e-3, 2, 3]])):
        updates, state = optimizer.update({"w": jnp.asarray(slope)}, state, params)
        first = 0.9 * rounded(first) + 0.1 * slope
        second = 0.95 * rounded(second) + 0.05 * slope**2
        root = np.sqrt(second / (1 - 0.95 ** (step + 1))) + 1e-8
        wanted = -float(learning_rate(training, 4)(step)) * first / (1 - 0.9 ** (step + 1)) / root
        np.testing.assert_allclose(updates["w"], wanted, rtol=1e-4)


def test_moments_of_bfloat16_parameters_are_float32_unless_said_otherwise() -> None:
    state = make_optimizer(Training(), 4).init({"w": jnp.ones(3, jnp.bfloat16)})
    assert {leaf.dtype for leaf in jax.tree.leaves(state) if leaf.ndim} == {jnp.dtype("float32")}


@pytest.mark.parametrize("field", ["b1", "b2"])
def test_moments_in_bfloat16_refuse_a_decay_that_would_be_rounded_away(field: str) -> None:
    with pytest.raises(UserError, match=f"training.{field} is 0.999; it must be at most 0.99"):
        Training(moments="bfloat16", **{field: 0.999})
