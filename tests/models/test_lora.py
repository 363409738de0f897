"""Adapters and a quantised base against the full model: closed forms of values and gradients, merging, memory."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.core import keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.models import lora as low_rank
from w2sr_jax.models import quantized, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.lora_settings import MATRICES, Lora
from w2sr_jax.training.settings import Training

# 96 inputs of `down` are no multiple of 64, so that its blocks are smaller.
CONFIG = ModelConfig(vocab_size=40, width=64, layers=3, heads=4, kv_heads=2, mlp=96, qkv_bias=True)
LORA = Lora(rank=4, alpha=6.0)


@pytest.fixture(scope="module")
def base() -> Any:
    return transformer.init(CONFIG, keys.key(0, "init"))


def moved(lora: Lora, base: Any, config: ModelConfig = CONFIG) -> Any:
    """Adapters as after some training: B is not 0."""
    trained = low_rank.init(config, lora, base, keys.key(1, "adapters"))
    leaves, tree = jax.tree.flatten(trained)
    noise = jax.random.split(keys.key(2, "noise"), len(leaves))
    return tree.unflatten([leaf + 0.05 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, noise, strict=True)])


def batch(config: ModelConfig = CONFIG) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Packed rows: tokens, positions, segments."""
    tokens = jax.random.randint(keys.key(3, "tokens"), (2, 14), 0, config.vocab_size)
    segments = jnp.where(jnp.arange(14) < 6, 1, 2)
    positions = jnp.where(segments == 1, jnp.arange(14), jnp.arange(14) - 6)
    return tokens, jnp.broadcast_to(positions, (2, 14)), jnp.broadcast_to(segments, (2, 14))


@partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: Any) -> jax.Array:
    return transformer.logits(config, params, transformer.forward(config, params, *batch(config)))


@pytest.mark.parametrize("change", [{}, {"remat": "layers"}, {"dtype": "bfloat16"}], ids=["plain", "remat", "bfloat16"])
def test_before_the_first_step_the_adapted_model_is_the_base(base: Any, change: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **change)
    lora = dataclasses.replace(LORA, embeddings=True)
    trained = low_rank.init(config, lora, base, keys.key(1, "adapters"))
    np.testing.assert_array_equal(logits(config, low_rank.beside(lora, base, trained)), logits(config, base))
    assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {jnp.dtype("float32")}
    assert jax.tree.map(lambda leaf: leaf.shape, trained) == jax.tree.map(lambda leaf: leaf.shape, low_rank.shapes(config, lora))
    first = np.asarray(trained["layers"]["mlp"]["down_lora_a"])
    assert 0.9 < np.abs(first).max() * 96**0.5 <= 1.0
    again = low_rank.init(config, lora, base, keys.key(2, "adapters"))
    assert not np.array_equal(first, again["layers"]["mlp"]["down_lora_a"])


@pytest.mark.parametrize(("kind", "tied"), [("none", True), ("none", False), ("int8", True), ("int4", False), ("nf4", True)])
def test_merged_parameters_compute_what_was_trained(kind: Any, tied: bool) -> None:
    config = dataclasses.replace(CONFIG, tied_embeddings=tied)
    base = transformer.init(config, keys.key(0, "init"))
    lora = dataclasses.replace(LORA, quantize=kind, embeddings=not tied)
    trained = moved(lora, base, config)
    frozen = jax.jit(partial(low_rank.freeze, lora))(base)
    merged = jax.jit(partial(low_rank.merge, config, lora))(base, trained)
    expected = logits(config, low_rank.beside(lora, frozen, trained))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), merged) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), dict(transformer.shapes(config))
    )
    np.testing.assert_allclose(logits(config, merged), expected, rtol=0, atol=3e-5)
    assert np.abs(expected - logits(config, frozen)).max() > 0.1


def test_merged_in_bfloat16_agrees_to_its_rounding(base: Any) -> None:
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    lora = dataclasses.replace(LORA, quantize="int8")
    trained = moved(lora, base)
    expected = logits(config, low_rank.beside(lora, jax.jit(partial(low_rank.freeze, lora))(base), trained)).ravel()
    merged = logits(config, jax.jit(partial(low_rank.merge, config, lora))(base, trained)).ravel()
    assert np.dot(merged, expected) / np.linalg.norm(merged) / np.linalg.norm(expected) > 0.999


@pytest.mark.parametrize("target", MATRICES)
def test_one_target_changes_its_matrix_alone_by_alpha_over_rank_times_the_product(base: Any, target: Any) -> None:
    lora = dataclasses.replace(LORA, targets=(target,))
    trained = moved(lora, base)
    merged = low_rank.merge(CONFIG, lora, base, trained)
    part = low_rank.PARTS[target]
    a, b = (np.asarray(trained["layers"][part][target + side], np.float64) for side in ("_lora_a", "_lora_b"))
    assert len(jax.tree.leaves(trained)) == 2
    for path, leaf in jax.tree_util.tree_leaves_with_path(merged):
        before = base
        for step in path:
            before = before[step.key]
        if path[-1].key == target:
            change = (6.0 / 4) * np.einsum("nir,nro->nio", a, b).reshape(leaf.shape)
            np.testing.assert_allclose(leaf, np.asarray(before) + change, rtol=0, atol=1e-6)
        else:
            np.testing.assert_array_equal(leaf, before)


