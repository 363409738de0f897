"""A grown model computes what the small one computed, and can learn more."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.models.grow import grow

SMALL = ModelConfig(vocab_size=23, width=16, layers=2, heads=4, kv_heads=2, head_dim=4, mlp=24, qkv_bias=True, qk_norm=True)
TOKENS = np.random.default_rng(0).integers(0, 23, (2, 9)).astype(np.int32)
POSITIONS = np.broadcast_to(np.arange(9), TOKENS.shape)


@partial(jax.jit, static_argnums=0)
def logits(config: ModelConfig, params: transformer.Params) -> jax.Array:
    hidden = transformer.forward(config, params, TOKENS, POSITIONS)
    return transformer.logits(config, params, hidden)


def randomized(config: ModelConfig) -> transformer.Params:
    noise = np.random.default_rng(5)
    params = transformer.init(config, jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.2 * noise.standard_normal(leaf.shape).astype(np.float32), params)


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": 5},
        {"mlp": 64},
        {"heads": 8, "kv_heads": 4},
        {"heads": 6},
        {"heads": 9, "kv_heads": 3, "layers": 3, "mlp": 40},
        {},
    ],
    ids=str,
)
def test_a_grown_model_computes_the_same(changes: dict[str, int]) -> None:
    params = randomized(SMALL)
    large = replace(SMALL, **changes)
    grown = grow(SMALL, params, large, jax.random.key(1))
    shapes = transformer.shapes(large)
    assert jax.tree.map(lambda leaf: leaf.shape, grown) == jax.tree.map(lambda leaf: leaf.shape, shapes)
    np.testing.assert_allclose(logits(large, grown), logits(SMALL, params), atol=1e-5)


def test_every_new_writing_weight_receives_a_gradient() -> None:
    large = replace(SMALL, heads=8, kv_heads=4, layers=3, mlp=40)
    grown = grow(SMALL, randomized(SMALL), large, jax.random.key(1))

    def loss(params: transformer.Params) -> jax.Array:
        hidden = transformer.forward(large, params, TOKENS, POSITIONS)
        return (jax.nn.log_softmax(transformer.logits(large, params, hidden))[..., 3]).sum()

    layers = jax.jit(jax.grad(loss))(grown)["layers"]
    assert (np.abs(layers["attention"]["output"]).max(axis=(2, 3)) > 0).all()
    assert (np.abs(layers["mlp"]["down"]).max(axis=2) > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 32}, "width 16 to 32"),
        ({"head_dim": None, "heads": 8, "kv_heads": 4}, "head_size 4 to 2.*set head_dim"),
        ({"layers": 1}, "layers 2 to 1"),
        ({"mlp": 8}, "mlp_size 24 to 8"),
        ({"kv_heads": 4}, "2 to 1 query heads per kv head"),
        ({"tied_embeddings": False}, "tied_embeddings"),
    ],
    ids=str,
)
def test_what_cannot_grow_is_named(changes: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        grow(SMALL, transformer.init(SMALL, jax.random.key(0)), replace(SMALL, **changes), jax.random.key(1))
