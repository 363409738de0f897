"""The decoder against itself (cache, packing), against jax.nn's attention, and its declared sizes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from w2sr_jax.core.errors import UserError
from w2sr_jax.models import decoding, transformer
from w2sr_jax.models.attention import attend
from w2sr_jax.models.config import AttentionKind, ModelConfig, RematKind

forward = jax.jit(transformer.forward, static_argnums=0)
stepped = jax.jit(decoding.step, static_argnums=0)

SMALL = ModelConfig(vocab_size=31, width=16, layers=2, heads=4, kv_heads=2, mlp=24)
VARIANTS = {
    "plain": SMALL,
    "biased untied": replace(SMALL, qkv_bias=True, tied_embeddings=False),
    "qk-norm, wide heads": replace(SMALL, qk_norm=True, head_dim=6),
    "one layer, one head": replace(SMALL, layers=1, heads=1, kv_heads=1),
}


def randomized(config: ModelConfig, seed: int = 0) -> transformer.Params:
    """Parameters in which nothing is at its initial 0 or 1."""
    params = transformer.init(config, jax.random.key(seed))
    noise = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.1 * noise.standard_normal(leaf.shape).astype(np.float32), params)


@partial(jax.jit, static_argnums=0)
def log_probs(config: ModelConfig, params: transformer.Params, tokens: jax.Array, *rest: jax.Array) -> jax.Array:
    hidden = transformer.forward(config, params, tokens, *rest)
    return jax.nn.log_softmax(transformer.logits(config, params, hidden))


def some_tokens(rows: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SMALL.vocab_size, (rows, length)).astype(np.int32)


@pytest.mark.parametrize("name", VARIANTS)
def test_prompts_and_steps_agree_with_the_forward_over_whole_texts(name: str) -> None:
    config, size = VARIANTS[name], decoding.TILE + 10
    params, tokens = randomized(config), some_tokens(3, size)
    whole = log_probs(config, params, tokens, np.broadcast_to(np.arange(size), tokens.shape))
    weights = decoding.weights(config, params, size)
    lengths = np.array([decoding.TILE + 4, decoding.TILE - 2, 1], np.int32)  # the second row's steps cross into another tile
    read = decoding.TILE + 5
    logits, cache = decoding.prefill(config, weights, np.where(np.arange(read) < lengths[:, None], tokens[:, :read], 3), lengths)
    cache = decoding.resized(cache, 3 * decoding.TILE)
    assert decoding.slots(cache) == 3 * decoding.TILE
    for _ in range(4):
        want = np.take_along_axis(np.asarray(whole), lengths[:, None, None] - 1, axis=1)[:, 0]
        np.testing.assert_allclose(jax.nn.log_softmax(logits), want, atol=1e-5)
        logits, cache = stepped(config, weights, cache, tokens[np.arange(3), lengths], lengths)
        lengths = lengths + 1


@pytest.mark.parametrize("name", VARIANTS)
def test_packed_and_unpacked_log_probabilities_agree(name: str) -> None:
    config = VARIANTS[name]
    params = randomized(config)
    rows = [some_tokens(1, length, seed=length)[0] for length in (5, 7, 2)]
    packed = np.concatenate([*rows, np.zeros(3, np.int32)])[None]
    positions = np.concatenate([*(np.arange(len(row)) for row in rows), np.arange(3)])[None]
    segments = np.repeat([1, 2, 3, 0], [5, 7, 2, 3])[None]
    together = log_probs(config, params, packed, positions, segments)[0]
    start = 0
    for row in rows:
        alone = log_probs(config, params, row[None], np.arange(len(row))[None])[0]
        np.testing.assert_allclose(together[start : start + len(row)], alone, atol=1e-5)
        start += len(row)
    assert np.isfinite(together).all()


def test_another_segments_content_changes_nothing_at_all() -> None:
    params = randomized(SMALL)
    segments = np.repeat([1, 2, 3], [4, 5, 3])[None]
    positions = np.concatenate([np.arange(4), np.arange(5), np.arange(3)])[None]
    tokens = some_tokens(1, 12)
    other = tokens.copy()
    other[0, 4:9] = (other[0, 4:9] + 1) % SMALL.vocab_size
    before = log_probs(SMALL, params, tokens, positions, segments)[0]
    after = log_probs(SMALL, params, other, positions, segments)[0]
    inside = segments[0] == 2
    assert (before[~inside] == after[~inside]).all()
    assert (before[inside] != after[inside]).any()


def test_a_token_depends_on_earlier_tokens_only() -> None:
    params = randomized(SMALL)
    tokens = some_tokens(1, 8)
    other = tokens.copy()
    other[0, 5] = (other[0, 5] + 1) % SMALL.vocab_size
    before, after = (log_probs(SMALL, params, rows, np.arange(8)[None])[0] for rows in (tokens, other))
    assert (before[:5] == after[:5]).all()
    assert all((before[place] != after[place]).any() for place in range(5, 8))


def test_attention_is_that_of_jax_nn() -> None:
    random = np.random.default_rng(0)
    query = random.standard_normal((2, 5, 6, 4)).astype(np.float32)
    key, value = random.standard_normal((2, 2, 5, 3, 4)).astype(np.float32)
    mask = np.tril(np.ones((5, 5), bool))[None] & (random.random((2, 5, 5)) < 0.7) | np.eye(5, dtype=bool)
    mine = attend(query, key.swapaxes(1, 2), value.swapaxes(1, 2), mask[:, None, None], 4**-0.5)
    np.testing.assert_allclose(mine, jax.nn.dot_product_attention(query, key, value, mask=mask[:, None]), atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_declared_sizes_and_axes_are_those_of_the_parameters(name: str) -> None:
    config = VARIANTS[name]
    params = transformer.init(config, jax.random.key(0))
    assert config.parameters() == sum(leaf.size for leaf in jax.tree.leaves(params))
    shapes = transformer.shapes(config)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), params) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    axes = transformer.logical_axes(config)
    sizes = {
        "vocab": config.vocab_size,
        "embed": config.width,
        "heads": config.heads,
        "kv_heads": config.kv_heads,
        "head_dim": config.head_size,
        "mlp": config.mlp_size,
        "layers": config.layers,
    }
    jax.tree.map(
        lambda names, leaf: np.testing.assert_equal(tuple(sizes[name] for name in names), leaf.shape),
        axes,
        params,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def test_forward_flops_are_those_that_xla_counts() -> None:
    config = replace(SMALL, layers=1, width=64, vocab_size=301, mlp=192)
    params = transformer.init(config, jax.random.key(0))
    tokens = np.zeros((1, 32), np.int32)

    def score(params: transformer.Params) -> jax.Array:
        return transformer.logits(config, params, transformer.forward(config, params, tokens, tokens))

    cost = jax.jit(score).lower(params).compile().cost_analysis()
    assert cost["flops"] == pytest.approx(32 * config.flops_per_token(32), rel=0.1)


def test_init_starts_near_a_uniform_prediction_and_depends_on_its_key_alone() -> None:
    config = ModelConfig(vocab_size=110, width=64, layers=2, heads=2, kv_heads=2)
    params = transformer.init(config, jax.random.key(1))
    tokens = np.random.default_rng(0).integers(0, 110, (8, 32))
    entropy = -np.take_along_axis(
        log_probs(config, params, tokens[:, :-1], np.broadcast_to(np.arange(31), (8, 31))), tokens[:, 1:, None], axis=-1
    ).mean()
    assert entropy == pytest.approx(np.log(110), abs=0.7)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params, transformer.init(config, jax.random.key(1))))
    query = params["layers"]["attention"]["query"]
    assert not np.allclose(query[0], query[1])


def test_bfloat16_stays_close_to_float32() -> None:
    params = randomized(SMALL)
    tokens, positions = some_tokens(2, 8), np.broadcast_to(np.arange(8), (2, 8))
    half = replace(SMALL, dtype="bfloat16")
    hidden = forward(half, params, tokens, positions)
    assert hidden.dtype == jnp.bfloat16
    assert transformer.logits(half, params, hidden).dtype == jnp.float32
    np.testing.assert_allclose(log_probs(half, params, tokens, positions), log_probs(SMALL, params, tokens, positions), atol=0.15)
    np.testing.assert_array_equal(
        log_probs(half, transformer.cast(half, params), tokens, positions), log_probs(half, params, tokens, positions)
    )


@pytest.mark.parametrize("remat", ["layers", "attention", "products"])
@pytest.mark.parametrize("attention", ["dense", "blocks"])
def test_rematerialised_gradients_are_the_same(remat: RematKind, attention: AttentionKind) -> None:
    params = randomized(SMALL)
    tokens, positions = some_tokens(2, 8), np.broadcast_to(np.arange(8), (2, 8))

    def loss(params: transformer.Params, config: ModelConfig) -> jax.Array:
        hidden = transformer.forward(config, params, tokens, positions)
        return jax.nn.logsumexp(transformer.logits(config, params, hidden), axis=-1).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    everything, again = replace(SMALL, remat="none", attention=attention), replace(SMALL, remat=remat, attention=attention)
    plain, again = gradient(params, everything), gradient(params, again)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"vocab_size": 0}, "vocab_size"), ({"heads": 3}, "heads"), ({"kv_heads": 3}, "kv_heads"), ({"head_dim": 5}, "head_dim")],
)
def test_impossible_sizes_are_named(changes: dict[str, int], word: str) -> None:
    with pytest.raises(UserError, match=word):
        transformer.init(replace(SMALL, **changes), jax.random.key(0))