@pytest.mark.parametrize("kind", ["none", "nf4"])
def test_gradients_are_those_of_the_matrices_through_the_product(base: Any, kind: Any) -> None:
    """dA = s · dW · Bᵀ and dB = s · Aᵀ · dW, with dW of the merged model in full."""
    lora = dataclasses.replace(LORA, quantize=kind)
    trained, frozen = moved(lora, base), jax.jit(partial(low_rank.freeze, lora))(base)
    weights = jax.random.normal(keys.key(4, "weights"), (2, 14, CONFIG.vocab_size))

    def loss(params: Any) -> jax.Array:
        return jnp.sum(logits(CONFIG, params) * weights)

    slope = jax.jit(jax.grad(lambda trained: loss(low_rank.beside(lora, frozen, trained))))(trained)
    whole = jax.jit(jax.grad(loss))(jax.jit(partial(low_rank.merge, CONFIG, lora))(base, trained))
    for name in MATRICES:
        part = low_rank.PARTS[name]
        a, b = trained["layers"][part][name + "_lora_a"], trained["layers"][part][name + "_lora_b"]
        to_matrix = 1.5 * np.asarray(quantized.flat(name, whole["layers"][part][name]), np.float64)
        for side, expected in (
            ("_lora_a", np.einsum("nio,nro->nir", to_matrix, b)),
            ("_lora_b", np.einsum("nir,nio->nro", a, to_matrix)),
        ):
            actual = slope["layers"][part][name + side]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max(), err_msg=name + side)


def test_quantised_values_against_numpy(base: Any) -> None:
    low = [-1, -0.6961928, -0.52507305, -0.3949175, -0.28444138, -0.18477343, -0.09105004, 0]
    levels = np.array([*low, 0.0795803, 0.1609302, 0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1])
    for kind, stored in (("int8", "int8"), ("int4", "int4"), ("nf4", "uint4")):
        frozen = jax.jit(partial(quantized.quantize, kind))(base)
        restored = jax.jit(partial(quantized.dequantize, CONFIG))(frozen, base)
        for name, size in (("query", 64), ("output", 64), ("down", 48)):
            part = low_rank.PARTS[name]
            matrices, rounded = (np.asarray(quantized.flat(name, tree["layers"][part][name])) for tree in (base, restored))
            size = matrices.shape[1] if kind == "int8" else size
            parts, rounded = (tree.astype(np.float64).reshape(-1, size, tree.shape[2]) for tree in (matrices, rounded))
            largest = np.abs(parts).max(axis=1, keepdims=True)
            if kind == "nf4":
                expected = levels[np.abs(parts[..., None] / largest[..., None] - levels).argmin(-1)] * largest
                tie = np.zeros(parts.shape, bool)
            else:
                top = 127 if kind == "int8" else 7
                step = largest / (top + 0.5)
                tie = np.abs(parts / step % 1 - 0.5) < 1e-4  # falls to either side; the largest of a block is one
                expected = np.clip(np.round(parts / step), None, top) * step
            np.testing.assert_allclose(rounded[~tie], expected[~tie], rtol=0, atol=1e-6)
            assert tie.mean() < 0.03
            stored_matrix = frozen["layers"][part][name]
            assert (stored_matrix.qvalue.dtype, stored_matrix.scale.dtype, stored_matrix.scale.size) == (
                stored,
                "float32",
                largest.size,
            )
        for untouched in ("embedding", "norm"):
            jax.tree.map(np.testing.assert_array_equal, frozen[untouched], base[untouched])


def test_backward_pass_stores_no_dequantised_matrices_and_no_gradient_of_a_matrix() -> None:
    config = ModelConfig(vocab_size=32, width=128, layers=24, heads=2, kv_heads=2, mlp=256)
    lora = Lora(rank=2, quantize="int8")
    params, trained = transformer.shapes(config), low_rank.shapes(config, lora)
    frozen = jax.eval_shape(partial(low_rank.freeze, lora), params)
    tokens = jnp.zeros((1, 4), jnp.int32)

    def loss(trained: Any, frozen: Any) -> jax.Array:
        hidden = transformer.forward(config, low_rank.beside(lora, frozen, trained), tokens, tokens)
        return jnp.sum(hidden**2)

    compiled = jax.jit(jax.grad(loss)).lower(trained, frozen).compile()
    matrices = 4 * config.layers * (4 * 128 * 128 + 3 * 128 * 256)
    assert compiled.memory_analysis().temp_size_in_bytes < matrices / 4


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rank": -1}, "training.lora.rank is -1; it must be 0"),
        ({"rank": 4, "alpha": 0.0}, "training.lora.alpha is 0.0; it must be above 0"),
        ({"rank": 4, "targets": ()}, "training.lora.targets is .*; it must be one or more of query, key"),
        ({"rank": 4, "targets": ("query", "query")}, "each once"),
        ({"rank": 4, "targets": ("q_proj",)}, "one or more of query"),
        ({"quantize": "int8"}, "training.lora.quantize is int8; it must be none where rank is 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Training(lora=Lora(**fields))
