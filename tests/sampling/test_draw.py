"""Drawing against closed forms: a grid of uniform numbers must give every token its exact share."""

from collections.abc import Sequence
from dataclasses import replace

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from w2sr_jax.sampling import draw as drawing
from w2sr_jax.sampling import search
from w2sr_jax.sampling.settings import Decoding

POINTS = 4000


def shares(logits: np.ndarray, decoding: Decoding, seen: np.ndarray | None = None) -> np.ndarray:
    """Fraction of a fine grid of uniform numbers that each token gets."""
    grid = ((np.arange(POINTS) + 0.5) / POINTS).astype(np.float32)
    rows = np.broadcast_to(np.asarray(logits, np.float32), (POINTS, len(logits)))
    tokens = np.asarray(jax.jit(drawing.draw, static_argnums=2)(rows, grid, decoding, seen))
    return np.bincount(tokens, minlength=len(logits)) / POINTS


def expected(logits: np.ndarray, decoding: Decoding) -> np.ndarray:
    """The definition, in float64: temper, keep the top k, the fewest that hold top_p, and min_p; ties go to the lower id."""
    weights = np.exp((np.asarray(logits, np.float64) - np.max(logits)) / decoding.temperature)
    order = np.argsort(-weights, kind="stable")
    kept = order[: decoding.top_k or len(order)]
    mass = np.cumsum(weights[kept]) / weights[kept].sum()
    if decoding.top_p < 1:
        kept = kept[: int(np.searchsorted(mass, decoding.top_p - 1e-7)) + 1]
    kept = kept[weights[kept] >= decoding.min_p]
    result = np.zeros_like(weights)
    result[kept] = weights[kept] / weights[kept].sum()
    return result


LOGITS = np.log(np.array([0.02, 0.4, 0.08, 0.25, 0.1, 0.15]))


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(),
        Decoding(temperature=0.5),
        Decoding(temperature=2.0),
        Decoding(top_k=1),
        Decoding(top_k=3),
        Decoding(top_k=99),
        Decoding(top_p=0.1),
        Decoding(top_p=0.7),
        Decoding(top_p=0.95),
        Decoding(temperature=0.7, top_k=4, top_p=0.8),
        Decoding(min_p=0.3),
        Decoding(temperature=2.0, top_p=0.9, min_p=0.5),
        Decoding(top_k=5, min_p=0.25),
    ],
    ids=str,
)
def test_tokens_get_their_share_and_the_support_is_exact(decoding: Decoding) -> None:
    got, want = shares(LOGITS, decoding), expected(LOGITS, decoding)
    assert ((got > 0) == (want > 0)).all()
    np.testing.assert_allclose(got, want, atol=2 / POINTS)


def test_ties_at_the_edge_keep_exactly_as_many_as_needed() -> None:
    even = np.zeros(8)
    assert (shares(even, Decoding(top_k=3)) > 0).tolist() == [True] * 3 + [False] * 5
    assert (shares(even, Decoding(top_p=0.5)) > 0).tolist() == [True] * 4 + [False] * 4


def test_impossible_tokens_are_never_drawn() -> None:
    logits = np.array([-np.inf, 0.0, -np.inf, -200.0, 0.0, -np.inf])
    np.testing.assert_allclose(shares(logits, Decoding()), [0, 0.5, 0, 0, 0.5, 0], atol=1e-3)


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(top_p=0.6), Decoding(top_k=5), Decoding(min_p=0.3)], ids=str)
def test_a_large_vocabulary_is_drawn_from_alike(decoding: Decoding) -> None:
    logits = np.full(1301, -30.0)
    places = [0, 255, 256, 257, 700, 1279, 1300]
    logits[places] = np.log([0.1, 0.2, 0.05, 0.25, 0.15, 0.05, 0.2])
    got, want = shares(logits, decoding), expected(logits, decoding)
    np.testing.assert_allclose(got, want, atol=2 / POINTS)
    assert np.delete(got, places).sum() == 0


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, 9, elements=st.sampled_from([-20.0, -3.0, -1.5, -0.25, 0.0, 0.5, 2.0]), fill=st.nothing()),
    st.sampled_from(
        [Decoding(top_k=5), Decoding(top_p=0.33), Decoding(top_k=4, top_p=0.87), Decoding(temperature=3.0, top_k=2, top_p=0.61)]
    ),
)
def test_the_support_is_exact_for_any_logits(logits: np.ndarray, decoding: Decoding) -> None:
    got, want = shares(logits, decoding), expected(logits, decoding)
    roomier = expected(logits, replace(decoding, top_p=min(1.0, decoding.top_p + 1e-6)))
    assert (roomier[got > 0] > 0).all()
    assert (got[want > 2 / POINTS] > 0).all()


