"""The distribution that a token was drawn from: against transformers' processors, float64, and the frequencies of draws."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling.settings import Decoding

WAYS = [
    Decoding(),
    Decoding(temperature=0.6),
    Decoding(top_k=7),
    Decoding(top_p=0.55),
    Decoding(temperature=1.3, top_p=0.98),
    Decoding(min_p=0.4),
    Decoding(temperature=0.8, top_k=30, top_p=0.9, min_p=0.3),
    Decoding(temperature=0.9, top_p=0.9, repetition_penalty=1.7),
]
POINTS = 4000

support = jax.jit(drawing.support, static_argnums=(1, 3))
sampled_logprob = jax.jit(drawing.sampled_logprob, static_argnums=(2, 4))


def warped(logits: np.ndarray, decoding: Decoding, ids: Sequence[int]) -> np.ndarray:
    """Log-probabilities that transformers' `generate` draws from, in float64; -inf where it never draws."""
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers.generation.logits_process")
    steps = [warpers.RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty))]
    steps += [warpers.TemperatureLogitsWarper(float(decoding.temperature))]
    steps += [warpers.TopKLogitsWarper(decoding.top_k)] if decoding.top_k else []
    steps += [warpers.TopPLogitsWarper(decoding.top_p)] if decoding.top_p < 1 else []
    steps += [warpers.MinPLogitsWarper(decoding.min_p)] if decoding.min_p else []
    scores, seen = torch.tensor(logits, dtype=torch.float32)[None], torch.tensor([list(ids)], dtype=torch.int64)
    for step in steps:
        scores = step(seen, scores)
    return torch.log_softmax(scores[0].double(), -1).numpy()


@pytest.mark.parametrize(("size", "decoding"), [*((700, way) for way in WAYS), (40, WAYS[3]), (40, WAYS[6])], ids=str)
def test_it_is_what_transformers_draws_from(size: int, decoding: Decoding) -> None:
    logits = np.random.default_rng(size).normal(0, 0.7, size).astype(np.float32)
    ids = [3, 3, 7, *np.argsort(-logits)[:4]]
    seen = np.zeros((size, size), bool)
    seen[:, ids] = True
    want = warped(logits, decoding, ids)
    rows = np.broadcast_to(logits, (size, size))
    kept = np.asarray(support(rows, decoding, seen))
    np.testing.assert_array_equal(kept, np.broadcast_to(np.isfinite(want), kept.shape))
    got = np.asarray(sampled_logprob(rows, np.arange(size), decoding, seen))
    np.testing.assert_allclose(got[kept[0]], want[kept[0]], atol=1e-5)
    # One that would not have been drawn counts as one more that might have been.
    least = np.log(np.exp(want[kept[0]]).sum())
    assert np.isfinite(got).all()
    assert (got[~kept[0]] < least).all()


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float32, 9, elements=st.sampled_from([-np.inf, -20.0, -3.0, -1.5, -0.25, 0.0, 0.5, 2.0]), fill=st.nothing()),
    st.sampled_from(
        [(Decoding(top_k=5), 6), (Decoding(top_p=0.33), None), (Decoding(temperature=3.0, top_k=4, top_p=0.61), None)]
    ),
)
def test_the_support_is_what_is_drawn_also_among_equal_logits(logits: np.ndarray, way: tuple[Decoding, int | None]) -> None:
    decoding, limit = way
    if not np.isfinite(logits[:limit]).any():
        return
    shares = frequencies(logits, decoding, limit)
    (kept,) = np.asarray(support(logits[None], decoding, None, limit))
    rows, tokens = np.broadcast_to(logits, (9, 9)), np.arange(9) if limit is None else np.arange(9) % limit
    want = np.exp(np.asarray(sampled_logprob(rows, tokens, decoding, None, limit), np.float64))[:limit] * kept[:limit]
    assert kept[shares > 0].all()
    np.testing.assert_allclose(want.sum(), 1, atol=1e-5)
    np.testing.assert_allclose(shares[:limit], want, atol=0.02 if limit else 2 / POINTS)


@partial(jax.jit, static_argnums=(1, 2))
def _tokens(logits: jax.Array, decoding: Decoding, limit: int | None) -> jax.Array:
    rows, grid = jnp.broadcast_to(logits, (POINTS, len(logits))), (jnp.arange(POINTS) + 0.5) / POINTS
    if limit is None:
        return drawing.draw(rows, grid, decoding)
    again = (jnp.arange(POINTS) * 0.6180339887) % 1  # of low discrepancy, and not of one order with the grid
    return drawing.draw_within(rows, grid, again, limit, decoding)[0]


def frequencies(logits: np.ndarray, decoding: Decoding, limit: int | None = None) -> np.ndarray:
    """How often each token is drawn by a fine grid of uniform numbers."""
    return np.bincount(np.asarray(_tokens(jnp.asarray(logits), decoding, limit)), minlength=len(logits)) / POINTS


@pytest.mark.parametrize("decoding", [WAYS[1], WAYS[6], Decoding(top_p=0.8, min_p=0.05)], ids=str)
def test_ids_that_no_tokenizer_has_give_their_share_to_the_others_as_they_are_drawn_anew(decoding: Decoding) -> None:
    logits = np.random.default_rng(2).normal(0, 1.0, 60).astype(np.float32)
    logits[50:] += np.linspace(-1, 2, 10).astype(np.float32)
    got = frequencies(logits, decoding, 50)
    rows = np.broadcast_to(logits, (50, 60))
    want = np.exp(np.asarray(sampled_logprob(rows, np.arange(50), decoding, None, 50)))
    kept = np.asarray(support(rows, decoding, None, 50))[0]
    assert not kept[50:].any()
    np.testing.assert_allclose((want * kept[:50]).sum(), 1, atol=1e-5)
    np.testing.assert_allclose(got[:50], want * kept[:50], atol=0.01)