def test_greedy_takes_the_first_of_the_greatest() -> None:
    logits = np.array([[0.0, 3.0, 3.0, 1.0], [-1.0, -2.0, -5.0, -1.0], [0.0, 0.0, 0.0, 1e-6]], np.float32)
    np.testing.assert_array_equal(
        drawing.draw(logits, np.full(3, 0.9, np.float32), Decoding(temperature=0)), logits.argmax(axis=1)
    )


def warped(logits: np.ndarray, decoding: Decoding, ids: Sequence[int] = ()) -> np.ndarray:
    """The scores that transformers' `generate` draws from, in its order of processors; -inf is left out."""
    torch = pytest.importorskip("torch")
    warpers = pytest.importorskip("transformers.generation.logits_process")
    steps = [warpers.RepetitionPenaltyLogitsProcessor(float(decoding.repetition_penalty))] if len(ids) else []
    steps += [warpers.TemperatureLogitsWarper(float(decoding.temperature))]
    steps += [warpers.TopKLogitsWarper(decoding.top_k)] if decoding.top_k else []
    steps += [warpers.TopPLogitsWarper(decoding.top_p)] if decoding.top_p < 1 else []
    steps += [warpers.MinPLogitsWarper(decoding.min_p)] if decoding.min_p else []
    scores, seen = torch.tensor(logits, dtype=torch.float32)[None], torch.tensor([list(ids)], dtype=torch.int64)
    for step in steps:
        scores = step(seen, scores)
    return scores[0].numpy()


@pytest.mark.parametrize("size", [40, 700])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(top_k=7),
        Decoding(top_p=0.55),
        Decoding(min_p=0.4),
        Decoding(temperature=1.3, top_k=20, top_p=0.8),
        Decoding(temperature=0.8, top_k=30, top_p=0.9, min_p=0.3),
        Decoding(top_p=0.03, min_p=0.1),
    ],
    ids=str,
)
def test_what_is_kept_is_what_transformers_keeps(decoding: Decoding, size: int) -> None:
    logits = np.random.default_rng(size).normal(0, 0.5, size)
    scores = warped(logits, decoding)
    got, want = shares(logits, decoding), np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
    assert ((got > 0) == np.isfinite(scores)).all()
    np.testing.assert_allclose(got, want, atol=2 / POINTS)


@pytest.mark.parametrize("size", [40, 700])
def test_of_equal_logits_at_the_edge_the_first_are_kept(size: int) -> None:
    logits = np.round(np.random.default_rng(size).normal(0, 0.5, size) * 4) / 4
    kept = np.flatnonzero(shares(logits, Decoding(top_k=9)))
    assert sorted(kept) == sorted(np.argsort(-logits, kind="stable")[:9])
    all_ties = np.flatnonzero(np.isfinite(warped(logits, Decoding(top_k=9))))  # transformers keeps more than 9
    assert set(kept) < set(all_ties)
    assert set(logits[list(set(all_ties) - set(kept))]) == {logits[kept].min()}
    kept = np.flatnonzero(shares(logits, Decoding(top_p=0.35)))
    assert sorted(kept) == sorted(np.argsort(-logits, kind="stable")[: len(kept)])
    some_ties = np.isfinite(warped(logits, Decoding(top_p=0.35)))  # as many as here, but others of the edge
    assert sorted(logits[kept]) == sorted(logits[some_ties])