def test_bisection_finds_the_same_support_in_a_group_of_rows() -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(0, 1, (20, 1301)) * np.tile([6.0, 0.1], 10)[:, None]).astype(np.float32)  # a few tokens, or many
    decoding = Decoding(top_p=0.9, min_p=0.01)
    kept = np.asarray(support(logits, decoding))
    for row, mine in zip(logits, kept, strict=True):
        weights = np.exp(row.astype(np.float64) - row.max())
        order = np.argsort(-weights, kind="stable")
        count = np.searchsorted(np.cumsum(weights[order]), 0.9 * weights.sum()) + 1
        want = np.zeros(1301, bool)
        want[order[:count]] = True
        assert (mine != (want & (weights >= 0.01))).sum() <= 1  # rounding at the edge
    assert (kept.sum(-1) > drawing.FEW).sum() == 10


@pytest.mark.parametrize("size", [40, 1301])
@pytest.mark.parametrize(
    "decoding", [WAYS[1], WAYS[6], WAYS[7], Decoding(top_p=0.9, min_p=0.01), Decoding(temperature=0)], ids=str
)
def test_what_the_draw_says_of_its_token_is_the_same(decoding: Decoding, size: int) -> None:
    rng = np.random.default_rng(1)
    logits = (rng.normal(0, 1, (20, size)) * np.tile([4.0, 0.1], 10)[:, None]).astype(np.float32)
    uniform, seen = rng.random(20, np.float32), rng.random((20, size)) < 0.3
    token, own, share = jax.jit(drawing.draw_with_logprobs, static_argnums=2)(logits, uniform, decoding, seen)
    plain = jax.jit(drawing.draw_with_logprob, static_argnums=2)(logits, uniform, decoding, seen)
    np.testing.assert_array_equal(token, plain[0])
    np.testing.assert_allclose(own, plain[1], atol=1e-6)
    np.testing.assert_allclose(share, sampled_logprob(logits, token, decoding, seen), atol=1e-5)


@pytest.mark.parametrize("limit", [None, 30])
@pytest.mark.parametrize("decoding", [WAYS[1], WAYS[6], WAYS[7]], ids=str)
def test_its_gradient_is_that_of_log_softmax_over_the_support(decoding: Decoding, limit: int | None) -> None:
    logits = np.random.default_rng(5).normal(0, 1.0, (1, 40)).astype(np.float32)
    seen = np.arange(40)[None] % 3 == 0
    kept = np.asarray(support(logits, decoding, seen, limit))[0]
    token = int(np.flatnonzero(kept)[-1])

    def one(logits: jax.Array) -> jax.Array:
        return drawing.sampled_logprob(logits, jnp.array([token]), decoding, seen, limit)[0]

    got = np.asarray(jax.jit(jax.grad(one))(logits))[0]
    assert np.isfinite(got).all()
    if limit is None or not decoding.truncates:
        allowed = np.exp(np.asarray(sampled_logprob(np.tile(logits, (40, 1)), np.arange(40), decoding, seen, limit))) * kept
        scale = np.where(seen[0], np.where(logits[0] < 0, decoding.repetition_penalty, 1 / decoding.repetition_penalty), 1)
        want = ((np.arange(40) == token) - allowed) * scale / decoding.temperature
        np.testing.assert_allclose(got, want, atol=2e-6)
    else:
        step = 1e-2
        moved = logits + step * np.concatenate([np.eye(40), -np.eye(40)]).astype(np.float32)
        tokens, held = np.full(80, token), np.broadcast_to(seen, moved.shape)
        more, less = np.asarray(sampled_logprob(moved, tokens, decoding, held, limit)).reshape(2, 40)
        same = (np.asarray(support(moved, decoding, held)) == np.asarray(support(logits, decoding, seen))).all(-1)
        steady = same.reshape(2, 40).all(0)
        assert steady.sum() > 20
        np.testing.assert_allclose(got[steady], ((more - less) / (2 * step))[steady], atol=1e-3)


def test_greedy_decoding_is_certain_of_its_token() -> None:
    logits = np.array([[0.0, 3.0, 3.0, 1.0]], np.float32)
    greedy = Decoding(temperature=0.0)
    assert np.asarray(support(logits, greedy)).tolist() == [[False, True, False, False]]
    assert np.asarray(support(logits, greedy, None, 1)).tolist() == [[True, False, False, False]]
    assert np.asarray(sampled_logprob(logits, np.array([1]), greedy)).tolist() == [0.0]


def test_where_nothing_changes_it_it_is_the_models_own_to_the_bit() -> None:
    logits = np.random.default_rng(5).normal(0, 2.0, (9, 700)).astype(np.float32)
    token = np.arange(9)
    assert not Decoding().changes
    assert all(way.changes for way in WAYS[1:])
    np.testing.assert_array_equal(
        sampled_logprob(logits, token, replace(Decoding(), max_tokens=3)), jax.jit(drawing.logprob)(logits, token)
    )