@pytest.mark.parametrize(
    "decoding", [Decoding(repetition_penalty=1.7), Decoding(repetition_penalty=0.6, temperature=0.9, top_k=9)]
)
def test_what_was_said_already_is_penalised_as_in_transformers(decoding: Decoding) -> None:
    logits = np.random.default_rng(0).normal(0, 1, 40)
    ids = [3, 3, 7, *np.argsort(-logits)[:4], np.argmin(logits)]
    seen = np.zeros((POINTS, 40), bool)
    seen[:, ids] = True
    scores = warped(logits, decoding, ids)
    got, want = shares(logits, decoding, seen), np.exp(scores) / np.exp(scores).sum()
    assert ((got > 0) == np.isfinite(scores)).sum() >= 39  # one may be less probable than a point of the grid
    np.testing.assert_allclose(got, want, atol=2 / POINTS)
    assert not np.allclose(got, shares(logits, replace(decoding, repetition_penalty=1.0)), atol=0.02)
    greedy = replace(decoding, temperature=0.0)
    token = drawing.draw(logits[None].astype(np.float32), np.zeros(1, np.float32), greedy, seen[:1])
    assert int(token[0]) == int(warped(logits, replace(greedy, temperature=1.0, top_k=0), ids).argmax())


def test_a_penalty_without_what_was_said_is_refused() -> None:
    with pytest.raises(ValueError, match="seen"):
        drawing.draw(np.zeros((1, 4), np.float32), np.zeros(1, np.float32), Decoding(repetition_penalty=1.2))


@pytest.mark.parametrize(("size", "count"), [(40, 3), (6000, 5), (5003, 8)])
def test_the_greatest_logits_are_ranked_by_id_where_they_are_equal(size: int, count: int) -> None:
    logits = np.round(np.random.default_rng(size).normal(0, 1, (6, size)), 1).astype(np.float32)
    logits[0, 130:] = -np.inf
    logits[1] = 0.5
    values, ids = search.top(logits, count)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(ids, order)
    np.testing.assert_array_equal(values, np.take_along_axis(logits, order, axis=1))


@pytest.mark.parametrize(
    "decoding", [Decoding(top_p=0.9), Decoding(top_p=0.9, min_p=0.01), Decoding(top_k=5), Decoding()], ids=str
)
def test_a_row_gets_the_same_token_whatever_stands_beside_it(decoding: Decoding) -> None:
    rng = np.random.default_rng(0)
    logits = (rng.normal(0, 1, (12, 1301)) * np.repeat([[6.0], [0.1]], 6, axis=0)).astype(np.float32)  # a few tokens, or many
    uniform = rng.random(12, np.float32)
    one = jax.jit(drawing.draw, static_argnums=2)
    apart = np.concatenate([one(logits[:6], uniform[:6], decoding), one(logits[6:], uniform[6:], decoding)])
    mixed = np.arange(12).reshape(2, 6).T.ravel()
    together = np.concatenate([one(logits[mixed[half]], uniform[mixed[half]], decoding) for half in (slice(6), slice(6, 12))])
    np.testing.assert_array_equal(together, apart[mixed])


@pytest.mark.parametrize("size", [40, 1301])
@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(temperature=0.0),
        Decoding(),
        Decoding(temperature=0.5, top_k=4),
        Decoding(top_p=0.9),
        Decoding(repetition_penalty=2.0, min_p=0.1),
    ],
    ids=str,
)
def test_the_log_probability_is_the_model_s_own(decoding: Decoding, size: int) -> None:
    rng = np.random.default_rng(1)
    logits, uniform = rng.normal(3, 2, (8, size)).astype(np.float32), rng.random(8, np.float32)
    seen = rng.random((8, size)) < 0.5
    tokens, logprobs = drawing.draw_with_logprob(logits, uniform, decoding, seen)
    np.testing.assert_array_equal(tokens, drawing.draw(logits, uniform, decoding, seen))
    exact = logits.astype(np.float64) - np.log(np.exp(logits.astype(np.float64)).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(logprobs, np.take_along_axis(exact, np.asarray(tokens)[:, None], axis=1)[:, 0], atol=1e-5)
